//! What a person is told of the program's state.

use std::path::Path;

use rrd::{ManualClock, MemDisk};

use super::*;

fn health(disk: &MemDisk, clock: &Arc<ManualClock>) -> Health {
    let shared = || Arc::new(disk.clone());
    let config = journal::Config { segment_bytes: 64 << 10, ..journal::Config::default() };
    let (journal, _) =
        Journal::open(shared(), Path::new("/journal"), config, clock.clone()).unwrap();
    let (store, _) = Store::open(shared(), Path::new("/archives"), 0).unwrap();
    Health {
        journal,
        store: Arc::new(store),
        accounting: Arc::default(),
        registry: Arc::default(),
        started_at: clock.wall(),
        clock: clock.clone(),
        pulse: Arc::default(),
        scrubbed: Arc::default(),
        disk_limit: 1 << 30,
        tls: None,
    }
}

#[test]
fn a_disk_limit_that_is_near_is_told() {
    let (disk, clock) = (MemDisk::new(), Arc::new(ManualClock::default()));
    let health = health(&disk, &clock);
    for (bytes, level) in [(0, Level::Ok), (900 << 20, Level::Ok), (1000 << 20, Level::Warning)] {
        assert_eq!(health.limit(bytes).level, level, "{bytes}");
    }
}

#[test]
fn a_certificate_that_ends_is_told_a_fortnight_before_and_again_at_three_days() {
    let now = Timestamp::from_secs(1_790_000_000);
    for (days, level, note) in [
        (90, Level::Ok, "its certificate ends in 90 days"),
        (14, Level::Ok, "its certificate ends in 14 days"),
        (13, Level::Warning, "its certificate ends in 13 days; renew it"),
        (1, Level::Critical, "its certificate ends in 24 h; renew it"),
        (-3, Level::Critical, "its certificate ended 3 days ago; renew it"),
    ] {
        let told = certificate(Some(now.plus_millis(days * DAY_MS)), now);
        assert_eq!(told, (level, note.to_owned()), "{days}");
    }
    assert_eq!(certificate(None, now).0, Level::Warning);
}

#[test]
fn a_wall_clock_that_is_off_is_told() {
    let (disk, clock) = (MemDisk::new(), Arc::new(ManualClock::default()));
    let health = health(&disk, &clock);
    let level = || {
        let facts = health.facts();
        let mut facts = facts.iter().flat_map(|group| &group.facts);
        facts.find(|fact| fact.name == "Ahead of the wall clock").unwrap().level
    };
    let now = clock.wall();
    for (off_ms, expected) in [
        (0, Level::Ok),
        (119_000, Level::Ok),
        (121_000, Level::Warning),
        (-119_000, Level::Ok),
        (-121_000, Level::Warning),
    ] {
        clock.set_wall(now.plus_millis(off_ms));
        assert_eq!(level(), expected, "{off_ms} ms");
    }
}

#[test]
fn a_journal_that_has_stopped_makes_the_server_unready_and_says_why() {
    let (disk, clock) = (MemDisk::new(), Arc::new(ManualClock::default()));
    let health = health(&disk, &clock);
    let journal = health.journal.clone();
    health.pulse.ready.store(true, Ordering::Release);
    assert!(health.ready());
    disk.fail_sync("/journal/segment-000");
    let seq = journal.append(journal::TICK, &[]).unwrap();
    journal.wait_durable(seq).unwrap_err();
    assert!(!health.ready());
    let facts = health.facts();
    let mut facts = facts.iter().flat_map(|group| &group.facts);
    let state = facts.find(|fact| fact.name == "State").unwrap();
    assert_eq!(state.level, Level::Critical);
    assert!(state.note.contains("does not sync"), "{}", state.note);
}
