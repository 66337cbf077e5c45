//! The protocol as timelines: what the session sends, what it is told, what it sends then.

use std::time::Duration;

use rrd::{Step, Timestamp};

use super::taken;
use crate::agent::AgentError;
use crate::agent::Secret;
use crate::agent::credential::Credential;
use crate::agent::reading::Readings;
use crate::agent::session::{Event, Moment, Next, Reply, Session, Start, Unreachable};
use crate::native::{EnrollAnswer, Problem, Push, PushAnswer};

/// A session on a stage: `at(…)` sets the second, the other verbs act or expect.
struct Stage {
    session: Session,
    now: Duration,
    random: u64,
}

fn start(credential: Option<Credential>, may_enrol: bool) -> Stage {
    let usual = super::enrolled(Timestamp::from_millis(1_000_000));
    let session = Session::new(Start { incarnation: 77, credential, may_enrol, ..usual });
    Stage { session, now: Duration::ZERO, random: 1 << 63 }
}

fn enrolled() -> Stage {
    let secret = Secret::new("s3cret");
    start(
        Some(Credential { instance: 0xabc, secret, step: Step::from_secs(10), expires_ms: None }),
        false,
    )
}

impl Stage {
    fn at(&mut self, second: u64) -> &mut Self {
        self.now = Duration::from_secs(second);
        self
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000 + i64::try_from(self.now.as_millis()).unwrap())
    }

    fn look(&mut self, devices: &[&str]) -> &mut Self {
        let mut readings = Readings::default();
        for device in devices {
            readings.total("node_disk_read_bytes_total", &[("device", device)], 1.0);
        }
        self.session.take(self.wall(), &readings);
        self
    }

    fn next(&mut self) -> Next {
        self.session.next(self.now, self.wall())
    }

    #[track_caller]
    fn push(&mut self) -> Push {
        match self.next() {
            Next::Push(push) => push,
            other => panic!("expected a push, found {other:?}"),
        }
    }

    fn told(&mut self, outcome: Result<Reply, Unreachable>) -> Result<Event, AgentError> {
        let at = Moment { now: self.now, random: self.random, wall_ms: 0 };
        self.session.push_answered(outcome, at)
    }

    #[track_caller]
    fn accept(&mut self, accepted: u64, durable: u64) -> &mut Self {
        let server_ms = self.wall().as_millis();
        let answer = PushAnswer { samples: 1, server_ms, ..taken(accepted, durable) };
        let event = self.told(reply(200, &answer)).unwrap();
        assert_eq!(event, Event::Accepted { refused_samples: 0, first_refusal: None });
        self
    }

    #[track_caller]
    fn trouble(&mut self, outcome: Result<Reply, Unreachable>) -> &mut Self {
        match self.told(outcome) {
            Ok(Event::Trouble(_)) => self,
            other => panic!("expected trouble, found {other:?}"),
        }
    }

    #[track_caller]
    fn waits_until(&mut self, second: f64) -> &mut Self {
        assert_eq!(self.next(), Next::Wait(Duration::from_secs_f64(second)));
        self
    }

    fn reported(&mut self, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut readings = Readings::default();
        self.session.follow(self.wall(), self.now);
        self.session.report(self.now, &mut readings);
        readings.value(metric, labels)
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the form an answer is told in")]
fn reply(status: u16, body: &impl serde::Serialize) -> Result<Reply, Unreachable> {
    Ok(super::reply(status, body))
}

fn status(status: u16) -> Result<Reply, Unreachable> {
    reply(status, &Problem { message: "for this test".into(), ..Problem::default() })
}

fn gap(resend_from: u64) -> Result<Reply, Unreachable> {
    let resend_from = Some(resend_from);
    reply(409, &Problem { error: "gap".into(), resend_from, ..Problem::default() })
}

fn dictionary() -> Result<Reply, Unreachable> {
    reply(
        409,
        &Problem { error: "dictionary".into(), resend_dictionary: true, ..Problem::default() },
    )
}

fn entry_count(push: &Push) -> usize {
    push.dictionary.len()
}

#[test]
fn entries_travel_until_the_push_that_held_them_is_taken() {
    let mut stage = enrolled();
    assert_eq!(stage.next(), Next::Idle);
    let first = stage.look(&["sda", "sdb"]).push();
    let wall = stage.wall().as_millis();
    assert_eq!((first.instance, first.incarnation, first.boot_id), (0xabc, 77, 0xb007));
    assert_eq!((first.number, first.floor, first.sent_ms), (1, 1, wall));
    assert_eq!((entry_count(&first), first.readings[0].at_ms), (2, wall));
    stage.trouble(Err(Unreachable("reset".into()))).at(1);
    assert_eq!(entry_count(&stage.push()), 2, "nobody knows whether they arrived");
    stage.accept(1, 1);
    assert_eq!(stage.next(), Next::Idle);
    let second = stage.at(10).look(&["sda", "sdc"]).push();
    let names: Vec<_> = second.dictionary.iter().map(|entry| entry.id).collect();
    assert_eq!((second.number, second.floor, names), (2, 2, vec![2]));
}

#[test]
fn a_repeated_batch_is_the_same_batch() {
    let mut stage = enrolled();
    let first = stage.look(&["sda"]).push();
    stage.trouble(status(503)).at(2).look(&["sda"]);
    let again = stage.push();
    assert_eq!((again.number, again.readings), (1, first.readings));
}

#[test]
fn failures_back_off_longer_and_success_forgets_them() {
    let mut stage = enrolled();
    stage.look(&["sda"]);
    // Half of each bound, because the dice stand in the middle: 1, 2, 4 … at most 60 seconds.
    let mut second = 0;
    for wait in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
        stage.at(second).push();
        stage.trouble(status(503));
        stage.waits_until(f64::from(u32::try_from(second).unwrap()) + wait);
        second += 100;
    }
    stage.at(second).push();
    stage.accept(1, 1).look(&["sda"]);
    stage.push();
    stage.trouble(Err(Unreachable("refused".into())));
    stage.waits_until(f64::from(u32::try_from(second).unwrap()) + 0.5);
    assert_eq!(stage.reported("agent_send_errors_total", &[("code", "503")]), Some(8.0));
}

#[test]
fn a_server_that_names_the_time_is_not_asked_before() {
    for code in [429, 503, 507] {
        let mut stage = enrolled();
        stage.look(&["sda"]).push();
        let retry_after = Some(Duration::from_secs(20));
        stage.trouble(Ok(Reply { status: code, retry_after, body: Vec::new() }));
        stage.waits_until(20.0).at(19).waits_until(20.0).at(20).push();
    }
}

#[test]
fn a_server_that_lost_its_tail_gets_it_again_and_knows_what_will_not_come() {
    let mut stage = enrolled();
    for number in 1..=3 {
        assert_eq!(stage.at(number * 10).look(&["sda"]).push().number, number);
        stage.accept(number, 1);
    }
    let fourth = stage.at(40).look(&["sda"]).push();
    assert_eq!((fourth.number, fourth.floor), (4, 2), "batch 1 is durable");
    stage.trouble(gap(1));
    for number in 2..=4 {
        let push = stage.push();
        assert_eq!((push.number, push.floor), (number, 2));
        stage.accept(number, 1);
    }
    assert_eq!(stage.next(), Next::Idle);
}

#[test]
fn a_server_without_the_dictionary_gets_it_with_the_same_batch() {
    let mut stage = enrolled();
    stage.look(&["sda", "sdb"]).push();
    stage.accept(1, 1);
    let second = stage.at(10).look(&["sda"]).push();
    assert_eq!(entry_count(&second), 0);
    let again = stage.trouble(dictionary()).push();
    assert_eq!((again.number, entry_count(&again)), (2, 1), "no more than this batch needs");
    stage.accept(2, 2);
    assert_eq!(entry_count(&stage.at(20).look(&["sda", "sdb"]).push()), 1);
}

#[test]
fn a_server_that_is_never_content_is_left_alone() {
    for complaint in [dictionary, || gap(5), || gap(1)] {
        let mut stage = enrolled();
        stage.look(&["sda"]).push();
        let mut rounds = 0;
        while stage.trouble(complaint()).next() != Next::Wait(Duration::from_millis(500)) {
            rounds += 1;
            assert!(rounds <= 2, "asked again at once for ever");
        }
    }
}

#[test]
fn a_batch_too_large_goes_in_halves() {
    let mut stage = enrolled();
    stage.look(&["sda", "sdb", "sdc", "sdd"]);
    assert_eq!(stage.push().readings[0].values.len(), 4);
    let half = stage.trouble(status(413)).push();
    assert_eq!((half.number, half.readings[0].values.len(), entry_count(&half)), (1, 2, 2));
    stage.accept(1, 1);
    let rest = stage.push();
    assert_eq!((rest.number, rest.readings[0].values.len(), entry_count(&rest)), (2, 2, 2));
}

#[test]
fn a_batch_that_will_never_be_taken_is_dropped_and_counted() {
    let mut stage = enrolled();
    stage.look(&["sda", "sdb"]).push();
    stage.trouble(status(400)).at(1).look(&["sda"]);
    let next = stage.push();
    assert_eq!((next.number, next.floor), (2, 2), "the floor says that 1 will not come");
    assert_eq!(stage.reported("agent_dropped_samples_total", &[("reason", "rejected")]), Some(2.0));
}

#[test]
fn an_answer_200_that_is_not_ours_takes_nothing_from_the_spool() {
    let mut stage = enrolled();
    stage.look(&["sda"]).push();
    let body = b"<html>Please log in</html>".to_vec();
    stage.trouble(Ok(Reply { status: 200, retry_after: None, body }));
    assert_eq!(stage.at(1).push().number, 1);
}

#[test]
fn what_is_read_before_enrolment_is_sent_after_it() {
    let mut stage = start(None, true);
    stage.look(&["sda"]);
    assert_eq!(stage.next(), Next::Enrol);
    let at = Moment { now: stage.now, random: stage.random, wall_ms: 0 };
    let away = stage.session.enrol_answered(Err(Unreachable("refused".into())), at).unwrap();
    assert_eq!(away, Event::Trouble("refused".into()));
    stage.waits_until(0.5).at(10).look(&["sda"]);
    assert_eq!(stage.next(), Next::Enrol);
    enrol(&mut stage, 0xdef);
    let push = stage.push();
    assert_eq!((push.instance, push.number, push.readings.len()), (0xdef, 1, 2));
}

fn enrol(stage: &mut Stage, id: u128) {
    let answer = EnrollAnswer {
        id,
        credential: "new".into(),
        labels: [].into(),
        step_ms: 10_000,
        expires_ms: None,
    };
    let at = Moment { now: stage.now, random: stage.random, wall_ms: 0 };
    let event = stage.session.enrol_answered(reply(201, &answer), at).unwrap();
    assert!(matches!(event, Event::Enrolled(credential) if credential.instance == id));
}

#[test]
fn a_refused_token_is_final_and_says_what_to_do() {
    for code in [401, 403, 410] {
        let mut stage = start(None, true);
        let at = Moment { now: stage.now, random: stage.random, wall_ms: 0 };
        let error = stage.session.enrol_answered(status(code), at).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("for this test") && text.ends_with("give it with --token"), "{text}");
    }
}

#[test]
fn a_pending_or_full_collector_is_asked_again_later() {
    for code in [202, 404, 429, 502, 503, 507] {
        let mut stage = start(None, true);
        assert_eq!(stage.next(), Next::Enrol);
        let at = Moment { now: stage.now, random: stage.random, wall_ms: 0 };
        let event = stage.session.enrol_answered(status(code), at).unwrap();
        assert!(matches!(event, Event::Trouble(_)), "{code}");
        stage.waits_until(0.5).at(1);
        assert_eq!(stage.next(), Next::Enrol);
    }
}

#[test]
fn a_forgotten_credential_is_replaced_and_nothing_is_lost() {
    let mut stage = enrolled_with_token();
    stage.look(&["sda"]).push();
    stage.accept(1, 1).at(10).look(&["sda"]).push();
    stage.trouble(status(401));
    assert_eq!(stage.next(), Next::Enrol);
    enrol(&mut stage, 0xdef);
    let push = stage.push();
    assert_eq!((push.instance, push.number, entry_count(&push)), (0xdef, 1, 1));
    assert_ne!(push.incarnation, 77);
    let refused_again = stage.told(status(401));
    assert!(matches!(refused_again, Err(AgentError::CredentialRefused { status: 401, .. })));
}

fn enrolled_with_token() -> Stage {
    let credential = enrolled().session.credential().cloned();
    start(credential, true)
}

#[test]
fn a_refused_credential_without_a_token_stops_the_agent() {
    let mut stage = enrolled();
    stage.look(&["sda"]).push();
    let error = stage.told(status(401)).unwrap_err();
    assert!(error.to_string().contains("enrol it again with --token"), "{error}");
}

#[test]
fn an_instance_that_was_put_out_does_not_enrol_itself_again() {
    for (status, word) in [(403, "forbidden"), (401, "revoked"), (401, "withdrawn")] {
        let mut stage = enrolled_with_token();
        stage.look(&["sda"]).push();
        let problem = Problem { error: word.into(), ..Problem::default() };
        let stopped = stage.told(reply(status, &problem));
        assert!(matches!(stopped, Err(AgentError::CredentialRefused { .. })), "{word}");
    }
}

#[test]
fn the_session_reports_on_itself() {
    let mut stage = enrolled();
    assert_eq!(stage.reported("agent_queue_batches", &[]), Some(0.0));
    assert_eq!(stage.reported("agent_clock_offset_seconds", &[]), None);
    stage.look(&["sda"]).push();
    assert_eq!(stage.reported("agent_queue_batches", &[]), Some(1.0));
    stage.accept(1, 1);
    assert_eq!(stage.reported("agent_queue_batches", &[]), Some(0.0));
    assert_eq!(stage.reported("agent_clock_offset_seconds", &[]), Some(0.0));
}
