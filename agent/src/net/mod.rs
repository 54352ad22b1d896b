//! Sockets: accepting, dialling, copying. Drives `pg::session` and holds no protocol rule.

mod accept;
pub mod dial;
pub mod identify;
pub mod namespaces;
mod recorder;
pub mod registry;
mod relay;
mod session;
pub mod worker;
pub mod writers;

pub use accept::Acceptors;
pub use recorder::Recording;
pub(crate) use session::chain;
