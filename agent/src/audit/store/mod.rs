//! The store of the audit trail: from a worker's record to stable storage.

mod disk;
mod folder;
mod frame;
mod names;
mod range;
mod shared;
mod sink;
mod tray;
mod watch;

pub use folder::{Directory, FolderError};
pub use frame::{ENTRY_BYTES_MAX, ORIGIN_BYTES_MAX, SEGMENT_ENTRIES, VALUES_BYTES_MAX};
pub use range::{Hash, Range};
pub use shared::{Health, Level, Settings, StoreStatus};
pub use sink::{
    CLOSING_BYTES_MAX, Class, NotRecorded, Put, Recorded, SATURATED_BYTES, SINK_BYTES_MAX, Sink,
    Ticket,
};
pub use watch::{Chain, Finished, Moment, Notice, Unsealed, Watch};
