//! Progress of a long command: a bar on a terminal, a line every few seconds otherwise.

use std::io::IsTerminal as _;
use std::time::Duration;

use crate::report;

/// Between two lines of a log.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Between two pictures of the bar.
const BAR_EVERY: Duration = Duration::from_millis(100);
const BAR_WIDTH: usize = 40;

/// How far a command has come.
pub(crate) struct Progress {
    what: &'static str,
    total: usize,
    done: usize,
    shown_at: Duration,
    is_terminal: bool,
}

impl Progress {
    /// Nothing of `total` things is done.
    pub(crate) fn of(what: &'static str, total: usize) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { what, total, done: 0, shown_at: Duration::ZERO, is_terminal }
    }

    /// Counts things that are done, and shows it when it is time.
    pub(crate) fn advance(&mut self, count: usize, now: Duration) {
        self.done += count;
        let every = if self.is_terminal { BAR_EVERY } else { LINE_EVERY };
        if now.saturating_sub(self.shown_at) >= every {
            self.shown_at = now;
            if self.is_terminal {
                report::say_over(&self.bar());
            } else {
                report::say(&self.text());
            }
        }
    }

    /// Leaves the line of the bar.
    pub(crate) fn end(&self) {
        if self.is_terminal && self.shown_at > Duration::ZERO {
            report::say_over(&self.bar());
            report::say("");
        }
    }

    fn text(&self) -> String {
        format!("{} of {} {}", self.done, self.total, self.what)
    }

    fn bar(&self) -> String {
        let filled = (self.done * BAR_WIDTH).checked_div(self.total).unwrap_or(0).min(BAR_WIDTH);
        format!("[{}{}] {}", "=".repeat(filled), " ".repeat(BAR_WIDTH - filled), self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_full_as_the_work_is_done() {
        for (done, total, filled) in
            [(0, 10, 0), (5, 10, 20), (10, 10, 40), (11, 10, 40), (0, 0, 0)]
        {
            let (what, shown_at, is_terminal) = ("files", Duration::ZERO, false);
            let bar = Progress { what, total, done, shown_at, is_terminal }.bar();
            assert_eq!(bar.matches('=').count(), filled, "{bar}");
        }
    }
}
