//! What can be told of a statement from its text.
//!
//! * [`facts`]: what it would do.
//! * [`lex`]: tokens, as PostgreSQL's scanner cuts them.
//! * [`normalise`]: the text without its literals, and which of them are secrets.
//! * [`secrets`]: how a secret is known.
//!
//! No IO, no clock, no randomness. Texts are bytes in the client's encoding; nothing here takes
//! them for UTF-8.

pub mod facts;
pub mod lex;
pub mod normalise;
pub mod secrets;

#[cfg(test)]
mod lex_tests;
#[cfg(test)]
mod normalise_tests;
#[cfg(test)]
mod server_tests;
