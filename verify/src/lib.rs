//! Reads and checks an audit trail of pgward, sharing no code with what writes it.

mod bytes;
pub mod cbor;
pub mod findings;
pub mod frame;
pub mod merkle;
pub mod note;
pub mod pack;
pub mod segment;
pub mod store;
pub mod values;

pub use cbor::{Entry, Malformed};
pub use store::{Entries, Epoch, Place, ReadError, Record, Trail};
