//! Destinations as the configuration has them, with what was loaded for each.

use std::{net::SocketAddr, sync::Arc};

use super::error::chain;
use crate::{
    config::{self, Config, ServerTls},
    secrets::Secrets,
    tls::{self, ClientLeg, TlsError},
};
