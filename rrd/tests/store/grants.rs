//! Grants: room first, then the journal, then the series.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use rrd::{
    Disk, GrantError, GrantFrame, GrantRequest, InstanceId, Kind, Labels, MAX_COLUMNS, NewSeries,
    Refusal, Room,
};

use crate::world::{DIR, WEB, World, dump, gauge, name, open};

const POLICY: &str = "10s:5m,1m:30m";

#[test]
fn a_file_grows_by_blocks_of_4_16_and_64_columns() {
    let mut world = World::new(POLICY);
    let mut lens = Vec::new();
    for count in 1..=90 {
        world.grant(&[gauge(&format!("s{count}"))]).unwrap();
        lens.push(world.file_len());
    }
    let grown: Vec<_> = (1..90).filter(|&at| lens[at] != lens[at - 1]).collect();
    assert_eq!(grown, [4, 20, 84]);
    let columns: Vec<_> = (1..=90).map(|n| world.column(&format!("s{n}")).index).collect();
    assert_eq!(columns, (0..90).collect::<Vec<_>>());
}

#[test]
fn series_of_another_cell_have_blocks_of_their_own() {
    let mut world = World::new(POLICY);
    let unknown = NewSeries { labels: name("u"), kind: Kind::Unknown, first_reading: None };
    let columns = world.grant(&[gauge("a"), unknown, gauge("b")]).unwrap();
    assert_eq!(columns.iter().map(|c| c.index).collect::<Vec<_>>(), [0, 4, 1]);
    world.push(&[("u", 10, 16_777_217.0), ("a", 10, 16_777_217.0)]);
    world.push(&[("u", 20, 16_777_217.0), ("a", 20, 16_777_217.0)]);
    world.round();
    assert_eq!(world.averages("u", 0, 0, 20), "16777217 16777217");
    assert_eq!(world.averages("a", 0, 0, 20), "16777216 16777216");
}

#[test]
fn a_series_granted_twice_keeps_its_column_and_the_journal_hears_once() {
    let mut world = World::new(POLICY);
    let first = world.grant(&[gauge("a"), gauge("b"), gauge("a")]).unwrap();
    assert_eq!(first[0], first[2]);
    let seq = world.seq();
    assert_eq!(world.grant(&[gauge("b"), gauge("a")]).unwrap(), [first[1], first[0]]);
    assert_eq!(world.seq(), seq);
}

#[test]
fn a_full_disk_refuses_before_the_journal_and_changes_nothing() {
    let mut world = World::new(POLICY);
    world.disk.set_capacity(1000);
    assert!(matches!(world.grant(&[gauge("a")]), Err(GrantError::DiskFull { .. })));
    assert_eq!((world.store.instances().len(), world.seq()), (0, 0));
    assert_eq!(world.disk.list(Path::new(DIR)).unwrap(), [] as [std::path::PathBuf; 0]);
    world.disk.set_capacity(200_000);
    world.grant(&[gauge("a"), gauge("b"), gauge("c"), gauge("d")]).unwrap();
    world.disk.set_capacity(world.file_len() + 100);
    let before = dump(&world.store);
    let refused = world.grant(&[gauge("e")]);
    assert!(matches!(refused, Err(GrantError::DiskFull { needed, .. }) if needed > 100));
    assert_eq!(dump(&world.store), before);
    assert_eq!(world.store.resolve(WEB, &name("e").to_key()), None);
    world.disk.set_capacity(10_000_000);
    assert_eq!(world.grant(&[gauge("e")]).unwrap()[0].index, 4);
}

#[test]
fn grants_that_race_with_a_filling_disk_are_whole_or_refused() {
    const ROOM: u64 = 1 << 40;
    for seed in 0..10 {
        let World { disk, store, policy, .. } = World::new(POLICY);
        let (log, is_done) = (Mutex::new(Vec::<GrantFrame>::new()), AtomicBool::new(false));
        let refused = AtomicUsize::new(0);
        let granting = |thread: u128| {
            for n in 0..40 {
                // Every two threads grant the same series, each to both instances in an order of its own.
                let series = [gauge(&format!("m{n}-{}", thread / 2))];
                let labels = Labels::default();
                let request = |instance| {
                    let (policy, labels) = (&policy, &labels);
                    let instance = InstanceId(instance);
                    (Room::default(), GrantRequest { instance, policy, labels, series: &series })
                };
                let mut append = |frame: &GrantFrame| {
                    let mut log = log.lock().unwrap();
                    log.push(frame.clone());
                    Ok::<u64, ()>(log.len() as u64)
                };
                let both = [request(thread % 2), request(1 - thread % 2)];
                for answer in store.grant_each(&both, &mut append) {
                    match answer {
                        Ok(granted) => assert!(granted[0].is_ok()),
                        Err(GrantError::DiskFull { .. }) => drop(refused.fetch_add(1, Relaxed)),
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            let granting = &granting;
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || granting(n))).collect();
            scope.spawn(|| {
                while !is_done.load(Relaxed) {
                    disk.set_capacity(ROOM);
                    std::thread::yield_now();
                    let free = disk.free_bytes(Path::new(DIR)).unwrap();
                    disk.set_capacity(ROOM - free);
                    std::thread::yield_now();
                }
            });
            for thread in threads {
                thread.join().unwrap();
            }
            is_done.store(true, Relaxed);
        });
        let log = log.into_inner().unwrap();
        let (after, damage) = open(&disk.crash(seed), 0);
        assert_eq!(damage, [], "seed {seed}");
        let mut places = BTreeSet::new();
        for (seq, frame) in (1..).zip(&log) {
            after.apply_grant(seq, frame).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            for granted in &frame.series {
                let key = granted.labels.to_key();
                assert_eq!(after.resolve(frame.instance, &key), Some(granted.column));
                assert_eq!(store.resolve(frame.instance, &key), Some(granted.column));
                assert!(places.insert((frame.instance, granted.column.index)), "given twice");
            }
        }
        assert!(!log.is_empty(), "seed {seed}: all {} were refused", refused.into_inner());
    }
}

#[test]
fn a_power_cut_in_the_midst_of_many_grants_takes_no_room_that_the_journal_counts_on() {
    const POINTS: u64 = 40;
    for (at, seed) in (0..=POINTS).flat_map(|at| (0..4).map(move |seed| (at, seed))) {
        let case = format!("cut after {at} changes, seed {seed}");
        let mut world = World::new(POLICY);
        let first: Vec<_> = (0..4).map(|n| gauge(&format!("first{n}"))).collect();
        world.grant(&first).unwrap();
        let (labels, series) = (Labels::default(), [gauge("a"), gauge("b")]);
        let request = |instance| {
            let (policy, labels) = (&world.policy, &labels);
            (Room::default(), GrantRequest { instance, policy, labels, series: &series })
        };
        world.disk.stop_after(at);
        let mut log = Vec::new();
        // One has a file that grows, the others have none.
        let requests = [InstanceId(99), WEB, InstanceId(98)].map(request);
        let answers = world.store.grant_each(&requests, &mut |frame| {
            log.push(frame.clone());
            Ok::<u64, ()>(0)
        });
        let whole = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(whole, log.len(), "{case}");
        assert!(at < POINTS || whole == 3, "there are more points");
        let disk = world.disk.crash(seed);
        let (world, damage) = world.restarted(disk);
        assert_eq!(damage, [], "{case}");
        for (seq, frame) in (world.seq() + 1..).zip(&log) {
            let applied = world.store.apply_grant(seq, frame);
            applied.unwrap_or_else(|error| panic!("{case}: {error}"));
            let column = frame.series[1].column;
            let key = series[1].labels.to_key();
            assert_eq!(world.store.resolve(frame.instance, &key), Some(column), "{case}");
        }
    }
}

#[test]
fn room_that_one_of_many_takes_is_not_there_for_the_others() {
    let world = World::new(POLICY);
    let (labels, series) = (Labels::default(), [gauge("a")]);
    let request = |instance, bytes| {
        let (policy, labels) = (&world.policy, &labels);
        let instance = InstanceId(instance);
        (
            Room { bytes, ..Room::default() },
            GrantRequest { instance, policy, labels, series: &series },
        )
    };
    let append = &mut |_: &GrantFrame| Ok::<u64, ()>(0);
    let alone = world.store.grant_each(&[request(7, 0)], append).remove(0);
    let Err(GrantError::DiskFull { needed, .. }) = alone else { panic!("{alone:?}") };
    let requests = [request(1, needed), request(2, needed), request(3, 2 * needed)];
    let answers = world.store.grant_each(&requests, append);
    let is_granted: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(is_granted, [true, false, true]);
}

#[test]
fn what_the_journal_refuses_is_not_granted() {
    let world = World::new(POLICY);
    let series = [gauge("a")];
    let labels = Labels::default();
    let request =
        GrantRequest { instance: WEB, policy: &world.policy, labels: &labels, series: &series };
    let refused = world.store.grant(request, &mut |_| Err("the journal is full"));
    assert_eq!(refused.unwrap_err().to_string(), "the journal is full");
    assert_eq!(world.store.resolve(WEB, &name("a").to_key()), None);
    assert!(world.store.instances().is_empty());
    // The room stays: the next grant uses it.
    let granted = world.store.grant(request, &mut |_| Ok::<u64, ()>(1)).unwrap();
    assert_eq!(granted[0].unwrap().index, 0);
    let (store, damage) = open(&world.disk, 0);
    assert_eq!((store.instances().len(), damage.len()), (0, 0));
}

#[test]
fn series_beyond_the_cap_are_refused_one_by_one() {
    let world = World::new("1h:1h");
    let series: Vec<_> = (0..=MAX_COLUMNS).map(|n| gauge(&format!("s{n}"))).collect();
    let labels = Labels::default();
    let request =
        GrantRequest { instance: WEB, policy: &world.policy, labels: &labels, series: &series };
    let answers = world.store.grant(request, &mut |_| Ok::<u64, ()>(1)).unwrap();
    assert!(answers[..MAX_COLUMNS].iter().all(Result::is_ok));
    assert_eq!(answers[MAX_COLUMNS], Err(Refusal::TooManySeries));
    let long = [gauge(&"x".repeat(4000))];
    let request = GrantRequest { series: &long, ..request };
    let answers = world.store.grant(request, &mut |_| Ok::<u64, ()>(1)).unwrap();
    assert_eq!(answers, [Err(Refusal::KeyTooLong)]);
}

#[test]
fn long_keys_fill_a_block_early_and_survive_a_restart() {
    let mut world = World::new(POLICY);
    let series: Vec<_> = (0..30).map(|n| gauge(&format!("{n}{}", "x".repeat(2000)))).collect();
    let columns = world.grant(&series).unwrap();
    assert!(columns.last().unwrap().index > 40, "{columns:?}");
    world.round();
    let disk = world.disk.clone();
    let (world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    for (series, column) in series.iter().zip(columns) {
        assert_eq!(world.store.resolve(WEB, &series.labels.to_key()), Some(column));
    }
}
