//! Replay: the journal again gives the same alerts, whatever was lost in between.

use std::fmt::Write as _;

use proptest::prelude::*;
use query::memory::MemoryRead;
use rrd::Timestamp;

use super::world::{Frame, Worker, load_frame, tick};
use crate::{FRAME_RULES, FRAME_TRANSITIONS, State};

const RULE: &str = r#"
[[rule]]
name = "load"
expr = "load"
warning = "> 80"
critical = "> 95"
for = "20s"
"#;

/// Two instances: one rises and falls, one alarms and then stops sending.
fn script() -> Vec<Frame> {
    let mut frames = Vec::new();
    for (at, load) in (1..).zip([10.0, 85.0, 85.0, 85.0, 97.0, 97.0, 97.0, 85.0, 60.0, 60.0]) {
        frames.push(load_frame(at * 10, "web-1", load));
        if at < 6 {
            frames.push(load_frame(at * 10 + 1, "web-2", 99.0));
        }
        frames.push(tick(at * 10 + 5));
    }
    frames.extend((11..20).map(|at| tick(at * 10 + 5)));
    frames
}

fn live(script: &[Frame]) -> Worker {
    let mut worker = Worker::with_rules(RULE);
    for frame in script {
        worker.feed(frame.clone());
    }
    worker
}

/// What two workers must agree on: everything told, its ids, and the whole state.
fn essence(worker: &Worker) -> (Vec<String>, Vec<u8>) {
    let history = worker.engine.view().history;
    (history.iter().map(|t| format!("{} {}", t.id, t.title())).collect(), worker.engine.snapshot())
}

#[test]
fn the_script_tells_what_it_should() {
    let worker = live(&script());
    let told: Vec<_> = worker.told().into_iter().map(|(_, title)| title).collect();
    assert_eq!(
        told,
        [
            "[CRITICAL] web-2: load 99 (> 95)",
            "[WARNING] web-1: load 85 (> 80)",
            "[CRITICAL] web-1: load 97 (> 95)",
            "[WARNING] web-1: load 85 (> 80)",
            "[OK] web-1: load 60 again",
            "[UNKNOWN] web-2: load no data",
            "[UNKNOWN] web-1: load no data",
        ]
    );
    let view = worker.engine.view();
    assert_eq!(view.open.len(), 2);
    assert_eq!(view.waiting_count, 6 * 2, "the last was never an alarm: nobody is told");
}

#[test]
fn a_replayed_journal_gives_the_same_ids_and_the_same_state() {
    let before = live(&script());
    let mut after = Worker::replaying(before.journal.clone());
    after.go_live();
    assert_eq!(after.journal, before.journal, "nothing was owed");
    assert_eq!(essence(&after), essence(&before));
}

/// Every cut of the journal: in some, transitions were judged but not appended, in others
/// appended but not applied. What follows must be told once, with the same ids.
#[test]
fn a_crash_anywhere_loses_no_transition_and_doubles_none() {
    let whole = live(&script());
    let mut owed_somewhere = false;
    for cut in 1..whole.journal.len() {
        let mut worker = Worker::replaying(whole.journal[..cut].to_vec());
        worker.go_live();
        owed_somewhere |= worker.journal.len() > cut;
        for frame in &whole.journal[cut..] {
            if frame.kind != FRAME_TRANSITIONS {
                worker.feed(frame.clone());
            }
        }
        assert_eq!(essence(&worker).0, essence(&whole).0, "cut after frame {cut}");
    }
    assert!(owed_somewhere, "some cut fell between judging and appending");
}

#[test]
fn a_checkpoint_anywhere_and_the_rest_of_the_journal_give_the_same_state() {
    let frames = script();
    let whole = live(&frames);
    let mut worker = Worker::with_rules(RULE);
    for frame in &frames {
        worker.feed(frame.clone());
        let mut restored = worker.restarted(whole.journal.clone());
        restored.go_live();
        assert_eq!(essence(&restored), essence(&whole));
    }
}

#[test]
fn a_refused_append_is_made_good_at_the_next_step_in_order() {
    let mut worker = Worker::with_rules(RULE);
    let mut refused = 0;
    for frame in script() {
        let bodies = worker.engine.advance(frame.stamp, &worker.loads);
        if !bodies.is_empty() && refused < 3 {
            refused += 1;
            worker.engine.append_refused();
            continue;
        }
        for body in bodies {
            worker.journal.push(Frame { stamp: frame.stamp, kind: FRAME_TRANSITIONS, body });
        }
        worker.feed(frame);
    }
    let view = worker.engine.view();
    let sequences = |rule: &str| -> Vec<u32> {
        let of = view.history.iter().rev().filter(|t| t.subject() == rule);
        of.map(|t| t.sequence).take(3).collect()
    };
    assert_eq!(refused, 3);
    assert_eq!(sequences("web-1"), [1, 2, 3]);
}

#[test]
fn a_frame_that_comes_twice_changes_nothing() {
    let mut worker = live(&script());
    let before = essence(&worker).0;
    let twice: Vec<Frame> =
        worker.journal.iter().filter(|frame| frame.kind == FRAME_TRANSITIONS).cloned().collect();
    let waiting = worker.engine.view().waiting_count;
    for frame in twice {
        worker.feed(Frame { stamp: worker.journal.last().unwrap().stamp, ..frame });
    }
    assert_eq!(essence(&worker).0, before);
    assert_eq!(worker.engine.view().waiting_count, waiting);
}

/// After an upgrade that judges otherwise: what the journal told is what holds.
#[test]
fn the_journal_wins_where_judging_again_differs() {
    let told = live(&script());
    let milder = RULE.replace("> 80", "> 84").replace("20s", "10s");
    let body = crate::Engine::rules_frame(&[("rules/test.toml".to_owned(), milder)]).unwrap();
    let mut journal = told.journal.clone();
    let rules = journal.iter_mut().find(|frame| frame.kind == FRAME_RULES).unwrap();
    rules.body = body;
    let worker = Worker::replaying(journal);
    let open = worker.engine.view().open;
    for alert in &told.engine.view().open {
        let same = open.iter().any(|other| other.incident == alert.incident);
        assert!(same, "{} stays open", alert.incident);
    }
}

#[test]
fn changed_rules_are_in_force_from_their_frame_on() {
    let mut worker = live(&script());
    let stamp = worker.journal.last().unwrap().stamp;
    let body = crate::Engine::rules_frame(&[]).unwrap();
    worker.feed(Frame { stamp, kind: FRAME_RULES, body });
    worker.feed(tick(300));
    let view = worker.engine.view();
    assert!(view.open.is_empty() && view.rules.is_empty(), "{:?}", view.open);
    let last = &view.history[0];
    assert_eq!((last.to, last.reason), (State::Ok, crate::Reason::RuleRemoved));
}

/// The server was off for an hour: nobody could send, and senders are given time to find back.
#[test]
fn a_pause_of_the_server_itself_makes_nobody_unknown() {
    let mut worker = Worker::with_rules(RULE);
    for at in 1..6 {
        worker.feed(load_frame(at * 10, "web-1", 10.0));
        worker.feed(load_frame(at * 10, "web-2", 10.0));
    }
    for at in 0..40 {
        worker.feed(tick(3_600 + at * 5));
    }
    assert_eq!(worker.told(), []);
    for at in 40..80 {
        worker.feed(load_frame(3_600 + at * 5, "web-1", 10.0));
    }
    let told: Vec<_> = worker.told().into_iter().map(|(_, title)| title).collect();
    assert_eq!(told, ["[UNKNOWN] web-2: load no data"], "who did not come back is missing");
    let mut after = Worker::replaying(worker.journal.clone());
    after.go_live();
    assert_eq!(essence(&after), essence(&worker));
}

/// A rule that cannot be evaluated has no data, and says why on the page.
#[test]
fn a_rule_that_fails_shows_its_reason_and_its_alerts_become_unknown() {
    let mut worker = Worker::with_rules(RULE);
    for at in 1..6 {
        worker.feed(load_frame(at * 10, "web-1", 99.0));
    }
    let broken = RULE.replace("expr = \"load\"", "expr = \"load / on (job) load\"");
    let body = crate::Engine::rules_frame(&[("rules/test.toml".to_owned(), broken)]).unwrap();
    worker.feed(Frame { stamp: worker.journal.last().unwrap().stamp, kind: FRAME_RULES, body });
    for at in 6..10 {
        worker.feed(load_frame(at * 10, "web-1", 99.0));
        worker.feed(load_frame(at * 10, "web-2", 99.0));
    }
    let view = worker.engine.view();
    assert!(view.rules[0].problem.is_some(), "{:?}", view.rules);
    assert_eq!(view.open[0].state, State::Unknown);
}

#[test]
fn damaged_frames_and_snapshots_are_refused_by_name() {
    let mut worker = live(&script());
    for kind in [FRAME_RULES, FRAME_TRANSITIONS, crate::FRAME_DELIVERY] {
        let error = worker.engine.apply(u64::MAX, kind, &[255; 40]).unwrap_err();
        assert!(error.to_string().contains("does not decode"), "{error}");
    }
    let mut snapshot = worker.engine.snapshot();
    snapshot.truncate(snapshot.len() / 2);
    assert!(crate::Engine::restore(&snapshot, Vec::new()).is_err());
    assert!(crate::Engine::restore(&[], Vec::new()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn live_is_replay(loads in proptest::collection::vec((0_u8..3, 0.0..110.0_f64), 1..60), cut in 0_usize..80) {
        let script: Vec<Frame> = (1..)
            .zip(&loads)
            .map(|(at, (who, load))| load_frame(at * 7, &format!("web-{who}"), *load))
            .collect();
        let whole = live(&script);
        let cut = 1 + cut % whole.journal.len();
        let mut worker = Worker::replaying(whole.journal[..cut].to_vec());
        worker.go_live();
        for frame in &whole.journal[cut..] {
            if frame.kind != FRAME_TRANSITIONS {
                worker.feed(frame.clone());
            }
        }
        prop_assert_eq!(essence(&worker).0, essence(&whole).0);
    }
}

#[test]
fn a_storm_fits_the_frames_of_the_smallest_journal() {
    let mut text = "archives 10s:100\nvisible 20s\n".to_owned();
    for instance in 0..3000 {
        writeln!(text, "start 10s\nload{{instance=\"web-{instance}\"}} 99").unwrap();
    }
    let read = MemoryRead::load(&text).unwrap();
    let Worker { mut engine, .. } = Worker::with_rules(RULE);
    let mut lens = Vec::new();
    for second in [10, 20, 30] {
        lens.extend(engine.advance(Timestamp::from_secs(second), &read).iter().map(Vec::len));
    }
    // A quarter of a segment, of which a journal of 16 MiB has eight.
    assert!(lens.len() > 1 && lens.iter().all(|len| *len < (16 << 20) / 8 / 4 - 4096), "{lens:?}");
}
