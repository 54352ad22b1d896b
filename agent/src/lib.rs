//! pgward.

/// The record of what was asked, and the query log.
pub mod audit;
/// The configuration file.
pub mod config;
/// The control socket.
pub mod control;
