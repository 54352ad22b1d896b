//! Who may do what: a pure function of subject, request and rules, which names the rule.
//!
//! ```text
//!   statement ──► sql::facts ──► catalog::resolve ──► Request ────────┐
//!   process, container, login ──► Subject ──► Policy::class ──► Class ─┴─► Policy::judge ──► Verdict ──► Permit
//! ```
//!
//! * Deny beats allow. The order of rules does not matter, and none is "more specific" than another.
//! * A need that no rule grants is denied on what a `[[protect]]` names, and allowed elsewhere.
//! * An empty list is an error, wherever it stands. A rule without a list of objects is about all of them; a role without
//!   grants grants nothing; a subject without roles has no grant and no denial; a policy without `[[protect]]` denies only
//!   what a rule denies; an empty policy allows everything.
//!
//! [`Policy`] is read from TOML by `read`, with all errors at once, and arranged by `compiled`. `docs/policy.md` has every
//! key. No socket, file, clock or thread: the time is an argument.

mod cases;
mod class;
mod compiled;
mod explain;
mod glob;
mod index;
mod judge;
mod model;
mod need;
mod read;
mod subject;
pub mod told;
mod verdict;
mod who;
mod window;
pub mod words;

#[cfg(test)]
mod tests;

pub use cases::{Failure, Ran, Requests};
pub use class::{Class, Limits};
pub use explain::{Explanation, NeedExplained};
pub use glob::{Glob, NameError, NamePattern};
pub use model::{
    Advice, Assign, Case, Counted, Expect, Hours, Identity, Limit, LimitAction, Mode, Objects,
    Policy, Protect, Role, Rule, UnknownText,
};
pub use need::{Columns, Need, Object, Reached, Request};
pub use read::{ITEMS_MAX, POLICY_BYTES_MAX};
pub use subject::{Container, Subject};
pub use verdict::{Denial, Outcome, Permit, Reason, SQLSTATE, Verdict, unknown_text};
pub use who::{NamedPatterns, Numbers, Patterns, Who};
pub use window::{DAY_MINUTES, DAYS, WallTime, Window};
