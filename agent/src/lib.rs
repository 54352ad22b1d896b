//! pgward: transparent PostgreSQL interception, attribution and audit for client hosts.

pub mod app;
pub mod attrib;
pub mod audit;
pub mod bpf;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod control;
pub mod grants;
pub mod net;
pub mod pg;
pub mod policy;
pub mod secrets;
pub mod sql;
pub mod tls;
