//! Clones: two processes that take turns with one credential.
//!
//! A process that starts anew never gives way to the one before it. One request of the former may still be
//! under way then, which looks like one return of it and one of its successor; a third is somebody else.

use std::time::Duration;

/// Returns of processes that were replaced before it is a conflict.
const RETURNS_MAX: u32 = 3;
/// Returns further apart than this are not about each other.
const RETURNS_WITHIN: Duration = Duration::from_mins(10);
/// Processes remembered of one instance.
const LIVES_LIMIT: usize = 8;

/// The processes that spoke for one instance lately.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// In the order in which they came.
    seen: Vec<u64>,
    turned_away: Vec<u64>,
    returns: u32,
    last_return: Duration,
}

/// What an arrival means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Nothing.
    Fine,
    /// There are two. The newer is turned away from now on; true when it is the one that came.
    Conflict { is_newer: bool },
    /// It was turned away before.
    TurnedAway,
}

impl Lives {
    /// A push of process `now_here` where `before` spoke last.
    pub(super) fn arrives(&mut self, now_here: u64, before: u64, at: Duration) -> Arrival {
        if self.turned_away.contains(&now_here) {
            return Arrival::TurnedAway;
        }
        if now_here == before || before == 0 {
            return Arrival::Fine;
        }
        self.note(before);
        if !self.seen.contains(&now_here) {
            self.note(now_here);
            return Arrival::Fine;
        }
        let is_far = at.saturating_sub(self.last_return) > RETURNS_WITHIN;
        self.returns = if is_far { 1 } else { self.returns + 1 };
        self.last_return = at;
        if self.returns < RETURNS_MAX {
            return Arrival::Fine;
        }
        let place = |life: u64| self.seen.iter().position(|seen| *seen == life);
        let is_newer = place(now_here) > place(before);
        self.returns = 0;
        bounded(&mut self.turned_away, if is_newer { now_here } else { before });
        Arrival::Conflict { is_newer }
    }

    fn note(&mut self, life: u64) {
        if !self.seen.contains(&life) {
            bounded(&mut self.seen, life);
        }
    }
}

fn bounded(lives: &mut Vec<u64>, life: u64) {
    if lives.len() >= LIVES_LIMIT {
        lives.remove(0);
    }
    lives.push(life);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds processes one second apart; answers what the last arrival meant.
    fn last(lives: &[u64]) -> Arrival {
        let mut known = Lives::default();
        let mut before = 0;
        let mut arrival = Arrival::Fine;
        for (second, life) in (0..).zip(lives) {
            arrival = known.arrives(*life, before, Duration::from_secs(second));
            if arrival != Arrival::TurnedAway {
                before = *life;
            }
        }
        arrival
    }

    #[test]
    fn processes_that_take_turns_are_two_and_the_newer_goes() {
        for (lives, expected) in [
            (&[1, 1, 1][..], Arrival::Fine),
            (&[1, 2, 3, 4], Arrival::Fine),
            // The last request of the old process comes late.
            (&[1, 2, 1, 2, 2, 2], Arrival::Fine),
            (&[1, 2, 1, 2, 1], Arrival::Conflict { is_newer: false }),
            (&[1, 2, 2, 1, 1, 2, 2, 1], Arrival::Conflict { is_newer: false }),
            (&[1, 2, 1, 2, 1, 2], Arrival::TurnedAway),
            (&[1, 2, 1, 2, 1, 1, 1], Arrival::Fine),
            (&[1, 2, 1, 2, 1, 3], Arrival::Fine),
            (&[1, 2, 3, 2, 1, 2], Arrival::Conflict { is_newer: true }),
        ] {
            assert_eq!(last(lives), expected, "{lives:?}");
        }
    }

    #[test]
    fn returns_hours_apart_are_not_about_each_other() {
        let mut known = Lives::default();
        let mut before = 0;
        for hour in 0..20 {
            let life = 1 + hour % 2;
            let arrival = known.arrives(life, before, Duration::from_secs(hour * 3600));
            assert_eq!(arrival, Arrival::Fine, "hour {hour}");
            before = life;
        }
    }
}
