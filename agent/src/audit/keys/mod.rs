//! Who the log is from, and the keys that say so.
//!
//! ```text
//! identity.toml       fleet, host, machine, epoch                       identity
//! keys/host.key       seed of the host key L, mode 0600                 host
//! keys/host.vkey      its public key, for verifiers                     host
//! memory only         one key pair for each seal                        seal
//! a pipe              the next seal's key, from one run to the next     handover
//! ```
//!
//! * [`decide`] says at a start whether a log may be continued.
//! * [`harden`] keeps what is in memory out of swap and core dumps.
//!
//! At a start, in this order: [`harden`]; the key of the run before ([`take`]); the lock on the
//! folder; [`Identity::load_or_create`] and [`HostKey::load_or_create`]; what recovery finds, and the
//! checkpoints that are known; [`decide`]. Where an epoch begins, [`Identity::begin`] comes before its
//! first entry and [`Identity::begun`] once that is durable: a crash in between is told from a folder
//! that somebody removed.
//!
//! Private keys show in no `Debug`, and are cleared when dropped.

mod epoch;
mod folder;
mod handover;
mod harden;
mod host;
mod identity;
mod seal;

pub use epoch::{Begin, Decision, EpochReason, Known, LogState, Newest, decide};
pub use folder::{Folder, FolderError};
pub use handover::{HANDOVER_NAME, HandoverError, offer, take};
pub use harden::{Hardening, harden};
pub use host::{HostKey, HostKeyError};
pub use identity::{Begins, Identity, IdentityError, Machine, new_identity};
pub use seal::{SealKey, SealKeyError, SealKeyMaker};

#[cfg(test)]
pub(super) use folder::tests::folder as test_folder;
