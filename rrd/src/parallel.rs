//! Work on all processors: much of one kind is shared out in pieces, and comes back in their order.
//!
//! What a piece is does not depend on how many threads there are, so that results that are put
//! together in order are the same bit for bit wherever and beside whatever they were computed.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Threads that help somebody, of the whole process: those who come while all processors are at work
/// do their work alone, so that many at once never make more threads than there are processors.
static HELPING: AtomicUsize = AtomicUsize::new(0);

/// Does `work` for 0..`count` in consecutive ranges of `piece`, on as many threads as are free, and
/// answers what came of each, in their order.
pub fn in_pieces<T: Send>(
    count: usize,
    piece: usize,
    work: impl Fn(Range<usize>) -> T + Sync,
) -> Vec<T> {
    let piece = piece.max(1);
    let pieces = count.div_ceil(piece);
    let range = |number: usize| number * piece..((number + 1) * piece).min(count);
    let helpers = Helpers::at_most(pieces.saturating_sub(1));
    if helpers.count == 0 {
        return (0..pieces).map(|number| work(range(number))).collect();
    }
    let next = AtomicUsize::new(0);
    let some = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= pieces {
                return done;
            }
            done.push((number, work(range(number))));
        }
    };
    let mut all = thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, some);
        // Where the system has no thread to give, the others do its part.
        let threads: Vec<_> = (0..helpers.count).map_while(|number| start(number).ok()).collect();
        let mut all = some();
        for thread in threads {
            match thread.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, done)| done).collect()
}

/// Threads that somebody may start until this is dropped.
struct Helpers {
    count: usize,
}

impl Helpers {
    fn at_most(wanted: usize) -> Self {
        /// Asked once: the system reads files to answer.
        static MOST: OnceLock<usize> = OnceLock::new();
        if wanted == 0 {
            return Self { count: 0 };
        }
        let processors = || thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let most = *MOST.get_or_init(|| processors() - 1);
        let take = |helping: usize| Some(helping + wanted.min(most.saturating_sub(helping)));
        let before = HELPING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let before = before.unwrap_or_else(|before| before);
        Self { count: wanted.min(most.saturating_sub(before)) }
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        HELPING.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_and_they_come_back_in_order() {
        for (count, piece) in [(0, 7), (1, 7), (7, 7), (8, 7), (1000, 3), (5, 0)] {
            let done = in_pieces(count, piece, Iterator::collect::<Vec<_>>);
            assert!(done.iter().all(|some| some.len() <= piece.max(1)), "{count} by {piece}");
            assert_eq!(done.concat(), (0..count).collect::<Vec<_>>(), "{count} by {piece}");
        }
    }

    #[test]
    fn many_at_once_share_one_number_of_helpers() {
        let most = thread::available_parallelism().unwrap().get();
        let (running, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    in_pieces(200, 1, |_| {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        peak.fetch_max(now, Ordering::SeqCst);
                        thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                    });
                });
            }
        });
        assert!(peak.into_inner() < 4 + most, "each brings itself, and all share the helpers");
    }

    #[test]
    #[should_panic(expected = "a piece broke")]
    fn a_panic_in_a_piece_reaches_the_asker() {
        in_pieces(100, 1, |range| assert!(range.start != 60, "a piece broke"));
    }
}
