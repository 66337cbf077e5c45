//! The session against a server that loses answers, memory and the tail of its journal.

use std::collections::HashSet;
use std::time::Duration;

use fixtures::dice::Dice;
use rrd::Timestamp;

use super::{enrolled, reply, taken};
use crate::agent::AgentError;
use crate::agent::reading::Readings;
use crate::agent::session::{Event, Moment, Next, Reply, Session, Unreachable};
use crate::native::{Problem, Push};

/// A server as the contract has it: a journal of batches whose front is durable, and a dictionary.
#[derive(Default)]
struct Server {
    journal: Vec<(u64, Vec<f64>)>,
    durable: usize,
    known: HashSet<u32>,
    /// Samples it takes in one push.
    sample_limit: usize,
}

impl Server {
    fn last(&self) -> u64 {
        self.journal.last().map_or(0, |(number, _)| *number)
    }

    /// Comes back with what is durable, and without a dictionary.
    fn restart(&mut self) {
        self.journal.truncate(self.durable);
        self.known.clear();
    }

    fn take(&mut self, push: &Push) -> Reply {
        if push.number > self.last() + 1 && push.floor <= self.last() + 1 {
            return refusal(409, |problem| problem.resend_from = Some(self.last() + 1));
        }
        let sample_count: usize = push.readings.iter().map(|reading| reading.values.len()).sum();
        if sample_count > self.sample_limit {
            return refusal(413, |_| {});
        }
        self.known.extend(push.dictionary.iter().map(|entry| entry.id));
        let mut samples = push.readings.iter().flat_map(|reading| &reading.values);
        if !samples.clone().all(|(id, _)| self.known.contains(id)) {
            return refusal(409, |problem| problem.resend_dictionary = true);
        }
        if push.number > self.last() {
            let values = samples.by_ref().map(|(_, value)| *value).collect();
            self.journal.push((push.number, values));
        }
        let place = |len: usize| u64::try_from(len).unwrap();
        reply(200, &taken(place(self.journal.len()), place(self.durable)))
    }

    fn values(&self) -> Vec<f64> {
        self.journal.iter().flat_map(|(_, values)| values.iter().copied()).collect()
    }
}

fn refusal(status: u16, why: impl FnOnce(&mut Problem)) -> Reply {
    let mut problem = Problem::default();
    why(&mut problem);
    reply(status, &problem)
}

fn session() -> Session {
    Session::new(enrolled(Timestamp::from_millis(1_000_000)))
}

/// What becomes of a push: it may not arrive, its answer may be lost, the server may be unwell.
fn exchange(
    server: &mut Server,
    push: &Push,
    dice: &mut Dice,
    is_calm: bool,
) -> Result<Reply, Unreachable> {
    let lost = || Err(Unreachable("lost".into()));
    let reply = match dice.number() % 8 {
        0 if !is_calm => return lost(),
        1 if !is_calm => return Ok(refusal(503, |_| {})),
        _ => server.take(push),
    };
    if !is_calm && dice.once_in(6) {
        return lost();
    }
    Ok(reply)
}

#[track_caller]
fn play(seed: u64) -> Result<(), AgentError> {
    let mut dice = Dice::new(seed);
    let sample_limit = 1 + usize::try_from(dice.number() % 6).unwrap();
    let (mut session, mut server) = (session(), Server { sample_limit, ..Server::default() });
    let mut readings = Readings::default();
    let (mut value, mut sample_count) = (0.0, 0);
    for second in 0..400_u64 {
        let is_calm = second >= 300;
        let now = Duration::from_secs(second);
        let wall = Timestamp::from_secs(i64::try_from(second).unwrap());
        if !is_calm {
            readings.clear();
            for device in ["sda", "sdb", "sdc"].iter().take(1 + usize::from(dice.once_in(2)) * 2) {
                value += 1.0;
                sample_count += 1;
                readings.total("node_disk_read_bytes_total", &[("device", device)], value);
            }
            session.take(wall, &readings);
        }
        if !is_calm && dice.once_in(20) {
            server.restart();
        }
        while let Next::Push(push) = session.next(now, wall) {
            let outcome = exchange(&mut server, &push, &mut dice, is_calm);
            // In the calm the backoff has no say, so that the test ends.
            let random = if is_calm { 0 } else { dice.number() };
            session.push_answered(outcome, Moment { now, random, wall_ms: 0 })?;
        }
        if is_calm || dice.once_in(3) {
            server.durable = server.journal.len();
        }
    }
    let values = server.values();
    let is_ordered = values.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(is_ordered, "seed {seed}: each sample once and in order");
    assert_eq!(values.len(), sample_count, "seed {seed}: every sample");
    Ok(())
}

#[test]
fn every_sample_arrives_once_and_in_order() {
    for seed in 0..300 {
        play(seed).unwrap();
    }
}

#[test]
fn an_answer_nobody_waits_for_changes_nothing() {
    let at = Moment { now: Duration::ZERO, random: 0, wall_ms: 0 };
    let event = session().push_answered(Ok(refusal(401, |_| {})), at).unwrap();
    assert!(matches!(event, Event::Trouble(_)));
}
