//! A change of archives: as if they had always been so, as far as rows were kept.

use std::path::Path;

use rrd::{Change, ChangeError, ChangeFrame, Disk, Kind, MemDisk, NewSeries, Policy, Rows};

use crate::world::{World, dump, gauge};

/// Archives with the same finest step, in which a series may have lived and shall live.
const POLICIES: [&str; 7] = [
    "10s:5m,1m:20m",
    "10s:10m,30s:15m,1m:1h,5m:5h",
    "10s:2m,2m:2h;last",
    "10s:1m",
    "10s:20m,1m:10m,10m:10h;last",
    "10s:3m,20s:1h,1m:30m;xff=0.9",
    "10s:1h,1m:2h,3m:10h,10m:10h;last",
];

/// A generator of numbers that needs no crate: xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn policy(&mut self, cell: &str) -> Policy {
        let text = POLICIES[usize::try_from(self.below(POLICIES.len() as u64)).unwrap()];
        Policy::parse(&format!("{text};hb=30s{cell}")).unwrap()
    }
}

/// Two stores that hear the same: one lives through a change, the other one always was so.
struct Twins {
    changed: World,
    mirror: World,
    at: i64,
}

const SERIES: [&str; 2] = ["g", "t"];

impl Twins {
    fn new(old: &Policy, new: &Policy) -> Self {
        let mut twins = Self {
            changed: World::new(&old.to_string()),
            mirror: World::new(&new.to_string()),
            at: 1_000_000,
        };
        let series = [gauge("g"), NewSeries { kind: Kind::Total, ..gauge("t") }];
        for world in [&mut twins.changed, &mut twins.mirror] {
            world.grant(&series).unwrap();
        }
        twins
    }

    /// Readings at random, with gaps and markers, but none that covers two whole steps: their sum is
    /// rounded once where both are closed by it, and twice where two rows are added.
    fn live(&mut self, count: u64, dice: &mut Dice) {
        for _ in 0..count {
            let gap = if dice.below(12) == 0 { 40 + dice.below(300) } else { 3 + dice.below(17) };
            self.at += i64::try_from(gap).unwrap();
            let value = f64::from(u32::try_from(dice.below(1000)).unwrap()) / 7.0;
            let total = self.at as f64 * 1.1 + value;
            let total = if dice.below(20) == 0 { f64::NAN } else { total };
            let readings = [("g", self.at, value), ("t", self.at, total)];
            for world in [&mut self.changed, &mut self.mirror] {
                world.push(&readings);
            }
            if dice.below(25) == 0 {
                self.changed.round();
            }
        }
    }
}

/// How far back the old archives reach at the change, in finest rows.
struct Kept {
    /// Steps in a row, and the oldest row.
    archives: Vec<(i64, i64)>,
    has_last: bool,
}

impl Kept {
    fn of(world: &World, series: &str) -> Self {
        let policy = world.policy.clone();
        let archives = policy.archives().iter().enumerate().map(|(n, spec)| {
            let rows = world.rows(series, n, 0, 1 << 40);
            let oldest = rows.first_end.row(spec.step);
            let is_whole = (rows.len() as u64) < spec.row_count;
            let steps = i64::from(spec.steps_per_row(policy.step()));
            (steps, if rows.is_empty() || is_whole { i64::MIN } else { oldest })
        });
        Self { archives: archives.collect(), has_last: policy.keeps_last() }
    }

    /// True where the newest step of a row is told: by an old archive, or as a finest row.
    fn tells_last(&self, row: i64, steps: i64) -> bool {
        self.has_last || self.archives[0].1 <= row * steps
    }

    /// True where an old archive of the same step, or the finest, tells all of the row; `None` where
    /// only others do.
    fn tells(&self, row: i64, steps: i64) -> Option<bool> {
        let has = |&(narrow, oldest): &(i64, i64)| {
            steps % narrow == 0
                && (oldest == i64::MIN || (row - 1) * (steps / narrow) + 1 >= oldest)
        };
        let exact = self.archives.iter().filter(|(narrow, _)| *narrow == 1 || *narrow == steps);
        if exact.into_iter().any(has) {
            return Some(true);
        }
        if self.archives.iter().any(has) { None } else { Some(false) }
    }
}

fn at(rows: &Rows, n: usize) -> [f64; 5] {
    let last = rows.last.get(n).copied().unwrap_or(0.0);
    [rows.average[n], rows.min[n], rows.max[n], f64::from(rows.known[n]), last]
}

fn near(one: f64, other: f64, share: f64) -> bool {
    one.to_bits() == other.to_bits() || (one - other).abs() <= share * one.abs().max(other.abs())
}

/// Compares every row; answers how many were told exactly.
fn compare(twins: &Twins, kept: &[Kept], newest: i64, share: f64, case: &str) -> usize {
    let mut exact = 0;
    let policy = &twins.mirror.policy;
    for (series, kept) in SERIES.into_iter().zip(kept) {
        for (archive, spec) in policy.archives().iter().enumerate() {
            let [ours, theirs] =
                [&twins.changed, &twins.mirror].map(|w| w.rows(series, archive, 0, 1 << 40));
            let case = format!("{case}: {series}, archive {archive}");
            assert_eq!((ours.first_end, ours.len()), (theirs.first_end, theirs.len()), "{case}");
            let steps = i64::from(spec.steps_per_row(policy.step()));
            for (row, n) in (theirs.first_end.row(spec.step)..).zip(0..theirs.len()) {
                let (our, their) = (at(&ours, n), at(&theirs, n));
                let case = format!("{case}, row {row}: {our:?}, mirror {their:?}");
                match kept.tells(row, steps) {
                    Some(true) => {
                        exact += 1;
                        let values = if kept.tells_last(row, steps) { 5 } else { 4 };
                        let our = &our[..values];
                        let is_near = our.iter().zip(&their).all(|(a, b)| near(*a, *b, share));
                        assert!(is_near, "{case}");
                    }
                    // Put together from wider rows: the newest step may not be known.
                    None => {
                        let is_near = our[..4].iter().zip(&their).all(|(a, b)| near(*a, *b, 1e-6));
                        assert!(is_near, "{case}");
                    }
                    Some(false) if row * steps <= newest => {
                        assert!(our[0].is_nan() && our[3] == 0.0, "{case}");
                    }
                    Some(false) => {}
                }
            }
        }
    }
    exact
}

fn run(seed: u64, cell: &str, share: f64) -> usize {
    let mut dice = Dice(seed * 0x9e37_79b9 + 1);
    let (old, new) = (dice.policy(cell), dice.policy(cell));
    let case = format!("seed {seed}: {old} becomes {new}");
    let mut twins = Twins::new(&old, &new);
    let before = 5 + dice.below(400);
    twins.live(before, &mut dice);
    let kept = SERIES.map(|series| Kept::of(&twins.changed, series));
    let newest = twins.changed.store.select(&[]).iter().map(|s| s.newest.as_millis()).min();
    let newest = newest.unwrap() / 10_000;
    twins.changed.change(Change::Policy(new)).unwrap();
    let mut exact = compare(&twins, &kept, newest, share, &format!("{case}, at once"));
    let more = dice.below(60);
    twins.live(more, &mut dice);
    exact += compare(&twins, &kept, newest, share, &format!("{case}, later"));
    assert_eq!(twins.changed.round().failed, [], "{case}");
    exact += compare(&twins, &kept, newest, share, &format!("{case}, written"));
    let disk = twins.changed.disk.clone();
    let (changed, damage) = twins.changed.restarted(disk);
    assert_eq!(damage, [], "{case}");
    twins = Twins { changed, ..twins };
    exact += compare(&twins, &kept, newest, share, &format!("{case}, after a restart"));
    twins.live(60, &mut dice);
    exact += compare(&twins, &kept, newest, share, &format!("{case}, in the end"));
    assert_eq!(twins.changed.store.damage(), [], "{case}");
    exact
}

#[test]
fn rows_after_a_change_are_those_of_archives_that_always_were_so() {
    let exact: usize = (0..150).map(|seed| run(seed, ";f64", 0.0)).sum();
    assert!(exact > 50_000, "{exact} rows were compared bit for bit");
}

#[test]
fn in_small_cells_they_are_so_to_the_rounding_of_a_cell() {
    let exact: usize = (0..40).map(|seed| run(seed, "", 1e-6)).sum();
    assert!(exact > 10_000, "{exact} rows were compared");
}

#[test]
fn a_full_disk_refuses_a_change_and_leaves_all_as_it_was() {
    let mut world = World::new("10s:5m,1m:20m");
    world.grant(&[gauge("a")]).unwrap();
    world.push(&[("a", 10, 1.0), ("a", 20, 2.0)]);
    world.round();
    let (before, len) = (dump(&world.store), world.file_len());
    world.disk.set_capacity(len + 30_000);
    let longer = Policy::parse("10s:10h,1m:20m").unwrap();
    let refused = world.change(Change::Policy(longer.clone())).unwrap_err();
    assert!(matches!(refused, ChangeError::DiskFull { needed, .. } if needed > len), "{refused}");
    assert_eq!(dump(&world.store), before);
    assert_eq!(world.used_bytes(), len, "nothing is left over");
    world.disk.set_capacity(u64::MAX);
    world.change(Change::Policy(longer)).unwrap();
    let dump_then = dump(&world.store);
    world.disk.set_capacity(world.used_bytes());
    assert_eq!(world.round().failed, [], "its room is there already");
    assert_eq!(dump(&world.store), dump_then);
    assert_eq!(world.file_len(), world.store.instances()[0].file_len);
}

#[test]
fn a_change_that_cannot_be_is_refused_with_its_reason() {
    let mut world = World::new("10s:5m,1m:20m");
    let policy = |text: &str| Change::Policy(Policy::parse(text).unwrap());
    let refused = |world: &mut World, change| world.change(change).unwrap_err().to_string();
    assert!(refused(&mut world, Change::Remove).starts_with("there is no instance"));
    world.grant(&[gauge("a")]).unwrap();
    assert!(refused(&mut world, policy("15s:5m")).contains("its finest step is 10s"));
    world.change(policy("10s:5m")).unwrap();
    for change in [policy("10s:9m"), Change::Remove] {
        assert!(refused(&mut world, change).contains("being changed already"));
    }
    world.round();
    let column = world.column("a");
    world.change(Change::Drop(vec![column])).unwrap();
    assert!(refused(&mut world, Change::Drop(vec![column])).contains("no such series"));
    world.change(Change::Remove).unwrap();
    assert!(refused(&mut world, Change::Remove).starts_with("there is no instance"));
}

#[test]
fn a_removed_instance_leaves_nothing_and_may_come_again() {
    let mut world = World::new("10s:5m,1m:20m");
    world.grant(&[gauge("a")]).unwrap();
    world.push(&[("a", 10, 1.0), ("a", 20, 2.0)]);
    world.round();
    let column = world.column("a");
    world.change(Change::Remove).unwrap();
    assert_eq!(dump(&world.store), "");
    assert_eq!((world.store.instances().len(), world.store.select(&[]).len()), (0, 0));
    let sample = rrd::Sample { column, at: crate::world::secs(30), value: 1.0 };
    let frame = rrd::SampleFrame {
        instance: crate::world::WEB,
        batch: rrd::Batch::default(),
        samples: vec![sample],
    };
    let stale = world.append(crate::world::Frame::Samples(frame.clone()));
    assert_eq!(stale.stale_generation, 1);
    assert!(world.grant(&[gauge("a")]).unwrap_err().to_string().contains("being removed"));
    assert!(world.used_bytes() > 0, "the file stays until the round counts");
    world.round();
    assert_eq!(world.used_bytes(), 0);
    let stale = world.append(crate::world::Frame::Samples(frame));
    assert_eq!(stale.stale_generation, 1);
    world.grant(&[gauge("a")]).unwrap();
    assert_eq!(world.averages("a", 0, 0, 100), "", "no row of its former life");
    world.push(&[("a", 110, 1.0), ("a", 120, 5.0)]);
    assert_eq!(world.averages("a", 0, 0, 200), "1 5");
}

#[test]
fn what_an_operator_changes_and_a_file_that_fails_ask_for_a_round() {
    let mut world = World::new("10s:5m,1m:20m");
    world.grant(&[gauge("a"), gauge("b")]).unwrap();
    world.push(&[("a", 10, 1.0), ("b", 20, 2.0)]);
    assert!(!world.store.wants_round(), "samples can wait");
    let drop = Change::Drop(vec![world.column("b")]);
    for change in [drop, Change::Policy(Policy::parse("10s:9m").unwrap()), Change::Remove] {
        world.change(change.clone()).unwrap();
        assert!(world.store.wants_round(), "{change:?}");
        world.round();
        assert!(!world.store.wants_round(), "{change:?}");
    }
    world.grant(&[gauge("a")]).unwrap();
    world.round();
    world.store.suspend(crate::world::WEB, "cannot be written".to_owned());
    assert!(world.store.wants_round());
}

#[test]
fn a_start_before_the_round_grants_nothing_to_an_instance_that_is_to_go() {
    let mut world = World::new("10s:5m,1m:20m");
    world.grant(&[gauge("a")]).unwrap();
    world.push(&[("a", 10, 1.0), ("a", 20, 2.0)]);
    world.round();
    world.change(Change::Remove).unwrap();
    let disk = world.disk.kill();
    let (mut world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    assert!(world.grant(&[gauge("a")]).unwrap_err().to_string().contains("being removed"));
    world.round();
    assert_eq!(world.used_bytes(), 0);
    world.grant(&[gauge("a")]).unwrap();
}

#[test]
fn mending_one_file_leaves_what_the_failed_round_of_another_left_alone() {
    for change in [Change::Policy(Policy::parse("10s:9m").unwrap()), Change::Remove] {
        let mut world = World::new("10s:5m,1m:20m");
        world.grant(&[gauge("a")]).unwrap();
        world.push(&[("a", 10, 1.0), ("a", 20, 2.0)]);
        world.round();
        let (own, expected) = (world.checkpoint, dump(&world.store));
        world.change(change).unwrap();
        let seq = world.seq();
        assert_eq!(world.store.begin_round(seq, 1).write().failed, []);
        // The record of this round excepts the file, and another file is mended.
        let used = world.used_bytes();
        let excepted = std::collections::BTreeMap::from([(crate::world::WEB, own)]);
        let (disk, dir) = (std::sync::Arc::new(world.disk.clone()), Path::new(crate::world::DIR));
        let (store, _) = rrd::Store::open_excepting(disk, dir, seq, &excepted).unwrap();
        store.rewrite_slots(rrd::InstanceId(1), seq, 1).unwrap();
        drop(store);
        assert_eq!(world.used_bytes(), used);
        let (store, damage) = crate::world::open(&world.disk, own);
        assert_eq!((damage, dump(&store)), (Vec::new(), expected));
    }
}

#[test]
fn room_for_a_change_that_never_was_goes_with_the_first_round() {
    let mut world = World::new("10s:5m,1m:20m");
    world.grant(&[gauge("a")]).unwrap();
    world.push(&[("a", 10, 1.0)]);
    world.round();
    let len = world.used_bytes();
    let policy = Change::Policy(Policy::parse("10s:9m").unwrap());
    // The journal took the frame, and lost it with the power before it was synced.
    world.store.change(crate::world::WEB, policy, &mut |_: &ChangeFrame| Ok::<_, ()>(9)).unwrap();
    assert!(world.used_bytes() > len);
    let disk: MemDisk = world.disk.kill();
    let (mut world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    world.round();
    assert_eq!(world.used_bytes(), len);
}

#[test]
fn a_change_in_the_midst_of_a_round_loses_nothing() {
    let mut world = World::new("10s:3m,1m:20m");
    world.grant(&[gauge("a")]).unwrap();
    let push = |world: &mut World, steps: std::ops::RangeInclusive<i64>| {
        for n in steps {
            world.push(&[("a", n * 10, n as f64)]);
        }
    };
    push(&mut world, 1..=20);
    world.round();
    push(&mut world, 21..=40);
    let seq = world.seq();
    let round = world.store.begin_round(seq, 1);
    push(&mut world, 41..=43);
    world.change(Change::Policy(Policy::parse("10s:10m,2m:1h").unwrap())).unwrap();
    push(&mut world, 44..=46);
    let expected = dump(&world.store);
    assert_eq!(round.write().failed, []);
    assert_eq!(dump(&world.store), expected, "the old file has more rows than before");
    world.checkpoint = seq;
    world.store.finish_round(seq);
    assert_eq!(dump(&world.store), expected);
    let disk = world.disk.kill();
    let (mut world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    assert_eq!(dump(&world.store), expected, "replayed over the round");
    assert_eq!(world.averages("a", 1, 0, 500), "6.5 18.5 30.5");
    world.round();
    assert_eq!(dump(&world.store), expected);
}

#[test]
fn a_new_file_that_cannot_take_its_place_stops_rounds_and_loses_nothing() {
    let mut world = changed_world();
    let expected = dump(&world.store);
    let (seq, next) = (world.seq(), World::file_path().replace("rrd", "next"));
    let (next, away) = (Path::new(&next), Path::new("/archives/away"));
    assert_eq!(world.store.begin_round(seq, 1).write().failed, []);
    world.disk.rename(next, away).unwrap();
    world.checkpoint = seq;
    world.store.finish_round(seq);
    assert_eq!(world.store.damage().len(), 1);
    assert_eq!(dump(&world.store), expected, "read from the old file");
    world.push(&[("a", 40, 4.0)]);
    assert_eq!(world.round().failed.len(), 1, "what counts must not be written over");
    world.disk.rename(away, next).unwrap();
    assert_eq!(world.round().failed.len(), 1, "in its place by now, but not written");
    assert_eq!(world.round().failed, []);
    comes_back(&world);
}

#[test]
fn a_name_that_does_not_last_is_given_again_at_the_next_start() {
    for round_count in 0..4 {
        let mut world = changed_world();
        world.disk.fail_sync(crate::world::DIR);
        assert_eq!(world.round().failed, []);
        assert_eq!(world.store.damage().len(), 1);
        for n in 0..round_count {
            world.push(&[("a", 40 + n * 10, 4.0)]);
            assert_eq!(world.round().failed, []);
        }
        world.push(&[("a", 100, 5.0)]);
        assert_eq!(world.store.begin_round(world.seq(), 1).write().failed, [], "does not count");
        comes_back(&world);
    }
}

/// A world whose archives have changed, before the round.
fn changed_world() -> World {
    let mut world = World::new("10s:3m,1m:20m");
    world.grant(&[gauge("a")]).unwrap();
    world.push(&[("a", 10, 1.0), ("a", 20, 2.0), ("a", 30, 3.0)]);
    world.round();
    world.change(Change::Policy(Policy::parse("10s:10m").unwrap())).unwrap();
    world
}

fn comes_back(world: &World) {
    let expected = dump(&world.store);
    for disk in [world.disk.kill(), world.disk.crash(1), world.disk.crash(2), world.disk.crash(3)] {
        let (store, damage) = crate::world::open(&disk, world.checkpoint);
        assert_eq!(damage, []);
        for (seq, (stamp, frame)) in
            (1..).zip(&world.frames).skip(usize::try_from(world.checkpoint).unwrap())
        {
            World::apply_to(&store, seq, *stamp, frame);
        }
        assert_eq!(dump(&store), expected);
    }
}
