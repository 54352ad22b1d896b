//! pgward.

/// The PostgreSQL wire protocol, without IO.
pub mod pg;
