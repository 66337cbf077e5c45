//! Delivery: order, retries and dead letters on a clock that stands still until it is moved.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rrd::{Clock, ManualClock, Timestamp};
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::world::{CHANNELS, Worker, channels, load_frame};
use crate::notify::{Attempt, Notifier, outcome, run};
use crate::outbox::next_attempt;
use crate::{Channel, Channels, Delivery, Engine, Failure, Ledger, Outcome, Row, Transition};

const RULE: &str =
    "[[rule]]\nname = \"load\"\nexpr = \"load\"\nwarning = \"> 80\"\ncritical = \"> 95\"\n";

fn at(second: i64) -> Timestamp {
    Timestamp::from_secs(second)
}

/// An engine with one incident of three transitions, raised at 20 s and over at 40 s.
fn engine_with_an_incident() -> Engine {
    let mut worker = Worker::with_rules(RULE);
    for (second, load) in [(10, 90.0), (20, 99.0), (30, 10.0), (40, 10.0)] {
        worker.feed(load_frame(second, "web-1", load));
    }
    worker.feed(super::world::tick(50));
    assert_eq!(worker.told().len(), 3, "{:?}", worker.told());
    worker.engine
}

fn later(error: &str) -> Failure {
    Failure::Later { error: error.to_owned(), wish: None }
}

/// Rows that may be tried at `second`, as (channel, sequence).
fn due(engine: &Engine, second: i64) -> Vec<(String, u32)> {
    let (rows, _) = engine.due(at(second), &BTreeSet::new(), 100);
    rows.into_iter().map(|row| (row.channel, row.transition.sequence)).collect()
}

fn row_of(engine: &Engine, second: i64, channel: &str) -> Row {
    let (rows, _) = engine.due(at(second), &BTreeSet::new(), 100);
    rows.into_iter().find(|row| row.channel == channel).expect("a row is due")
}

/// Settles the row of `channel` that is due, as the worker would.
fn settle(engine: &mut Engine, second: i64, channel: &str, result: Result<(), Failure>) {
    let row = row_of(engine, second, channel);
    let outcome = outcome(&row, result, at(second), 0.5);
    let delivery =
        Delivery { row: row.number, transition: row.transition.id, at: at(second), outcome };
    let decoded = Delivery::decode(&delivery.encode()).unwrap();
    assert_eq!(decoded, delivery);
    let settled = |counts: &crate::Counts| counts.delivered + counts.retried + counts.dead;
    let seq = 1_000 + engine.view().counts.values().map(settled).sum::<u64>();
    engine.apply(seq, crate::FRAME_DELIVERY, &decoded.encode()).unwrap();
}

#[test]
fn the_next_notice_of_an_incident_waits_for_the_one_before_on_each_channel() {
    let [mail, hook] = CHANNELS;
    let mut engine = engine_with_an_incident();
    assert_eq!(due(&engine, 50), [(mail.to_owned(), 1), (hook.to_owned(), 1)]);
    settle(&mut engine, 50, mail, Ok(()));
    assert_eq!(due(&engine, 50), [(hook.to_owned(), 1), (mail.to_owned(), 2)]);
    settle(&mut engine, 50, hook, Err(later("503")));
    assert_eq!(due(&engine, 50), [(mail.to_owned(), 2)], "the failed one blocks its own stream");
    settle(&mut engine, 50, mail, Ok(()));
    settle(&mut engine, 50, mail, Ok(()));
    assert_eq!(due(&engine, 54), []);
    assert_eq!(due(&engine, 55), [(hook.to_owned(), 1)], "five seconds later");
}

#[test]
fn a_retry_comes_after_the_schedule_of_standard_webhooks() {
    let mut engine = engine_with_an_incident();
    let hook = CHANNELS[1];
    let mut now = 50;
    for wait in [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400] {
        let id = row_of(&engine, now, hook).transition.id;
        settle(&mut engine, now, hook, Err(later("connection refused")));
        assert!(!due(&engine, now + wait - 1).iter().any(|(channel, _)| channel == hook));
        now += wait;
        assert_eq!(row_of(&engine, now, hook).transition.id, id, "the same id at every attempt");
    }
    settle(&mut engine, now, hook, Err(later("connection refused")));
    let view = engine.view();
    assert_eq!((view.dead.len(), view.dead[0].row.attempts), (1, 10));
    assert!(view.dead[0].row.error.contains("given up after 10 attempts"), "{:?}", view.dead);
    assert_eq!(row_of(&engine, now, hook).transition.sequence, 2, "the next one has its turn");
}

#[test]
fn waits_spread_by_a_fifth_and_respect_the_receiver() {
    let wish = |seconds| Some(Duration::from_secs(seconds));
    for (failed, most, wish, jitter, seconds) in [
        (1, 10, None, 0.0, Some(4_000)),
        (1, 10, None, 0.5, Some(5_000)),
        (2, 10, None, 1.0, Some(360_000)),
        (1, 10, wish(60), 0.5, Some(60_000)),
        (2, 10, wish(60), 0.5, Some(300_000)),
        (5, 5, None, 0.5, None),
        (10, 10, None, 0.5, None),
        (40, 99, None, 0.5, None),
    ] {
        let next = next_attempt(failed, most, at(0), wish, jitter);
        assert_eq!(next.map(Timestamp::as_millis), seconds, "{failed} of {most}, {wish:?}");
    }
}

#[test]
fn a_receiver_cannot_ask_for_more_than_an_hour() {
    let row = row_of(&engine_with_an_incident(), 50, CHANNELS[1]);
    let wish = Some(Duration::from_hours(100));
    let result = Err(Failure::Later { error: "429".to_owned(), wish });
    let Outcome::Retry { due, .. } = outcome(&row, result, at(50), 0.5) else { panic!("a retry") };
    assert_eq!(due, at(50 + 3600));
}

#[test]
fn what_will_never_work_is_not_tried_again_and_what_is_refused_five_times() {
    let mut engine = engine_with_an_incident();
    let [mail, hook] = CHANNELS;
    settle(&mut engine, 50, mail, Err(Failure::Never { error: "550 no such user".to_owned() }));
    assert_eq!(engine.view().dead[0].row.error, "550 no such user");
    for attempt in 0..5 {
        let result = Err(Failure::Refused { error: "400 Bad Request".to_owned() });
        settle(&mut engine, 50 + attempt * 20_000, hook, result);
    }
    assert_eq!(engine.view().dead.len(), 2);
}

#[test]
fn an_outcome_for_another_row_changes_nothing() {
    let mut engine = engine_with_an_incident();
    let before = engine.view().waiting_count;
    let stranger = crate::TransitionId(7);
    let delivery =
        Delivery { row: 0, transition: stranger, at: at(50), outcome: Outcome::Delivered };
    engine.apply(1_000, crate::FRAME_DELIVERY, &delivery.encode()).unwrap();
    assert_eq!(engine.view().waiting_count, before);
}

/// V43: killed between the POST and its outcome in the journal.
#[test]
fn what_has_no_outcome_in_the_journal_is_delivered_again_with_the_same_id() {
    let engine = engine_with_an_incident();
    let sent = row_of(&engine, 50, CHANNELS[1]);
    let restarted = Engine::restore(&engine.snapshot(), channels()).unwrap();
    let again = row_of(&restarted, 60, CHANNELS[1]);
    assert_eq!((again.number, again.transition.id), (sent.number, sent.transition.id));
}

/// A channel whose answers are written beforehand, and which tells of every attempt.
struct Scripted {
    answers: Mutex<VecDeque<Result<(), Failure>>>,
    attempts: mpsc::UnboundedSender<(u32, i64)>,
}

impl Channel for Scripted {
    fn deliver<'a>(&'a self, transition: &'a Transition, now: Timestamp) -> Attempt<'a> {
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Ok(()));
        self.attempts.send((transition.sequence, now.as_millis() / 1000)).unwrap();
        Box::pin(async move { answer })
    }
}

/// A journal whose worker applies at once, and which tells of every frame.
struct Desk {
    engine: Arc<Mutex<Engine>>,
    next: Mutex<u64>,
    applied: mpsc::UnboundedSender<u64>,
}

impl Ledger for Desk {
    fn append(&self, kind: u8, body: &[u8]) -> Result<u64, String> {
        let mut next = self.next.lock().unwrap();
        *next += 1;
        self.engine.lock().unwrap().apply(*next, kind, body).map_err(|e| e.to_string())?;
        self.applied.send(*next).unwrap();
        Ok(*next)
    }

    fn applied(&self, _seq: u64) -> impl Future<Output = Result<(), String>> + Send {
        std::future::ready(Ok(()))
    }
}

#[tokio::test]
async fn the_notifier_delivers_in_order_retries_when_due_and_stops_when_told() {
    let engine = Arc::new(Mutex::new(engine_with_an_incident()));
    let clock = Arc::new(ManualClock::at(at(50)));
    let (attempts, mut attempted) = mpsc::unbounded_channel();
    let (applied, mut settled) = mpsc::unbounded_channel();
    let mut all = Channels::default();
    let answers = Mutex::new(VecDeque::from([Ok(()), Err(later("503"))]));
    all.insert(CHANNELS[1].to_owned(), Arc::new(Scripted { answers, attempts }));
    let desk = Desk { engine: Arc::clone(&engine), next: Mutex::new(1_000), applied };
    let (stop, stopped) = oneshot::channel::<()>();
    let notifier = Notifier {
        engine: Arc::clone(&engine),
        ledger: Arc::new(desk),
        channels: all,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        jitter: || 0.5,
    };
    let task = tokio::spawn(run(notifier, async move {
        stopped.await.ok();
    }));
    assert_eq!(attempted.recv().await, Some((1, 50)));
    assert_eq!(attempted.recv().await, Some((2, 50)));
    // Two outcomes here, three of the mailbox that is not configured: dead at once.
    for _ in 0..5 {
        settled.recv().await.unwrap();
    }
    assert_eq!(engine.lock().unwrap().view().dead.len(), 3);
    clock.advance(Duration::from_secs(5));
    engine.lock().unwrap().bell().notify_one();
    assert_eq!(attempted.recv().await, Some((2, 55)), "the second again, not the third");
    assert_eq!(attempted.recv().await, Some((3, 55)));
    for _ in 0..2 {
        settled.recv().await.unwrap();
    }
    let view = engine.lock().unwrap().view();
    let of = |count: fn(&crate::Counts) -> u64| view.counts.values().map(count).sum::<u64>();
    assert_eq!((view.waiting_count, of(|c| c.delivered), of(|c| c.retried)), (0, 3, 1));
    stop.send(()).unwrap();
    task.await.unwrap();
}
