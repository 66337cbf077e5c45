//! The joined parts with the power cut at every change of the disk: intake, journal, worker, rounds.

mod chance;
mod failing;
mod power;
mod random;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use http::StatusCode;
use rrd::{Disk, MemDisk};
use tokio::runtime::Runtime;

use super::*;
use crate::recovery::{Folders, recover};
use world::{Act, DATA, Server, World, channels, config};

fn script() -> Vec<Act> {
    use Act::{Deliver, Enroll, Push, Round, Rules, Silence, Withdraw};
    let mut acts = vec![
        Enroll("web"),
        Push("web", 1, 1.0),
        Rules,
        Push("web", 1, 7.0),
        Round,
        Push("web", 3, 8.0),
        Enroll("db"),
        Push("db", 1, 10.0),
        Round,
        Push("web", 9, 20.0),
        Push("db", 1, 11.0),
        Deliver,
        Round,
        Silence(60),
        Push("web", 1, 1.0),
        Withdraw("db"),
        Push("web", 1, 1.0),
        Round,
    ];
    for turn in 0..4 {
        acts.extend([Push("web", 1, 6.0), Push("web", 2, f64::from(turn)), Round]);
    }
    acts.extend([Deliver, Enroll("db2"), Push("db2", 30, 6.0), Silence(200), Push("db2", 2, 6.0)]);
    acts
}

/// The script with the power gone after so many changes of each start, and once more at its end.
/// `after` says what the next start finds. Answers how many changes the first disk saw.
fn check(
    runtime: &Runtime,
    script: &[Act],
    faults: &[u64],
    after: &dyn Fn(&MemDisk) -> MemDisk,
) -> u64 {
    let mut world = World::new(runtime);
    world.faults = faults.iter().rev().copied().collect();
    let first = world.disk.clone();
    if !world.start() {
        world.restart(after);
    }
    for &act in script {
        while !world.perform(act) {
            world.restart(after);
        }
    }
    if !world.compare() {
        world.restart(after);
    }
    let changes = first.op_count();
    // What a start has found after a kill must outlast the power.
    let seed = faults.iter().sum();
    world.restart(&|disk| disk.crash(seed));
    changes
}

/// Checks every crash point, a few at a time: most of the time goes by waiting for commits.
fn check_all(name: &str, script: &[Act], after: impl Fn(u64, &MemDisk) -> MemDisk + Sync) {
    const AT_ONCE: usize = 8;
    let runtime = Runtime::new().unwrap();
    let changes = check(&runtime, script, &[], &MemDisk::kill);
    assert!(changes > 100, "the script makes {changes} changes");
    std::thread::scope(|scope| {
        for thread in (0..).take(AT_ONCE) {
            let (runtime, after) = (&runtime, &after);
            std::thread::Builder::new()
                .name(format!("{name} {thread}"))
                .spawn_scoped(scope, move || {
                    for at in (thread..changes).step_by(AT_ONCE) {
                        // The second often falls into the recovery, or into a round again.
                        let faults = [at, at * 13 % 61];
                        let crash = AssertUnwindSafe(|| {
                            check(runtime, script, &faults, &|disk| after(at, disk))
                        });
                        let outcome = catch_unwind(crash);
                        assert!(outcome.is_ok(), "{name} after {faults:?} changes");
                    }
                })
                .unwrap();
        }
    });
}

/// Where the journal is full, its reserve included, and an alert is owed: the server starts, and a
/// round makes room.
#[test]
fn a_start_finds_its_journal_full_and_goes_on() {
    let runtime = Runtime::new().unwrap();
    let mut world = World::new(&runtime);
    assert!(world.start());
    for act in [Act::Enroll("web"), Act::Rules, Act::Push("web", 1, 7.0)] {
        assert!(world.perform(act));
    }
    // Its worker sees none of these, the last of which judge the row above.
    let journal = world.server.as_ref().unwrap().worker.journal.clone();
    while let Ok(seq) = journal.append_reserved(journal::TICK, &[]) {
        world.clock.advance(Duration::from_secs(1));
        journal.wait_durable(seq).unwrap();
    }
    drop(journal);
    world.restart(&MemDisk::kill);
    let Server { worker, .. } = world.server.as_mut().unwrap();
    assert_eq!(lock(&worker.state.engine).view().open.len(), 0, "the alert is not in the journal");
    assert_eq!(lock(&worker.state.engine).end_replay().len(), 1, "but it is owed");
    let refused = worker.journal.append_reserved(journal::TICK, &[]);
    assert_eq!(refused, Err(journal::Refused::Full));
    assert!(world.perform(Act::Round));
    assert!(world.perform(Act::Push("web", 1, 8.0)));
    let Server { worker, .. } = world.server.as_mut().unwrap();
    assert_eq!(lock(&worker.state.engine).view().open.len(), 1);
    world.restart(&|disk| disk.crash(1));
}

#[test]
fn a_journal_that_nobody_writes_to_gets_ticks() {
    let runtime = Runtime::new().unwrap();
    let mut world = World::new(&runtime);
    assert!(world.start());
    let Server { worker, .. } = world.server.take().unwrap();
    let (journal, stop) = (worker.journal.clone(), Arc::clone(&worker.stop));
    let before = journal.stats().applied;
    let thread = std::thread::spawn(move || worker.run());
    while journal.stats().applied < before + 3 {
        world.clock.advance(Duration::from_millis(100));
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Release);
    thread.join().unwrap();
}

#[test]
fn a_start_without_the_journal_touches_nothing() {
    let runtime = Runtime::new().unwrap();
    let mut world = World::new(&runtime);
    assert!(world.start());
    for act in [Act::Enroll("web"), Act::Push("web", 1, 7.0), Act::Round] {
        assert!(world.perform(act));
    }
    world.server = None;
    for path in world.disk.list(&Path::new(DATA).join("journal")).unwrap() {
        world.disk.remove(&path).unwrap();
    }
    let (before, clock) = (world.disk.op_count(), world.clock.clone() as Arc<dyn Clock>);
    let disk: Arc<dyn Disk> = Arc::new(world.disk.clone());
    let refused = recover(&config(), &Folders { data: DATA.into() }, &disk, &clock, channels());
    let refused = refused.err().unwrap().to_string();
    assert!(refused.starts_with("/data/journal: empty, though there are archives"), "{refused}");
    assert_eq!(world.disk.op_count(), before);
}

/// Samples of known series are taken as long as the journal has room; nothing that was acknowledged
/// depends on the round that cannot be written.
#[test]
fn a_round_on_a_full_disk_loses_nothing() {
    const ROOM: u64 = 1 << 40;
    let runtime = Runtime::new().unwrap();
    let mut world = World::new(&runtime);
    assert!(world.start());
    for act in [Act::Enroll("web"), Act::Rules, Act::Push("web", 1, 7.0), Act::Round, Act::Round] {
        assert!(world.perform(act));
    }
    let recorded = |world: &World<'_>| {
        journal::checkpoint(&world.disk, &Path::new(DATA).join("journal")).unwrap().seq
    };
    for (seed, name) in (0..).zip(["a", "b", "c", "d", "e"]) {
        world.disk.set_capacity(ROOM);
        let free = world.disk.free_bytes(Path::new(DATA)).unwrap();
        world.disk.set_capacity(ROOM - free);
        let before = recorded(&world);
        for act in [Act::Enroll(name), Act::Push("web", 1, 9.0), Act::Round] {
            assert!(world.perform(act));
        }
        assert_eq!(recorded(&world), before, "the snapshots have no room to grow");
        world.restart(&|disk| disk.crash(seed));
        assert!(world.perform(Act::Round));
        assert!(recorded(&world) > before);
        world.restart(&|disk| disk.crash(seed));
    }
}

#[test]
fn whose_archive_is_damaged_is_told_to_send_later_and_the_others_go_on() {
    let runtime = Runtime::new().unwrap();
    let mut world = World::new(&runtime);
    assert!(world.start());
    for act in [Act::Enroll("web"), Act::Enroll("db"), Act::Push("db", 1, 1.0), Act::Round] {
        assert!(world.perform(act));
    }
    let archives = Path::new(DATA).join("archives");
    let [db] = &world.disk.list(&archives).unwrap()[..] else { panic!("one archive") };
    assert!(world.perform(Act::Push("web", 1, 1.0)) && world.perform(Act::Push("db", 1, 2.0)));
    world.server = None;
    world.disk.open(db).unwrap().write_at(b"rot", 0).unwrap();
    assert!(world.start());
    let (status, answer) = world.send_batch("db", 1, 3.0);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{}", String::from_utf8_lossy(&answer));
    assert!(world.perform(Act::Push("web", 1, 2.0)) && world.perform(Act::Round));
    let store = &world.server.as_ref().unwrap().worker.state.store;
    let what: Vec<String> = store.damage().into_iter().map(|damage| damage.what).collect();
    assert_eq!(what.len(), 2, "{what:?}");
    assert_eq!(what[1], "samples that the journal holds for it are not applied");
    let aside = world.disk.list(&Path::new(DATA).join("aside")).unwrap();
    assert_eq!(aside.len(), 1, "they are set aside: {aside:?}");
}

#[test]
fn a_kill_at_any_change_of_the_disk_loses_nothing() {
    check_all("kill", &script(), |_, disk| disk.kill());
}

#[test]
fn a_power_cut_at_any_change_of_the_disk_loses_nothing() {
    check_all("power cut", &script(), |at, disk| disk.crash(at));
}
