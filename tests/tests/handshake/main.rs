//! The handshake against real servers: every way a client can ask for encryption and prove who it is, directly and through
//! the agent; drivers; clients and servers that break the rules; and the search for secrets in what the agent leaves.

mod agents;
mod drivers;
mod hostile;
mod matrix;
mod scenes;
mod servers;
mod sweep;
mod upstream;

pub(crate) use pgward_tests::{here, needs_kernel as gate};

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;
