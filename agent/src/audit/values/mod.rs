//! Values of statements: what a record shows of them, what is held sealed beside it, and how that
//! is made unreadable without touching the record.
//!
//! A record never has to be changed or removed to forget what a statement was about. It holds the
//! statement without its literals, and of each value a commitment at most. The values themselves
//! are in a payload beside it, encrypted with a key of the session, or of the session and a person.
//! Whoever destroys that key destroys the values in every copy of the payload; every hash over the
//! record stays as it was.
//!
//! * [`SessionValues`]: from a statement to what is stored of it.
//! * [`Keyring`]: the keys on disk; group commit, shredding.
//! * [`disclose`]: the way back, checked against the record.
//!
//! # What is never stored, not even encrypted
//!
//! * Of a text that has one of the names of [`crate::sql::secrets`] (`PASSWORD`, …): its strings
//!   and comments, and every parameter bound to it. Numbers stay.
//! * A literal, comment or parameter that holds a secret by its looks: a connection string or
//!   address with a password, a SCRAM or MD5 verifier.
//! * A text that has the word `password` and cannot be read to its end: all of it.
//! * Parameters that a rule names with `values = "never"`, and then also all literals of texts.
//!
//! # Shredding, and what it cannot do
//!
//! Keys are overwritten in place. A file system or drive that writes elsewhere (copy on write,
//! wear levelling) may keep the old bytes for a while, as may a backup of `keys/values`: leave that
//! folder out of backups, or shred there too. A session that is still running keeps its key in
//! memory; what it seals after being shredded is unreadable from the start.

mod cbor;
mod commit;
mod disclose;
mod input;
mod key;
mod keyring;
mod payload;
mod policy;
mod random;
mod session;
mod shown;
mod text;

pub use disclose::{Claim, DiscloseError, Disclosed, KeyOf, Value, disclose};
pub use input::{Parameter, ParameterSource};
pub use keyring::{Day, Erased, Keyring, KeyringError, Keys, KeysError, NoDay, Scope, Stored};
pub use policy::Party;
pub use random::{NoRandom, random};
pub use session::{Include, SUBJECT_BYTES_MAX, SealError, SessionValues};
pub use shown::*;
pub use text::{TEXT_INLINE_MAX, Text, TextForm};

#[cfg(test)]
mod tests;
