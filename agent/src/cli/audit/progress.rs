//! Progress of long work, on standard error when that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line that grows. It goes when this is dropped, so that what is printed behind it stands alone.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// `what` is counted, up to `total` where that is known.
    pub(super) fn new(what: &'static str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{bar:30} {human_pos}/{human_len} {msg}, {eta} left",
            None => "{spinner} {human_pos} {msg}, {elapsed}",
        };
        // The templates are ours; a bar looks otherwise rather than not at all.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self(bar)
    }

    /// So many more are done.
    pub(super) fn add(&self, count: u64) {
        self.0.inc(count);
    }

    /// So many are done by now.
    pub(super) fn reach(&self, count: u64) {
        self.0.set_position(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
