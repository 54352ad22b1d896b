//! pgward.

/// The record of what was asked, and the query log.
pub mod audit;
/// The command line: arguments, and the subcommands that need no kernel side.
pub mod cli;
/// The configuration file.
pub mod config;
/// The control socket.
pub mod control;
