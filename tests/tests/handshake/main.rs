//! The handshake against real servers: every way a client can ask for encryption and prove who it is, directly and through
//! the agent; drivers; clients and servers that break the rules; and the search for secrets in what the agent leaves.

mod agents;
mod drivers;
mod hostile;
mod matrix;
mod scenes;
mod servers;
mod sweep;
mod upstream;

/// Leaves a test that cannot run, with its name: fails, or says `NOT RUN` where that is allowed.
macro_rules! gate {
    () => {{
        if !pgward_tests::gate::kernel($crate::here!()) {
            return Ok(());
        }
    }};
}
pub(crate) use gate;

/// Name of the test it stands in.
macro_rules! here {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        name.strip_suffix("::here").unwrap_or(name)
    }};
}
pub(crate) use here;

/// What a test returns.
type Result<T = ()> = anyhow::Result<T>;
