//! Asking the collector for this machine's descriptor: when, and what an answer means.

use std::time::Duration;

use super::session::Reply;

/// Time between two questions, give or take a quarter, so that a fleet does not ask as one.
const EVERY: Duration = Duration::from_mins(1);

/// A collector that knows no descriptors is asked again after this time.
const UNKNOWN_EVERY: Duration = Duration::from_mins(10);

/// When to ask next, and what is known.
#[derive(Debug, Default)]
pub(super) struct Poll {
    due: Duration,
    tag: Option<String>,
    /// When the question that waits for its answer was asked.
    pub(super) sent: Duration,
}

/// The answer to a question for the descriptor.
#[derive(Debug)]
pub(super) struct Polled {
    pub(super) reply: Reply,
    pub(super) tag: Option<String>,
    /// The collector's clock, milliseconds since 1970.
    pub(super) server_ms: Option<i64>,
}

impl Poll {
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.due <= now
    }

    /// What the collector said last, to be told only of news.
    pub(super) fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The collector answered.
    pub(super) fn answered(&mut self, polled: &Polled, now: Duration, random: u64) {
        let is_known = matches!(polled.reply.status, 200 | 304);
        if polled.reply.status == 200 {
            self.tag.clone_from(&polled.tag);
        }
        let every = if is_known { EVERY } else { UNKNOWN_EVERY };
        let part = u32::try_from(random >> 32).expect("half of the bits");
        let jitter = every.mul_f64(f64::from(part) / f64::from(u32::MAX) / 2.0);
        self.due = now + every * 3 / 4 + jitter;
    }
}
