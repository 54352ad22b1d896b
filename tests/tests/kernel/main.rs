//! The real programs on a real kernel: redirection, transparency, attribution, namespaces, containers, failure.
//!
//! Each test has a cgroup, pins, ports and an agent of its own.

mod attribution;
mod containers;
mod failure;
mod loss;
mod namespaces;
mod redirect;
mod transparency;

/// Leaves a test that cannot run, with its name: fails, or says `NOT RUN` where that is allowed.
macro_rules! gate {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        let name = name.strip_suffix("::here").unwrap_or(name);
        if !pgward_tests::gate::kernel(name) {
            return Ok(());
        }
    }};
    (with $program:literal) => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        let name = name.strip_suffix("::here").unwrap_or(name);
        if !pgward_tests::gate::kernel_with(name, $program) {
            return Ok(());
        }
    }};
}
use gate;

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;
