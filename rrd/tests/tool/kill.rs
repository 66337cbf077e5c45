//! A process that is killed, or a power cut, in the midst of a command: the old state or the new one.

use rrd::MemDisk;

use super::file::{Case, START_S, run_on};

/// Seeds of the power cut at each change.
const SEEDS: u64 = 4;

/// All that a command can see of the file.
fn seen(disk: &MemDisk) -> String {
    let answer = run_on(disk, &["dump", "f"]);
    answer.output + &answer.error
}

fn samples(from: i64, to: i64, every: usize) -> Vec<String> {
    let times = (from..=to).step_by(every);
    times.map(|offset| format!("{}:{}:{}", START_S + offset, offset % 97, offset * 3)).collect()
}

fn case() -> Case {
    let case = Case::create(&[
        "DS:a:GAUGE:120:U:U",
        "DS:b:COUNTER:120:U:U",
        "RRA:AVERAGE:0.5:1:16",
        "RRA:MAX:0.5:5:7",
        "RRA:LAST:0.5:2:33",
    ]);
    let before = samples(60, 7 * 60, 60);
    let words: Vec<&str> = before.iter().map(String::as_str).collect();
    case.does(&[&["update", "f"], &words[..]].concat());
    case
}

/// Kills `words` at every change it makes, in both ways, from every state that `before` leads to.
#[track_caller]
fn check(words: &[&str]) {
    let old = case();
    let old_seen = seen(&old.disk);
    let new = case();
    new.does(words);
    let new_seen = seen(&new.disk);
    assert_ne!(old_seen, new_seen, "{words:?} changes something");
    let mut outcomes = [0, 0];
    for at in 0.. {
        let mut is_done = false;
        for seed in 0..=SEEDS {
            let case = case();
            case.disk.stop_after(at);
            is_done = case.run(words).is_ok();
            let after = if seed == SEEDS { case.disk.kill() } else { case.disk.crash(seed) };
            let found = seen(&after);
            assert!(found == old_seen || found == new_seen, "change {at}, seed {seed}: {found}");
            assert!(!is_done || found == new_seen, "what was done lasts: {at}, {seed}");
            outcomes[usize::from(found == new_seen)] += 1;
            // And it goes on from there.
            let sample = format!("{}:1:1", START_S + 86_400);
            let answer = run_on(&after, &["update", "f", &sample]);
            assert!(answer.is_ok(), "change {at}, seed {seed}: {}", answer.error);
        }
        if is_done {
            break;
        }
    }
    assert!(outcomes.into_iter().all(|count| count > 0), "{outcomes:?}");
}

#[test]
fn a_killed_update_leaves_the_old_state_or_the_new_one() {
    let one = format!("{}:1:2000", START_S + 8 * 60);
    check(&["update", "f", &one]);
}

#[test]
fn a_killed_update_of_more_than_a_ring_does_too() {
    let many = samples(8 * 60, 60 * 60, 60);
    let words: Vec<&str> = many.iter().map(String::as_str).collect();
    check(&[&["update", "f"], &words[..]].concat());
}

#[test]
fn a_killed_update_after_a_gap_longer_than_the_ring_does_too() {
    let late = format!("{}:1:1", START_S + 40_000);
    check(&["update", "f", &late]);
}

#[test]
fn a_killed_change_of_definitions_does_too() {
    check(&["tune", "f", "-r", "a:other", "-h", "b:7m"]);
}

#[test]
fn a_killed_create_leaves_the_old_file_or_the_new_one() {
    let start = START_S.to_string();
    let words = ["create", "f", "-b", &start, "DS:z:GAUGE:600:U:U", "RRA:AVERAGE:0.5:1:99"];
    let old_seen = seen(&case().disk);
    for at in 0.. {
        let case = case();
        case.disk.stop_after(at);
        let is_done = case.run(&words).is_ok();
        let found = seen(&case.disk.crash(at));
        assert!(found == old_seen || found.contains("<name> z </name>"), "change {at}: {found}");
        if is_done {
            assert_ne!(found, old_seen, "what was done lasts");
            break;
        }
    }
}

#[test]
fn updates_one_by_one_are_the_same_as_all_at_once() {
    let (one_by_one, at_once) = (case(), case());
    let all = samples(8 * 60, 90 * 60, 45);
    for sample in &all {
        one_by_one.does(&["update", "f", sample]);
    }
    let words: Vec<&str> = all.iter().map(String::as_str).collect();
    at_once.does(&[&["update", "f"], &words[..]].concat());
    assert_eq!(seen(&one_by_one.disk), seen(&at_once.disk));
}
