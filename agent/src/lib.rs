//! pgward: transparent PostgreSQL interception, attribution and audit for client hosts.

/// Records of what happened, and the log that keeps them.
pub mod audit;
pub mod bpf;
/// The configuration file.
pub mod config;
