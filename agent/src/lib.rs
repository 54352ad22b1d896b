//! pgward: transparent PostgreSQL interception, attribution and audit for client hosts.

pub mod app;
/// Kernel events and process facts to identities, with what is missing and why.
pub mod attrib;
/// Records of what happened, and the log that keeps them.
pub mod audit;
pub mod bpf;
/// The configuration file.
pub mod config;
pub mod net;
pub mod pg;
