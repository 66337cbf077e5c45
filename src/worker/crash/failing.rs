//! One failing file among many: it is set apart, the others go on, and nothing of it is lost.

use std::path::Path;

use journal::Record;
use rrd::{Disk, MemDisk};
use tokio::runtime::Runtime;

use super::world::{Act, DATA, World};
use super::{check, check_all};

use Act::{Enroll, Fail, Heal, Push, Remove, Round, Rules, Silence, Withdraw};

fn perform(world: &mut World<'_>, acts: &[Act]) {
    for &act in acts {
        assert!(world.perform(act), "{act:?}");
    }
}

fn record(world: &World<'_>) -> Record {
    journal::checkpoint(&world.disk, &Path::new(DATA).join("journal")).unwrap()
}

fn excepted(world: &World<'_>) -> Vec<(String, u64)> {
    record(world).excepted
}

fn aside(world: &World<'_>) -> Vec<std::path::PathBuf> {
    world.disk.list(&Path::new(DATA).join("aside")).unwrap()
}

/// Three instances whose archives have been written, and frames for each since.
fn fleet(runtime: &Runtime) -> World<'_> {
    let mut world = World::new(runtime);
    assert!(world.start());
    let names = ["web", "db", "app"];
    perform(&mut world, &names.map(Enroll));
    perform(&mut world, &[Rules]);
    perform(&mut world, &names.map(|name| Push(name, 1, 1.0)));
    perform(&mut world, &[Round]);
    perform(&mut world, &names.map(|name| Push(name, 2, 7.0)));
    world
}

#[test]
fn one_failing_file_among_many_is_excepted_and_the_others_go_on() {
    let runtime = Runtime::new().unwrap();
    let mut world = fleet(&runtime);
    let written = record(&world).seq;
    perform(&mut world, &[Fail("db"), Round]);
    assert!(record(&world).seq > written, "the round counts for the others");
    assert_eq!(excepted(&world), [(world.id("db").to_string(), written)]);
    assert_eq!(aside(&world).len(), 1);
    // `Push` looks for 503 where an instance is set apart, and for 200 elsewhere.
    assert!(world.is_apart("db") && !world.is_apart("web"));
    for turn in 0..50 {
        let value = f64::from(turn);
        perform(&mut world, &[Push("web", 3, value), Push("db", 1, value), Push("app", 1, value)]);
        perform(&mut world, &[Round]);
    }
    assert_eq!(excepted(&world), [(world.id("db").to_string(), written)], "it stands where it did");
    assert!(world.server.as_ref().unwrap().worker.journal.fill() < 0.5, "the journal is trimmed");
    let held: u64 =
        aside(&world).iter().map(|path| world.disk.open(path).unwrap().len().unwrap()).sum();
    assert!(held < 4096, "nothing came in, so that nothing more is set aside: {held}");
}

#[test]
fn an_archive_that_can_be_written_again_is_taken_back_without_a_restart() {
    let runtime = Runtime::new().unwrap();
    let mut world = fleet(&runtime);
    perform(&mut world, &[Fail("db"), Round, Push("web", 1, 1.0), Round]);
    assert!(world.is_apart("db"));
    perform(&mut world, &[Heal, Push("web", 1, 2.0), Round]);
    assert!(!world.is_apart("db"));
    assert_eq!((excepted(&world), aside(&world)), (Vec::new(), Vec::new()));
    perform(&mut world, &[Push("db", 1, 3.0)]);
    world.compare();
    for seed in 0..10 {
        world.restart(&|disk| disk.crash(seed));
        perform(&mut world, &[Push("db", 1, 3.0), Round]);
    }
}

#[test]
fn a_start_applies_what_was_set_aside_once_and_removes_it_after_a_round() {
    for seed in 0..20 {
        let runtime = Runtime::new().unwrap();
        let mut world = fleet(&runtime);
        // Labels end with a withdrawal, of which the frame is not among those set aside.
        perform(&mut world, &[Fail("db"), Withdraw("app"), Push("web", 1, 2.0), Round]);
        perform(&mut world, &[Push("web", 1, 2.0), Round, Silence(100), Round]);
        assert_eq!(aside(&world).len(), 1, "seed {seed}");
        world.restart(&|disk| disk.crash(seed));
        assert!(!world.is_apart("db"));
        world.restart(&|disk| disk.crash(seed));
        assert_eq!((aside(&world).len(), excepted(&world).len()), (1, 1), "until a round counts");
        perform(&mut world, &[Push("db", 1, 3.0), Round]);
        assert_eq!((aside(&world), excepted(&world)), (Vec::new(), Vec::new()));
        world.restart(&|disk| disk.crash(seed));
    }
}

/// What a crash between the journal's record and the removal of such files leaves behind.
#[test]
fn frames_set_aside_of_an_instance_that_went_never_reach_the_one_that_comes_after_it() {
    let runtime = Runtime::new().unwrap();
    for seed in 0..10 {
        let mut world = fleet(&runtime);
        perform(&mut world, &[Fail("db"), Round, Heal]);
        let [path] = &aside(&world)[..] else { panic!("one file") };
        let mut bytes = vec![0; world.disk.open(path).unwrap().len().unwrap().try_into().unwrap()];
        world.disk.open(path).unwrap().read_at(&mut bytes, 0).unwrap();
        perform(&mut world, &[Remove("db"), Round]);
        assert_eq!((excepted(&world), aside(&world)), (Vec::new(), Vec::new()));
        let file = world.disk.create(path).unwrap();
        file.write_at(&bytes, 0).unwrap();
        file.sync_data().unwrap();
        world.disk.sync_dir(path.parent().unwrap()).unwrap();
        world.restart(&|disk| disk.crash(seed));
        perform(&mut world, &[Push("db", 1, 3.0), Push("db", 2, 4.0)]);
        world.restart(&|disk| disk.crash(seed));
        perform(&mut world, &[Push("db", 1, 5.0), Round]);
        assert_eq!(aside(&world), [] as [std::path::PathBuf; 0], "nobody will ever ask for it");
        world.restart(&|disk| disk.crash(seed));
    }
}

#[test]
fn frames_set_aside_of_an_instance_that_is_no_more_go_with_the_next_round() {
    let runtime = Runtime::new().unwrap();
    let mut world = fleet(&runtime);
    perform(&mut world, &[Fail("db"), Round, Heal]);
    let path = aside(&world).remove(0);
    perform(&mut world, &[Remove("db"), Round]);
    world.disk.create(&path).unwrap().sync_data().unwrap();
    world.restart(&MemDisk::kill);
    perform(&mut world, &[Push("web", 1, 5.0), Round]);
    assert_eq!(aside(&world), [] as [std::path::PathBuf; 0]);
}

#[test]
fn an_excepted_archive_that_is_missing_stays_named_until_it_is_back() {
    let runtime = Runtime::new().unwrap();
    let mut world = fleet(&runtime);
    perform(&mut world, &[Fail("db"), Round, Heal]);
    let named = excepted(&world);
    let file = world.archive("db");
    let away = file.with_extension("away");
    world.server = None;
    world.disk.rename(&file, &away).unwrap();
    world.disk.sync_dir(file.parent().unwrap()).unwrap();
    assert!(world.start());
    assert!(world.is_apart("db"), "or its first sample would begin another archive");
    perform(&mut world, &[Push("db", 1, 5.0), Push("web", 1, 5.0), Round]);
    assert_eq!((excepted(&world), aside(&world).len()), (named, 1));
    world.server = None;
    world.disk.rename(&away, &file).unwrap();
    world.disk.sync_dir(file.parent().unwrap()).unwrap();
    world.restart(&MemDisk::kill);
    perform(&mut world, &[Push("db", 1, 5.0), Round]);
    assert_eq!((excepted(&world), aside(&world).len()), (Vec::new(), 0));
    world.restart(&|disk| disk.crash(1));
}

#[test]
fn an_archive_that_cannot_be_used_is_given_up_with_the_round_after_its_removal() {
    let runtime = Runtime::new().unwrap();
    for (seed, is_missing) in (0..12).zip([true, false].into_iter().cycle()) {
        let mut world = fleet(&runtime);
        perform(&mut world, &[Fail("db"), Round, Heal]);
        let file = world.archive("db");
        world.server = None;
        if is_missing {
            world.disk.remove(&file).unwrap();
            world.disk.sync_dir(file.parent().unwrap()).unwrap();
        } else {
            world.disk.open(&file).unwrap().write_at(b"rot", 0).unwrap();
        }
        assert!(world.start());
        perform(&mut world, &[Remove("db"), Push("db", 1, 5.0)]);
        assert!(world.is_apart("db"), "until its record counts");
        perform(&mut world, &[Round]);
        assert_eq!((excepted(&world), aside(&world).len()), (Vec::new(), 0));
        assert!(!world.is_apart("db") && world.disk.open(&file).is_err());
        perform(&mut world, &[Push("db", 1, 6.0)]);
        world.restart(&|disk| disk.crash(seed));
        perform(&mut world, &[Push("db", 1, 7.0), Round]);
        world.restart(&|disk| disk.crash(seed));
    }
}

/// The registry forgets no withdrawal; the file has to hear of it at the next start.
#[test]
fn a_withdrawal_while_the_file_fails_ends_its_series_after_a_start() {
    let runtime = Runtime::new().unwrap();
    let mut world = fleet(&runtime);
    perform(&mut world, &[Fail("db"), Round, Withdraw("db"), Round, Push("web", 1, 2.0), Round]);
    world.restart(&|disk| disk.crash(1));
    perform(&mut world, &[Push("web", 1, 2.0), Round]);
    assert_eq!((aside(&world), excepted(&world)), (Vec::new(), Vec::new()));
    world.restart(&|disk| disk.crash(1));
}

/// Set apart by a reader while nothing had changed: no frame is set aside, but a failed round has left
/// a slot in its file that must never count.
#[test]
fn what_a_failed_round_left_in_a_silent_file_is_written_over_before_the_record_forgets_it() {
    let runtime = Runtime::new().unwrap();
    for seed in 0..10 {
        let mut world = fleet(&runtime);
        // Many series, so that their accumulators are more than one sector.
        perform(&mut world, &[Push("db", 40, 1.0), Round, Push("db", 40, 3.0), Round]);
        let store = world.server.as_ref().unwrap().worker.state.store.clone();
        store.suspend(world.id("db"), "said by a test".to_owned());
        drop(store);
        perform(&mut world, &[Fail("db"), Push("web", 1, 2.0), Round]);
        assert_eq!((aside(&world).len(), excepted(&world).len()), (0, 1));
        world.restart(&|disk| disk.crash(seed));
        perform(&mut world, &[Push("web", 1, 2.0), Round]);
        assert_eq!(excepted(&world), []);
        world.restart(&|disk| disk.crash(seed));
    }
}

#[test]
fn a_file_that_a_start_cannot_open_either_keeps_its_own_sequence() {
    let runtime = Runtime::new().unwrap();
    let mut world = fleet(&runtime);
    perform(&mut world, &[Fail("db"), Round]);
    let before = excepted(&world);
    world.server = None;
    let file = world.disk.open(&world.archive("db")).unwrap();
    let mut magic = [0; 3];
    file.read_at(&mut magic, 0).unwrap();
    file.write_at(b"rot", 0).unwrap();
    world.disk.heal();
    assert!(world.start());
    perform(&mut world, &[Push("web", 1, 2.0), Push("db", 1, 2.0), Round]);
    assert_eq!(excepted(&world), before);
    world.server = None;
    let file = world.disk.open(&world.archive("db")).unwrap();
    file.write_at(&magic, 0).unwrap();
    file.sync_data().unwrap();
    world.restart(&MemDisk::kill);
    perform(&mut world, &[Push("db", 1, 2.0), Round]);
    assert_eq!((aside(&world), excepted(&world)), (Vec::new(), Vec::new()));
}

#[test]
fn a_file_that_fails_again_after_its_frames_were_applied_stands_where_it_did() {
    let runtime = Runtime::new().unwrap();
    let mut world = fleet(&runtime);
    perform(&mut world, &[Fail("db"), Round]);
    let before = excepted(&world);
    world.restart(&MemDisk::kill);
    perform(&mut world, &[Push("db", 1, 2.0), Fail("db"), Round]);
    assert_eq!(excepted(&world), before);
    assert_eq!(aside(&world).len(), 2, "what came since is set aside beside it");
    world.restart(&|disk| disk.crash(3));
    perform(&mut world, &[Push("db", 1, 2.0), Round]);
    assert_eq!(excepted(&world), []);
}

#[test]
fn when_most_files_fail_it_is_the_disk_and_nobody_is_set_apart() {
    let runtime = Runtime::new().unwrap();
    let mut world = fleet(&runtime);
    let written = record(&world);
    perform(&mut world, &[Fail("db"), Fail("web"), Round]);
    assert_eq!(record(&world), written, "the round came to nothing");
    assert!(!world.is_apart("db") && !world.is_apart("web"));
    assert_eq!(aside(&world), [] as [std::path::PathBuf; 0]);
    perform(&mut world, &[Heal, Push("db", 1, 2.0), Round]);
    assert!(record(&world).seq > written.seq);
    world.restart(&|disk| disk.crash(1));
}

#[test]
fn frames_that_cannot_be_set_aside_stay_in_the_journal() {
    let runtime = Runtime::new().unwrap();
    let mut world = fleet(&runtime);
    let written = record(&world);
    perform(&mut world, &[Fail("db")]);
    world.disk.fail_sync(Path::new(DATA).join("aside"));
    perform(&mut world, &[Round, Push("web", 1, 2.0), Round]);
    assert_eq!(record(&world), written, "no record without them");
    world.restart(&|disk| disk.crash(2));
}

fn script() -> Vec<Act> {
    let mut acts = vec![Enroll("web"), Enroll("db"), Enroll("app"), Rules];
    acts.extend([Push("web", 1, 1.0), Push("db", 1, 1.0), Push("app", 1, 1.0), Round]);
    acts.extend([Push("db", 3, 7.0), Push("web", 1, 7.0), Fail("db"), Push("db", 3, 8.0), Round]);
    acts.extend([Push("db", 1, 9.0), Push("web", 1, 2.0), Round, Heal, Push("web", 1, 3.0), Round]);
    acts.extend([Push("db", 3, 4.0), Fail("db"), Withdraw("app"), Round, Silence(60), Heal, Round]);
    acts.extend([Push("db", 1, 5.0), Push("web", 1, 3.0), Round]);
    acts
}

#[test]
fn a_kill_at_any_change_while_a_file_fails_loses_nothing() {
    check_all("kill", &script(), |_, disk| disk.kill());
}

#[test]
fn a_power_cut_at_any_change_while_a_file_fails_loses_nothing() {
    check_all("power cut", &script(), |at, disk| disk.crash(at));
    let runtime = Runtime::new().unwrap();
    assert!(check(&runtime, &script(), &[], &MemDisk::kill) > 100);
}
