//! The audit trail: what was asked, by whom, and what became of it; durable before it happens, and
//! provable to somebody who trusts nobody on this host.
//!
//! A [`Record`] says what happened, a [`Stamp`] when and in which session. Together they are one
//! entry of the log: canonical CBOR ([`cbor`]), by the one table of fields ([`schema`]).
//!
//! The format, byte by byte, and what it proves against whom, is in `docs/audit.md`.

pub mod anchors;
pub mod cbor;
pub mod chain;
pub mod clock;
mod excerpt;
pub mod export;
mod happening;
pub mod index;
pub mod keep;
pub mod keys;
pub mod last_seal;
pub mod ledger;
mod maintenance;
mod orders;
pub mod publish;
mod record;
mod recording;
mod salt;
pub mod schema;
pub mod search;
mod session;
mod statement;
pub mod store;
pub mod tile_files;
mod time;
mod trail;
pub mod values;
pub mod view;
mod words;

pub use cbor::{ENCODED_BYTES_MAX, EncodeError, Encoded};
pub use excerpt::{Cut, Excerpt};
pub use happening::*;
pub use maintenance::*;
pub use orders::*;
pub use record::*;
pub use salt::{SALT_BYTES, salt};
pub use session::*;
pub use statement::*;
pub use store::{Class, NotRecorded, Put, Recorded, Sink, Ticket};
pub use time::{BootNanos, Now, RFC3339_LEN, WallNanos, clock_state, set_clock_state};
pub use trail::{Proofs, Reach, SealSoon, Trail, TrailError, TrailStatus};

#[cfg(test)]
mod record_tests;
#[cfg(test)]
pub(crate) mod samples;
