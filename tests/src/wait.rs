//! Waiting for a condition, with a deadline instead of a guess.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a test waits for something that normally takes milliseconds. Generous, because machines are shared; a test
/// that passes never waits that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(5);

/// Looks at a condition until it gives a value.
///
/// Errors: what `probe` returns as an error, at once; after `patience`, an error that names `what`.
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("gave up after {} s waiting for {what}", patience.as_secs_f32());
        }
        std::thread::sleep(INTERVAL);
    }
}

/// [`until`] for conditions without a value.
pub fn until_true(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, patience, || Ok(probe()?.then_some(())))
}
