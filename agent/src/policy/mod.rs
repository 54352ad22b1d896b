//! Who may do what: a pure function of subject, request and rules, which names the rule.
//!
//! ```text
//!   statement ──► sql::facts ──► catalog::resolve ──► [Need] ─┐
//!   process, container, login ──────────────────────► Subject ─┴─► evaluate(Policy) ──► Verdict
//! ```
//!
//! * Deny beats allow. The order of rules does not matter, and none is "more specific" than another.
//! * A need that no rule grants is denied on what a `[[protect]]` names, and allowed elsewhere.
//!
//! No socket, file, clock or thread: the time is an argument.

mod need;
mod subject;

pub use need::{Columns, Need, Object, Reached, Request};
pub use subject::{Container, Subject};
