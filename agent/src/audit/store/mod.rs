//! The store of the audit trail: from a worker's record to stable storage.
//!
//! ```text
//!   worker ─ put ─► tray ─┐                          ┌─► Put { ticket, leaf }
//!   worker ─ put ─► tray ─┼─► committer ─► segment   │
//!   worker ─ put ─► tray ─┘   │  one write, one      ▼
//!                             │  fdatasync a batch   poll_durable(ticket) ─► Recorded
//!                             ▼
//!                    Chain (seals, leaves)    keeper: next.log, reserve, packs ─► Watch
//! ```
//!
//! * A record is framed and hashed by the worker that puts it, into a buffer of its own that the
//!   committer swaps for an empty one. Recording costs neither a system call nor an allocation.
//! * Tickets are settled in order. A [`Recorded`] from [`Sink::poll_durable`] exists only once
//!   `fdatasync` returned without an error for the batch that holds the record.
//! * Start: [`Directory::open`] takes the lock, [`Directory::open_epoch`] says how the last run
//!   ended, the caller decides whether the epoch goes on, and [`Store::start`] writes.
//!
//! # What holds, whatever the disk does
//!
//! 1. A durable record is read back by every later start, or the start says that the log is damaged.
//! 2. What is read back was put, in the order of its sink, without a gap.
//! 3. A file that failed to be written or synced is never written or synced again.
//! 4. A file of an earlier run is never written.
//! 5. Bytes that do not count are never removed without a copy in `recovered-…`.

mod committer;
mod disk;
mod folder;
mod frame;
mod keeper;
mod names;
mod open;
mod pack;
mod recover;
mod scan;
mod segment;
mod shared;
mod sink;
mod tray;
mod watch;

pub use committer::Summary;
pub use folder::{Directory, FolderError};
pub use frame::{ENTRY_BYTES_MAX, ORIGIN_BYTES_MAX, SEGMENT_ENTRIES, VALUES_BYTES_MAX};
pub use open::{OpenError, Opened, Store};
pub use recover::{Corrupt, TornTail};
pub use scan::Damage;
pub use shared::{Health, Level, Settings, StoreStatus};
pub use sink::{
    CLOSING_BYTES_MAX, Class, NotRecorded, Put, Recorded, SATURATED_BYTES, SINK_BYTES_MAX, Sink,
    Ticket,
};
pub use watch::{Chain, Finished, Moment, Notice, Unsealed, Watch};

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod store_tests;
