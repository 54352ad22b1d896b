//! Sockets: accepting, dialling, copying. Drives `pg::session` and holds no protocol rule.

pub mod accept;
pub mod dial;
pub mod error;
pub mod identify;
pub mod leg;
pub mod namespaces;
pub mod recorder;
pub mod refusals;
pub mod registry;
pub mod relay;
pub mod session;
mod turns;
pub mod worker;
pub mod writers;

#[cfg(test)]
mod relay_tests;
