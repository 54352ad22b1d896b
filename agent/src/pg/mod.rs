//! The PostgreSQL wire protocol, without IO.
//!
//! Bytes and decisions in, bytes and events out. Nothing here touches a socket, file, clock,
//! thread or random number, and nothing knows of policy: time is an argument, a statement that
//! needs a decision waits as a state of its session.
//!
//! | Module | What it knows |
//! | --- | --- |
//! | [`codec`] | frames, limits, bounded reading and writing |
//! | [`list`] | repeated fields, kept as the bytes they came in |
//! | [`startup`] | the first bytes of a connection |
//! | [`frontend`], [`backend`] | every message of protocol 3.0 and 3.2, both directions |
//! | [`scram`] | who somebody is: SCRAM-SHA-256, with and without channel binding, both sides |
//! | [`error`] | what peers do wrong, and what the client hears of it |
//! | [`session`] | one session: which bytes may pass, and what they did |
//! | [`pitfalls`] | how proxies of this kind failed, and what excludes it here |

pub mod backend;
pub mod codec;
pub mod error;
pub mod frontend;
pub mod handshake;
pub mod list;
pub mod pitfalls;
pub mod scram;
pub mod session;
pub mod startup;

pub use codec::Limits;
pub use error::Error;
pub use session::Session;
