//! The outbox: what must still be delivered, in order within each channel and incident.
//!
//! Pure: it asks for no time and sends nothing. It changes only when a journal frame is applied, so
//! that a restart finds exactly what was owed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use rrd::Timestamp;

use crate::codec::Moment;
use crate::transition::{IncidentId, Transition, TransitionId};

/// Waits before the second, third, … attempt: the schedule of Standard Webhooks, 75 h in all.
pub(crate) const RETRY_SECONDS: [u64; 9] =
    [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// Attempts after which one row is dead: the first, and one after each wait.
pub(crate) const ATTEMPTS_MOST: u32 = 10;

/// Attempts where the receiver says that the request itself is wrong (4xx): it rarely changes.
pub(crate) const REFUSED_ATTEMPTS_MOST: u32 = 5;

/// A wait differs from the schedule by up to a fifth either way, so that receivers coming back are
/// not met by everybody at once.
const JITTER: f64 = 0.2;

/// Most rows waiting: a storm of 10,000 transitions to ten channels. Above, rows die at once, seen.
pub(crate) const WAITING_MOST: usize = 100_000;

/// Most dead letters kept to look at and replay; the oldest is forgotten first, and counted.
pub(crate) const DEAD_MOST: usize = 1_000;

/// Longest text of an error kept with a row, in letters.
const ERROR_LETTERS: usize = 300;

/// One transition on its way to one channel.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Row {
    /// Its number in this server's outbox; rising, given when the journal frame is applied.
    pub number: u64,
    /// What is to be told.
    pub transition: Arc<Transition>,
    /// To whom: a name in [`crate::Channels`].
    pub channel: String,
    /// Attempts that failed.
    pub attempts: u32,
    due: Option<Moment>,
    /// What the newest failed attempt met; perhaps empty.
    pub error: String,
}

impl Row {
    /// When it may be tried again; `None` is at once.
    pub fn due(&self) -> Option<Timestamp> {
        self.due.map(|moment| moment.0)
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.due().is_none_or(|due| due <= now)
    }

    fn stream(&self) -> Stream {
        (self.channel.clone(), self.transition.incident)
    }
}

/// A row that will not be tried again.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct DeadLetter {
    /// The row, with its last error.
    pub row: Row,
    died: Moment,
}

impl DeadLetter {
    /// When it was given up.
    pub fn died(&self) -> Timestamp {
        self.died.0
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// Try again at this moment.
    Retry {
        /// Not before.
        due: Timestamp,
        /// What the attempt met.
        error: String,
    },
    /// Never try again.
    Dead {
        /// What the attempt met.
        error: String,
    },
}

/// The outcome of one attempt, as the journal holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// [`Row::number`].
    pub row: u64,
    /// The transition of that row: a number alone could meet another row after a lost journal.
    pub transition: TransitionId,
    /// When the attempt ended.
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
}

type WireOutcome = (u8, Moment, String);

impl Delivery {
    /// The body of a journal frame.
    pub fn encode(&self) -> Vec<u8> {
        let outcome: WireOutcome = match &self.outcome {
            Outcome::Delivered => (0, Moment(self.at), String::new()),
            Outcome::Retry { due, error } => (1, Moment(*due), cut(error)),
            Outcome::Dead { error } => (2, Moment(self.at), cut(error)),
        };
        crate::codec::encode(&(self.row, self.transition, Moment(self.at), outcome))
    }

    /// The delivery in the body of a journal frame.
    pub fn decode(body: &[u8]) -> Result<Self, crate::DamagedFrame> {
        const WHAT: &str = "a delivery frame";
        let (row, transition, Moment(at), outcome): (_, _, _, WireOutcome) =
            crate::codec::decode::<_, { crate::codec::FRAME_BYTES }>(WHAT, body)?;
        let outcome = match outcome {
            (0, _, _) => Outcome::Delivered,
            (1, Moment(due), error) => Outcome::Retry { due, error },
            (2, _, error) => Outcome::Dead { error },
            (other, ..) => {
                return Err(crate::DamagedFrame::new(WHAT, &format!("outcome {other}")));
            }
        };
        Ok(Self { row, transition, at, outcome })
    }
}

fn cut(error: &str) -> String {
    error.chars().take(ERROR_LETTERS).collect()
}

/// When to try again after `failed` attempts, or `None` when the row is dead.
///
/// `most` attempts are made in all; `jitter` in [0, 1) is random; a receiver's own wish (capped by
/// the caller) only ever lengthens the wait.
pub(crate) fn next_attempt(
    failed: u32,
    most: u32,
    now: Timestamp,
    wish: Option<Duration>,
    jitter: f64,
) -> Option<Timestamp> {
    if failed >= most {
        return None;
    }
    let at = usize::try_from(failed.saturating_sub(1)).unwrap_or(usize::MAX);
    let wait = Duration::from_secs(*RETRY_SECONDS.get(at)?);
    let spread = 1.0 + JITTER * (2.0 * jitter.clamp(0.0, 1.0) - 1.0);
    let wait = wait.mul_f64(spread).max(wish.unwrap_or_default());
    Some(now.plus_millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
}

/// Rows of one channel and one incident are delivered one after another.
type Stream = (String, IncidentId);

/// Everything that waits for delivery, and what was given up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outbox {
    rows: BTreeMap<u64, Row>,
    streams: BTreeMap<Stream, VecDeque<u64>>,
    /// The first row of each stream by when it is due.
    heads: BTreeSet<(Option<Moment>, u64)>,
    dead: VecDeque<DeadLetter>,
    next_number: u64,
    counts: BTreeMap<String, Counts>,
}

/// Rows of one channel, counted since the data folder was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Counts {
    /// Rows delivered.
    pub delivered: u64,
    /// Attempts that failed and were, or will be, made again.
    pub retried: u64,
    /// Rows given up.
    pub dead: u64,
}

/// [`Outbox`] in plain vectors.
pub(crate) type SavedOutbox = (Vec<Row>, Vec<DeadLetter>, u64, BTreeMap<String, Counts>);

impl Outbox {
    /// Adds a row, due at once.
    pub(crate) fn add(&mut self, transition: Arc<Transition>, channel: String, at: Timestamp) {
        let number = self.next_number;
        self.next_number += 1;
        let row = Row { number, transition, channel, attempts: 0, due: None, error: String::new() };
        if self.rows.len() >= WAITING_MOST {
            let error = format!("{WAITING_MOST} rows wait already");
            return self.bury(Row { error, ..row }, at);
        }
        self.enqueue(row);
    }

    fn enqueue(&mut self, row: Row) {
        let stream = self.streams.entry(row.stream()).or_default();
        if stream.is_empty() {
            self.heads.insert((row.due, row.number));
        }
        stream.push_back(row.number);
        self.rows.insert(row.number, row);
    }

    /// Up to `most` rows to try now, longest due first, without those in `busy`.
    pub(crate) fn due(&self, now: Timestamp, busy: &BTreeSet<u64>, most: usize) -> Vec<Row> {
        let heads = self.heads.iter().filter(|(_, number)| !busy.contains(number));
        let rows = heads.filter_map(|(_, number)| self.rows.get(number));
        rows.take_while(|row| row.is_due(now)).take(most).cloned().collect()
    }

    /// When the next row that is not in `busy` is due; `None` when none waits.
    pub(crate) fn next_due(&self, busy: &BTreeSet<u64>) -> Option<Timestamp> {
        let (due, _) = self.heads.iter().find(|(_, number)| !busy.contains(number))?;
        Some(due.map_or(Timestamp::MIN, |moment| moment.0))
    }

    /// Applies the outcome of an attempt. An outcome for a row that is gone changes nothing.
    pub(crate) fn settle(&mut self, delivery: &Delivery) {
        let Some(row) = self.rows.get(&delivery.row) else { return };
        if row.transition.id != delivery.transition {
            return;
        }
        let was = (row.due, row.number);
        match &delivery.outcome {
            Outcome::Delivered => {
                if let Some(row) = self.remove(delivery.row) {
                    self.counts_of(row.channel).delivered += 1;
                }
            }
            Outcome::Retry { due, error } => {
                let Some(row) = self.rows.get_mut(&delivery.row) else { return };
                row.attempts = row.attempts.saturating_add(1);
                row.due = Some(Moment(*due));
                row.error.clone_from(error);
                let channel = row.channel.clone();
                self.counts_of(channel).retried += 1;
                if self.heads.remove(&was) {
                    self.heads.insert((Some(Moment(*due)), delivery.row));
                }
            }
            Outcome::Dead { error } => {
                if let Some(mut row) = self.remove(delivery.row) {
                    row.attempts = row.attempts.saturating_add(1);
                    row.error.clone_from(error);
                    self.bury(row, delivery.at);
                }
            }
        }
    }

    /// Takes a row out; the next of its stream becomes its head.
    fn remove(&mut self, number: u64) -> Option<Row> {
        let row = self.rows.remove(&number)?;
        self.heads.remove(&(row.due, number));
        let stream = row.stream();
        let rest = self.streams.get_mut(&stream)?;
        rest.retain(|other| *other != number);
        let next = rest.front().copied();
        if let Some(next) = next.and_then(|next| self.rows.get(&next)) {
            self.heads.insert((next.due, next.number));
        } else {
            self.streams.remove(&stream);
        }
        Some(row)
    }

    fn bury(&mut self, row: Row, at: Timestamp) {
        self.counts_of(row.channel.clone()).dead += 1;
        self.dead.push_back(DeadLetter { row, died: Moment(at) });
        if self.dead.len() > DEAD_MOST {
            self.dead.pop_front();
        }
    }

    /// Waiting rows, oldest first.
    pub(crate) fn waiting(&self) -> impl ExactSizeIterator<Item = &Row> {
        self.rows.values()
    }

    /// What was given up, newest first.
    pub(crate) fn dead(&self) -> impl ExactSizeIterator<Item = &DeadLetter> {
        self.dead.iter().rev()
    }

    fn counts_of(&mut self, channel: String) -> &mut Counts {
        self.counts.entry(channel).or_default()
    }

    /// Rows by channel.
    pub(crate) fn counts(&self) -> &BTreeMap<String, Counts> {
        &self.counts
    }

    pub(crate) fn saved(&self) -> SavedOutbox {
        let rows = self.rows.values().cloned().collect();
        (rows, self.dead.iter().cloned().collect(), self.next_number, self.counts.clone())
    }

    pub(crate) fn restored((rows, dead, next_number, counts): SavedOutbox) -> Self {
        let mut outbox = Self { dead: dead.into(), next_number, counts, ..Self::default() };
        for row in rows {
            outbox.enqueue(row);
        }
        outbox
    }
}
