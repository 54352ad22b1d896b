//! The real programs on a real kernel: redirection, transparency, attribution, namespaces, containers, failure.
//!
//! Each test has a cgroup, pins, ports and an agent of its own.

mod attribution;
mod containers;
mod failure;
mod ledger;
mod loss;
mod namespaces;
mod redirect;
mod transparency;

use pgward_tests::needs_kernel as gate;

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;
