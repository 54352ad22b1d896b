//! Sockets: accepting, dialling, copying. Drives `pg::session` and holds no protocol rule.

pub mod accept;
pub mod cancels;
pub mod credentials;
pub mod destinations;
pub mod dial;
pub mod error;
pub mod identify;
pub mod leg;
mod lookup;
pub mod namespaces;
pub mod newcomers;
pub mod orders;
pub mod police;
mod pump;
pub mod reach;
pub mod recorder;
pub mod refusals;
pub mod registry;
pub mod relay;
pub mod route;
pub mod session;
pub mod talk;
pub mod throttle;
mod turns;
pub mod worker;
pub mod writers;

#[cfg(test)]
mod relay_tests;
