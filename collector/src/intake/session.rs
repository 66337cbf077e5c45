//! Sessions with agents: which batch comes next, and what the numbers in readings stand for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rrd::{Batch, Column, InstanceId};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::clones::{Arrival, Lives};
use crate::accounting::Reason;
use crate::native::Entry;

/// One session an instance; bounded by the registry's limit on instances.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<InstanceId, Arc<Turn<Session>>>>,
}

impl Sessions {
    /// The session of `instance`, held: one push at a time. `last` is asked when it is not open
    /// yet.
    pub(super) async fn turn(
        &self,
        instance: InstanceId,
        last: impl FnOnce() -> Option<Batch>,
    ) -> OwnedMutexGuard<Session> {
        let session = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = open.entry(instance);
            entry.or_insert_with(|| Arc::new(Turn::new(Session::after(last())))).clone()
        };
        session.lock_owned().await
    }

    /// Closes an instance's session: the next push opens one that knows what the worker has
    /// applied.
    pub(super) fn forget(&self, instance: InstanceId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance);
    }
}

/// What one agent's incarnation has told so far.
#[derive(Debug, Default)]
pub(super) struct Session {
    incarnation: u64,
    number: u64,
    /// The frame of batch `number`; 0 when an earlier process appended it and it was replayed.
    seq: u64,
    dictionary: Vec<Option<Known>>,
    lives: Lives,
}

/// What a number in the readings stands for.
#[derive(Debug)]
pub(super) enum Known {
    Column(Column),
    Refused(Box<Refused>),
}

/// A series that was refused, kept so that its samples can be counted and the refusal looked at
/// again.
#[derive(Debug)]
pub(super) struct Refused {
    /// What to try again; `None` when time does not heal it: its labels may be of any length.
    pub(super) entry: Option<Entry>,
    pub(super) series: String,
    pub(super) reason: Reason,
    pub(super) message: String,
    /// When to try again, on the monotonic clock.
    pub(super) retry_at: Duration,
}

/// Where a batch stands in its incarnation's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Next,
    Repeat { seq: u64 },
    Gap { resend_from: u64 },
}

impl Session {
    /// A session that goes on after the last batch applied.
    fn after(last: Option<Batch>) -> Self {
        let (incarnation, number) = last.map_or((0, 0), |batch| (batch.incarnation, batch.number));
        Self { incarnation, number, ..Self::default() }
    }

    /// What the arrival of a process means that says it is this instance.
    pub(super) fn arrives(&mut self, incarnation: u64, now: Duration) -> Arrival {
        self.lives.arrives(incarnation, self.incarnation, now)
    }

    /// Where batch `number` of `incarnation` stands, its sender still holding those from `floor`
    /// on.
    pub(super) fn order(&self, incarnation: u64, number: u64, floor: u64) -> Order {
        let last = if incarnation == self.incarnation { self.number } else { 0 };
        let wanted = last + 1;
        if number <= last {
            Order::Repeat { seq: self.seq }
        } else if number > wanted && floor <= wanted {
            Order::Gap { resend_from: wanted }
        } else {
            Order::Next
        }
    }

    /// Turns to `incarnation`; a new one has its own dictionary and starts with batch 1.
    pub(super) fn enter(&mut self, incarnation: u64) {
        if self.incarnation != incarnation {
            let lives = std::mem::take(&mut self.lives);
            *self = Self { incarnation, lives, ..Self::default() };
        }
    }

    /// Notes that batch `number` stands in the journal as frame `seq`.
    pub(super) fn took(&mut self, number: u64, seq: u64) {
        (self.number, self.seq) = (number, seq);
    }

    pub(super) fn known(&self, id: u32) -> Option<&Known> {
        self.dictionary.get(usize::try_from(id).ok()?)?.as_ref()
    }

    /// Notes what `id` stands for. The caller has checked it against the limit.
    pub(super) fn learn(&mut self, id: u32, known: Known) {
        let at = usize::try_from(id).expect("checked against a limit far below 2^32");
        if self.dictionary.len() <= at {
            self.dictionary.resize_with(at + 1, || None);
        }
        self.dictionary[at] = Some(known);
    }

    /// Entries refused long enough ago to be tried again.
    pub(super) fn to_retry(&self, now: Duration) -> Vec<Entry> {
        let due = |known: &Option<Known>| match known {
            Some(Known::Refused(refused)) if refused.retry_at <= now => refused.entry.clone(),
            _ => None,
        };
        self.dictionary.iter().filter_map(due).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_taken_once_in_order_and_gaps_only_below_the_floor() {
        let session = Session { incarnation: 7, number: 4, seq: 99, ..Session::default() };
        for (incarnation, number, floor, order) in [
            (7, 5, 5, Order::Next),
            (7, 5, 1, Order::Next),
            (7, 4, 4, Order::Repeat { seq: 99 }),
            (7, 1, 1, Order::Repeat { seq: 99 }),
            (7, 6, 5, Order::Gap { resend_from: 5 }),
            (7, 9, 2, Order::Gap { resend_from: 5 }),
            (7, 6, 6, Order::Next),
            (7, 9, 8, Order::Next),
            (8, 1, 1, Order::Next),
            (8, 2, 1, Order::Gap { resend_from: 1 }),
            (8, 2, 2, Order::Next),
        ] {
            let found = session.order(incarnation, number, floor);
            assert_eq!(found, order, "incarnation {incarnation}, batch {number}, floor {floor}");
        }
    }

    #[test]
    fn a_new_incarnation_forgets_the_old_dictionary() {
        let mut session = Session::after(Some(Batch { incarnation: 7, boot_id: 1, number: 4 }));
        session.learn(3, Known::Column(Column { index: 1, generation: 0 }));
        session.enter(7);
        assert!(session.known(3).is_some() && session.known(2).is_none());
        session.enter(8);
        assert!(session.known(3).is_none());
        assert_eq!(session.order(8, 1, 1), Order::Next);
    }
}
