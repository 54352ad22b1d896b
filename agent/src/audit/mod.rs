//! The record of what was asked, and the query log that holds it.

mod disk;
mod excerpt;
mod json;
mod record;
mod sink;
mod statement;
mod time;
mod writer;

pub use disk::{OpenError, TORN_TAIL_BYTES_MAX};
pub use excerpt::{Cut, Excerpt};
pub use json::{JSON_BYTES_MAX, Json, JsonError};
pub use record::*;
pub use sink::{NotRecorded, Recorded, SATURATED_BYTES, SINK_BYTES_MAX, Sink};
pub use statement::*;
pub use time::{BootNanos, Now, RFC3339_LEN, WallNanos};
pub use writer::{Health, Log, LogStatus, Summary};
