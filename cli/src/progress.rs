//! How far a long job is: a bar where standard error is a terminal, a line now and then where it is not.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{say, thousands};

/// Before the first line where there is no terminal; each pause is twice the one before, up to [`EVERY`].
const FIRST: Duration = Duration::from_millis(50);
/// Between two lines at most.
const EVERY: Duration = Duration::from_secs(1);

/// The state of one job of known length.
pub(crate) struct Progress {
    what: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    said: Instant,
    pause: Duration,
}

impl Progress {
    /// A job of `total` steps, named `what`.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total);
            let style =
                ProgressStyle::with_template("{prefix:>10} {wide_bar} {human_pos}/{human_len} {msg} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(what);
            bar
        });
        Self { what, total, bar, said: Instant::now(), pause: FIRST }
    }

    /// `done` steps are done; `detail` says more where it is shown.
    pub(crate) fn at(&mut self, done: u64, detail: impl FnOnce() -> String) {
        match &self.bar {
            // Drawing is limited by the bar itself, making the text is not.
            Some(bar) => {
                bar.set_position(done);
                if self.said.elapsed() > Duration::from_millis(100) {
                    bar.set_message(detail());
                    self.said = Instant::now();
                }
            }
            None if self.said.elapsed() > self.pause => {
                self.pause = EVERY.min(self.pause * 2);
                let (what, total) = (self.what, thousands(self.total));
                say(&format!("{what}: {} of {total} {}", thousands(done), detail()));
                self.said = Instant::now();
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
