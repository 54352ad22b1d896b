//! What the fuzz targets share: a driver for sessions, and invariants that hold for any bytes.

mod driver;
mod handshake;
mod memory;
mod script;
mod trail;

pub use driver::{Driver, SECRET, frames, limits};
pub use handshake::{authenticated, handshake, terms};
pub use memory::Measure;
pub use script::{Bytes, Op, ops, requests};
pub use trail::{Folder, HOST_KEY, Mended, WITNESS_KEY, options, pieces};
