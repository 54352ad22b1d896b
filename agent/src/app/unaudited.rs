//! What a build with the feature `unaudited` asks before it starts. Other builds have none of this.

use tracing::error;

/// Environment variable that must be [`MEASURE`] for such a build to start.
const VARIABLE: &str = "PGWARD_UNAUDITED";
/// See [`VARIABLE`].
const MEASURE: &str = "measure";

/// Nobody said that statements need not be recorded.
#[derive(Debug, thiserror::Error)]
#[error(
    "this build records no statement: it was made with the feature `unaudited`, for measuring only\n\
     hint: use a build without it, or set {VARIABLE}={MEASURE} where nothing is to be protected"
)]
pub struct Unasked;

/// Refuses to start unless it was asked for, and says loudly what does not happen.
pub(super) fn check() -> Result<(), Unasked> {
    allowed(std::env::var_os(VARIABLE).as_deref())?;
    error!("NO STATEMENT IS RECORDED: this build is for measuring only");
    Ok(())
}

fn allowed(value: Option<&std::ffi::OsStr>) -> Result<(), Unasked> {
    if value.is_some_and(|value| value == MEASURE) { Ok(()) } else { Err(Unasked) }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn starts_only_for_who_says_that_it_is_for_measuring() {
        allowed(Some(OsStr::new("measure"))).expect("asked for");
        for value in [None, Some(""), Some("1"), Some("MEASURE"), Some("measure ")] {
            allowed(value.map(OsStr::new)).expect_err("not asked for");
        }
    }
}
