//! pgward.

pub mod audit;
pub mod cli;
pub mod config;
pub mod control;
