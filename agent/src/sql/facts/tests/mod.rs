//! Facts of statements against what is written beside them, and what must hold for any text.

mod limits;
mod properties;
mod table;

use super::{Encoding, Facts, Limits, Unknown};

/// Analyses on a stack that is large enough.
fn analyse(text: &[u8]) -> Result<Facts, Unknown> {
    on_large_stack(|| super::analyse(text, Encoding::Utf8, &Limits::default()))
}

// Said again for who looks for threads in code that has none: all of this module is for tests.
#[cfg(test)]
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(super::STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work).expect("a thread");
        thread.join().expect("no panic")
    })
}
