//! pgward: transparent PostgreSQL interception, attribution and audit for client hosts.

pub mod app;
pub mod attrib;
/// Records of what happened, and the log that keeps them.
pub mod audit;
pub mod bpf;
/// The configuration file.
pub mod config;
pub mod net;
pub mod pg;
