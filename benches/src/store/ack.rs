//! How long a frame waits to be acknowledged, alone and beside a round.

use std::time::Duration;

use anyhow::{Result, ensure};
use journal::Journal;

use crate::meter::Wall;

/// So many make a 99th percentile that a single late one does not decide.
const LEAST: usize = 300;

/// What was measured, in order of length.
pub(crate) struct Acknowledged(Vec<Duration>);

impl Acknowledged {
    /// Frames one after the other, at least [`LEAST`] and until `ended`: as a sender waits for one push
    /// before the next.
    pub(crate) fn measure(journal: &Journal, ended: impl Fn() -> bool) -> Result<Self> {
        let mut all = Vec::new();
        while all.len() < LEAST || !ended() {
            let wall = Wall::start();
            let seq = journal.append_reserved(journal::TICK, &[])?;
            journal.wait_durable(seq)?;
            all.push(wall.elapsed());
            // The worker's part: nothing is to be applied.
            if let Some(last) = journal.next(Duration::ZERO).last() {
                journal.mark_applied(last.seq);
            }
            ensure!(all.len() < 1_000_000, "the round does not end");
        }
        all.sort_unstable();
        Ok(Self(all))
    }

    /// Of a hundred, the second longest.
    pub(crate) fn p99(&self) -> Duration {
        self.0[self.0.len() * 99 / 100]
    }
}
