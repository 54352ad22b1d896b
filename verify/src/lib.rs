//! Reads and checks an audit trail of pgward, sharing no code with what writes it.
//!
//! Two halves. *Reading* ([`Trail`], [`Entries`], [`Entry`]) is lenient and quick, and follows a
//! log while it is written. *Checking* ([`verify_dir`], [`bundle`]) trusts nothing but public
//! keys: it recomputes the tree from the entries and compares it with all that claims to know its
//! root, from the unsigned trailers to cosignatures of witnesses.
//!
//! What is not here, and must stay so: code of the writer, private keys, a network.

mod anchors;
pub mod bundle;
mod bytes;
pub mod cbor;
mod check;
pub mod command;
mod copy;
mod epoch;
mod files;
pub mod findings;
pub mod frame;
mod keyring;
mod ledger;
pub mod merkle;
pub mod note;
pub mod pack;
mod seals;
pub mod segment;
mod sessions;
pub mod store;
mod tiles;
mod tree;
pub mod values;
mod walk;

pub use cbor::{Entry, Malformed};
pub use check::{CheckError, Options, Progress, Report, verify_dir, verify_dir_with};
pub use epoch::EpochSummary;
pub use findings::{Class, Finding, Severity, Verdict};
pub use note::VerifierKey;
pub use store::{Entries, Epoch, Place, ReadError, Record, Trail};
