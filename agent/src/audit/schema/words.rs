//! Words that entries hold as numbers. A word keeps its number for ever: new ones go to the end.

/// Modes of `audit_mode`.
pub const MODES: &[&str] = &["strict", "group", "overlap", "async", "default"];
/// Kinds of seals.
pub const SEALS: &[&str] = &["regular", "first", "restart", "final", "handover"];
/// What the values of an entry are encrypted with.
pub const KEY_KINDS: &[&str] = &["clear", "session", "subject"];
/// Why a value is not stored.
pub const NEVER: &[&str] = &["rule", "secret"];
