//! The anchors of the audit trail against a real PostgreSQL server and a witness that keeps to its specification, or does not.

mod database;
mod log;
mod witness;

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;
