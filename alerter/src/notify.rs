//! The notifier: takes due rows from the outbox, delivers them, writes what came of it.
//!
//! The only loop of this crate. It holds a clock, never a lock over a wait, and changes nothing
//! itself: outcomes go to the journal, and the worker applies them.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rrd::{Clock, Timestamp};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::engine::{Engine, FRAME_DELIVERY};
use crate::outbox::{ATTEMPTS_MOST, Delivery, Outcome, REFUSED_ATTEMPTS_MOST, Row, next_attempt};
use crate::transition::Transition;

/// Most deliveries at the same time: enough to hide slow receivers, few enough for any of them.
pub const DELIVERIES_MOST: usize = 16;

/// Longest attempt, connecting included.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);

/// Shortest and longest time the loop sleeps: a wall clock that jumped is seen within a minute.
const SLEEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Longest wait that a receiver can ask for.
const WISH_MOST: Duration = Duration::from_hours(1);

/// Why an attempt failed, by what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may well work later: network, time-outs, 408, 425, 429, 5xx; SMTP 4yz.
    Later {
        /// What was met.
        error: String,
        /// How long the receiver asked to be left alone.
        wish: Option<Duration>,
    },
    /// The receiver says the request is wrong (another 4xx): a few more tries.
    Refused {
        /// What was met.
        error: String,
    },
    /// It will never work: 410, SMTP 5yz, a channel that is no more.
    Never {
        /// What was met.
        error: String,
    },
}

/// The pending result of one attempt.
pub type Attempt<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// One way to one receiver: a mailbox, a webhook.
pub trait Channel: Send + Sync {
    /// Tells the receiver of `transition`; `now` is the moment of this attempt.
    fn deliver<'a>(&'a self, transition: &'a Transition, now: Timestamp) -> Attempt<'a>;
}

/// All channels by name.
#[derive(Clone, Default)]
pub struct Channels(BTreeMap<String, Arc<dyn Channel>>);

impl Channels {
    /// Adds a channel; one of the same name is replaced.
    pub fn insert(&mut self, name: String, channel: Arc<dyn Channel>) {
        self.0.insert(name, channel);
    }

    /// Their names, for [`Engine::new`] and [`Engine::restore`].
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// Where outcomes are written: the journal, or a list in tests.
pub trait Ledger: Send + Sync + 'static {
    /// Appends a frame; its number, or why it was refused.
    fn append(&self, kind: u8, body: &[u8]) -> Result<u64, String>;

    /// Waits until the worker has applied frame `seq`; an error says that it never will.
    fn applied(&self, seq: u64) -> impl Future<Output = Result<(), String>> + Send;
}

/// The outcomes of deliveries use the space that samples may not.
impl Ledger for journal::Journal {
    fn append(&self, kind: u8, body: &[u8]) -> Result<u64, String> {
        self.append_reserved(kind, body).map_err(|refused| refused.to_string())
    }

    async fn applied(&self, seq: u64) -> Result<(), String> {
        Self::applied(self, seq).await.map_err(|failed| failed.to_string())
    }
}

/// What [`run`] works with.
pub struct Notifier<L> {
    /// Shared with the worker.
    pub engine: Arc<Mutex<Engine>>,
    /// Where outcomes go.
    pub ledger: Arc<L>,
    /// Who is told.
    pub channels: Channels,
    /// The time of attempts.
    pub clock: Arc<dyn Clock>,
    /// A random number in [0, 1) for each retry.
    pub jitter: fn() -> f64,
}

/// Delivers what is due until `shutdown` is done. Attempts under way are cancelled then: what has
/// no outcome in the journal is delivered again after the next start.
pub async fn run<L: Ledger>(notifier: Notifier<L>, shutdown: impl Future<Output = ()>) {
    let notifier = Arc::new(notifier);
    let bell = lock(&notifier.engine).bell();
    let mut busy = BTreeSet::new();
    let mut attempts = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let now = notifier.clock.wall();
        let free = DELIVERIES_MOST - attempts.len();
        let (rows, next) = lock(&notifier.engine).due(now, &busy, free);
        for row in rows {
            busy.insert(row.number);
            attempts.spawn(attempt(Arc::clone(&notifier), row));
        }
        let is_full = attempts.len() == DELIVERIES_MOST;
        let sleep = if is_full { SLEEP.1 } else { pause(now, next) };
        tokio::select! {
            () = &mut shutdown => break,
            () = bell.notified() => {}
            Some(done) = attempts.join_next() => match done {
                Ok(number) => { busy.remove(&number); }
                Err(error) => warn!(%error, "a delivery task ended early; its row waits for a restart"),
            },
            () = tokio::time::sleep(sleep) => {}
        }
    }
    attempts.shutdown().await;
}

/// A random number in [0, 1) from the system: spreads retries, guards nothing.
pub fn random_jitter() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness retries come unspread, which is a nuisance and no fault.
    if getrandom::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// The lock on the engine. A panic elsewhere leaves plain data behind: going on is right.
fn lock(engine: &Mutex<Engine>) -> std::sync::MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long to sleep when the next row is due at `next`.
fn pause(now: Timestamp, next: Option<Timestamp>) -> Duration {
    let wait = next.map_or(i64::MAX, |next| next.millis_since(now));
    Duration::from_millis(u64::try_from(wait).unwrap_or(0)).clamp(SLEEP.0, SLEEP.1)
}

/// One attempt at one row, and its outcome in the journal, applied. Returns the row's number.
async fn attempt<L: Ledger>(notifier: Arc<Notifier<L>>, row: Row) -> u64 {
    let result = deliver(&notifier, &row).await;
    let now = notifier.clock.wall();
    let outcome = outcome(&row, result, now, (notifier.jitter)());
    debug!(channel = row.channel, transition = %row.transition.id, ?outcome, "attempted");
    let delivery = Delivery { row: row.number, transition: row.transition.id, at: now, outcome };
    let body = delivery.encode();
    loop {
        match notifier.ledger.append(FRAME_DELIVERY, &body) {
            Ok(seq) => match notifier.ledger.applied(seq).await {
                Ok(()) => return row.number,
                // Whether this outcome lasts is known after a restart; until then nobody tries again.
                Err(reason) => {
                    warn!(reason, channel = row.channel, "the outcome of a delivery is in doubt");
                    std::future::pending::<()>().await;
                }
            },
            // Without its outcome in the journal the row stays busy, rather than delivered twice.
            Err(reason) => {
                warn!(
                    reason,
                    channel = row.channel,
                    "the outcome of a delivery waits for the journal"
                );
                tokio::time::sleep(SLEEP.0).await;
            }
        }
    }
}

async fn deliver<L: Ledger>(notifier: &Notifier<L>, row: &Row) -> Result<(), Failure> {
    let Some(channel) = notifier.channels.0.get(&row.channel) else {
        let error = format!("no channel {:?} in the configuration any more", row.channel);
        return Err(Failure::Never { error });
    };
    let attempt = channel.deliver(&row.transition, notifier.clock.wall());
    tokio::time::timeout(DELIVERY_TIMEOUT, attempt).await.unwrap_or_else(|_| {
        let error = format!("no answer within {} s", DELIVERY_TIMEOUT.as_secs());
        Err(Failure::Later { error, wish: None })
    })
}

/// What the result of an attempt means for its row. Pure.
pub fn outcome(row: &Row, result: Result<(), Failure>, now: Timestamp, jitter: f64) -> Outcome {
    let (error, most, wish) = match result {
        Ok(()) => return Outcome::Delivered,
        Err(Failure::Never { error }) => return Outcome::Dead { error },
        Err(Failure::Refused { error }) => (error, REFUSED_ATTEMPTS_MOST, None),
        Err(Failure::Later { error, wish }) => (error, ATTEMPTS_MOST, wish),
    };
    let wish = wish.map(|wish| wish.min(WISH_MOST));
    match next_attempt(row.attempts.saturating_add(1), most, now, wish, jitter) {
        Some(due) => Outcome::Retry { due, error },
        None => Outcome::Dead { error: format!("{error}; given up after {most} attempts") },
    }
}
