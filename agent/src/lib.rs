//! pgward.

/// The configuration file.
pub mod config;
