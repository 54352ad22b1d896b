//! pgward.

pub mod pg;
