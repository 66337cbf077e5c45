//! A change to another finest step: what is kept counts in steps of the new width, live, written and reopened.

use fixtures::dice::Dice;
use rrd::{Change, Kind, NewSeries, Policy, Rows};

use crate::world::{World, dump, gauge};

/// Two stores that hear the same: one lives through a change, the other one always was so.
struct Twins {
    changed: World,
    mirror: World,
    at: i64,
    total: f64,
}

/// A moment at which steps of all widths begin.
const START: i64 = 12_000_000;

impl Twins {
    fn new(old: &str, new: &str) -> Self {
        let (changed, mirror) = (World::new(old), World::new(new));
        let mut twins = Self { changed, mirror, at: START, total: 0.0 };
        for world in [&mut twins.changed, &mut twins.mirror] {
            world.grant(&[gauge("g"), NewSeries { kind: Kind::Total, ..gauge("t") }]).unwrap();
        }
        twins
    }

    fn push(&mut self, gap: i64, value: f64) {
        self.at += gap;
        self.total += value * gap as f64;
        for world in [&mut self.changed, &mut self.mirror] {
            world.push(&[("g", self.at, value), ("t", self.at, self.total)]);
        }
    }

    /// Whole numbers each ten seconds, the same for `hold` seconds at a time.
    fn live(&mut self, count: i64, hold: i64) {
        for _ in 0..count {
            let held = (self.at / hold * 7919) % 1000;
            self.push(10, held as f64);
        }
    }

    fn change(&mut self) {
        self.changed.change(Change::Policy(self.mirror.policy.clone())).unwrap();
    }
}

fn at(rows: &Rows, n: usize) -> [u64; 5] {
    let last = rows.last.get(n).copied().unwrap_or(0.0);
    [rows.average[n], rows.min[n], rows.max[n], f64::from(rows.known[n]), last].map(f64::to_bits)
}

/// Compares all rows of the archives that are at least so wide to the last bit, after the first of each: the
/// series began with a step of another width. Answers how many that were.
fn compare(twins: &Twins, least_s: u64, upto: i64, case: &str) -> usize {
    let mut count = 0;
    let policy = &twins.mirror.policy;
    for series in ["g", "t"] {
        for (archive, spec) in policy.archives().iter().enumerate() {
            if spec.step.as_millis() < least_s * 1000 {
                continue;
            }
            let [ours, theirs] =
                [&twins.changed, &twins.mirror].map(|w| w.rows(series, archive, 0, upto));
            let case = format!("{case}: {series}, archive {archive}");
            assert_eq!((ours.first_end, ours.len()), (theirs.first_end, theirs.len()), "{case}");
            let skip = usize::from(theirs.first_end.as_millis() <= (START + 86_400) * 1000);
            for n in skip..theirs.len() {
                assert_eq!(at(&ours, n), at(&theirs, n), "{case}, row {n}: {ours:?} {theirs:?}");
                count += 1;
            }
        }
    }
    count
}

/// Changes after so many readings of ten seconds, and compares from then on.
fn check(old: &str, new: &str, (before, hold): (i64, i64), least_s: u64) -> usize {
    let case = format!("{old} becomes {new} after {before}");
    let mut twins = Twins::new(&format!("{old};f64;hb=2m"), &format!("{new};f64;hb=2m"));
    twins.live(before, hold);
    twins.change();
    let forever = 1 << 40;
    let mut count = compare(&twins, least_s, forever, &format!("{case}, at once"));
    twins.live(17, hold);
    count += compare(&twins, least_s, forever, &format!("{case}, later"));
    assert_eq!(twins.changed.round().failed, [], "{case}");
    count += compare(&twins, least_s, forever, &format!("{case}, written"));
    for _ in 0..2 {
        let disk = twins.changed.disk.clone();
        let (changed, damage) = twins.changed.restarted(disk);
        assert_eq!(damage, [], "{case}");
        twins = Twins { changed, ..twins };
        count += compare(&twins, least_s, forever, &format!("{case}, after a restart"));
        twins.live(40, hold);
        count += compare(&twins, least_s, forever, &format!("{case}, in the end"));
    }
    assert_eq!(twins.changed.store.damage(), [], "{case}");
    count
}

#[test]
fn wider_steps_are_as_if_they_had_always_been_so() {
    let mut count = 0;
    for (old, new) in [
        ("10s:2h,1m:1d", "1m:1d"),
        ("10s:2h,1m:1d,5m:2d", "1m:5h,5m:2d,15m:3d;last"),
        ("10s:2h", "30s:3h,2m:6h,10m:2d"),
        ("10s:2h,30s:4h", "20s:20m,1m:10h"),
        ("5s:2h", "20s:1h,1m:10h"),
    ] {
        for before in [1, 3, 6, 7, 59, 60, 61, 200, 334] {
            count += check(old, new, (before, 10), 0);
        }
    }
    assert!(count > 5000, "{count} rows were compared");
}

#[test]
fn wider_steps_are_so_beyond_the_finest_rows_as_far_as_others_tell() {
    // Held so long that no narrower extreme differs from that of a wider step.
    for before in [30, 61, 100, 334, 500] {
        check("10s:2m,1m:1d,5m:2d", "1m:5h,5m:2d,15m:3d", (before, 300), 0);
        check("10s:2m,30s:10m,5m:2d", "1m:5m,5m:2d", (before, 300), 0);
    }
}

#[test]
fn finer_steps_begin_with_the_change_and_wider_rows_count_them() {
    let mut count = 0;
    for (old, new, least_s) in [
        ("1m:1d,5m:2d", "10s:2h,1m:1d,5m:2d", 60),
        ("1m:1d,5m:2d", "10s:2h,2m:1d,15m:2d;last", 120),
        ("1m:1d,10m:2d;last", "30s:2h,1m:1d,10m:2d;last", 600),
        ("1m:1d", "20s:10m,1m:1d,3m:1d", 60),
    ] {
        for before in [1, 6, 7, 11, 60, 61, 65, 200, 331] {
            count += check(old, new, (before, 60), least_s);
        }
    }
    assert!(count > 3000, "{count} rows were compared");
    let mut twins = Twins::new("1m:1d;hb=2m", "10s:1h;hb=2m");
    twins.live(62, 60);
    twins.change();
    twins.live(10, 60);
    let fine = [&twins.changed, &twins.mirror]
        .map(|world| world.averages("g", 0, twins.at - 120, twins.at));
    assert_eq!(fine[0], fine[1].replacen("190 190", "- -", 1), "two steps had gone by");
    let before = twins.changed.rows("g", 0, START, twins.at - 120);
    assert!(before.average.iter().all(|value| value.is_nan()), "finer than anything kept");
}

#[test]
fn a_step_that_silence_closed_is_closed_again_and_the_series_goes_on() {
    for (old, new, least_s) in [
        ("10s:2h", "1m:1d,5m:2d", 0),
        ("1m:2h,5m:1d", "10s:2h,1m:1d,5m:2d", 300),
        ("10s:2h,1m:2h", "30s:1h,1m:2d", 0),
    ] {
        for readings in 1..13 {
            let mut twins = Twins::new(&format!("{old};f64;hb=2m"), &format!("{new};f64;hb=2m"));
            twins.live(60 + readings, 300);
            let silent = twins.at;
            for world in [&mut twins.changed, &mut twins.mirror] {
                world.grant(&[gauge("other")]).unwrap();
                world.push(&[("other", silent + 200, 1.0)]);
            }
            twins.change();
            for world in [&mut twins.changed, &mut twins.mirror] {
                world.push(&[("other", silent + 210, 1.0)]);
            }
            let case = format!("{old} becomes {new} after {readings}");
            compare(&twins, least_s, silent - 300, &case);
            twins.at = silent + 600 - silent % 300;
            twins.live(100, 300);
            compare(&twins, least_s, silent - 300, &case);
            let later = twins.at - 300;
            for archive in 0..2 {
                let rows = |w: &World| w.averages("g", archive, later - 600, later);
                assert_eq!(rows(&twins.changed), rows(&twins.mirror), "{case}");
            }
        }
    }
}

/// Any readings, gaps and markers: what a round writes and a restart reads is what memory had.
#[test]
fn any_history_is_the_same_live_written_and_reopened() {
    const POLICIES: [&str; 6] = [
        "10s:5m,1m:20m",
        "1m:20m,5m:5h;last",
        "30s:10m,1m:1h",
        "5s:2m,20s:1h",
        "2m:1h,10m:10h",
        "10s:1m",
    ];
    for seed in 0..120 {
        let mut dice = Dice::new(seed);
        let mut policy = || POLICIES[dice.index(POLICIES.len())];
        let (old, new) = (policy(), policy());
        let parse = |text: &str| Policy::parse(&format!("{text};hb=90s")).unwrap();
        let policy = Policy::parse(new).unwrap();
        let mut world = World::new(&parse(old).to_string());
        world.grant(&[gauge("a"), NewSeries { kind: Kind::Total, ..gauge("b") }]).unwrap();
        let mut at = START;
        let mut live = |world: &mut World, dice: &mut Dice| {
            for _ in 0..dice.below(150) {
                at += i64::try_from(if dice.below(9) == 0 {
                    dice.below(700)
                } else {
                    dice.below(40)
                })
                .unwrap()
                    + 1;
                let value =
                    if dice.below(15) == 0 { f64::NAN } else { dice.below(1000) as f64 / 7.0 };
                world.push(&[("a", at, value), ("b", at, value + at as f64)]);
                if dice.below(30) == 0 {
                    world.round();
                }
            }
        };
        live(&mut world, &mut dice);
        let (one, other) = (parse(old).step().as_millis(), policy.step().as_millis());
        let outcome = world.change(Change::Policy(parse(new)));
        if one % other != 0 && other % one != 0 {
            assert!(outcome.unwrap_err().to_string().contains("a multiple or a part"));
            continue;
        }
        outcome.unwrap();
        let changed = dump(&world.store);
        let disk = world.disk.kill();
        let (mut world, damage) = world.restarted(disk);
        assert_eq!((damage, dump(&world.store)), (Vec::new(), changed), "seed {seed}, replayed");
        live(&mut world, &mut dice);
        let live_dump = dump(&world.store);
        assert_eq!(world.round().failed, [], "seed {seed}");
        assert_eq!(dump(&world.store), live_dump, "seed {seed}: {old} to {new}, written");
        let disk = world.disk.crash(seed);
        let (world, damage) = world.restarted(disk);
        assert_eq!((damage, dump(&world.store)), (Vec::new(), live_dump), "seed {seed}, reopened");
        assert_eq!(world.store.damage(), []);
    }
}

#[test]
fn a_late_reading_after_the_change_never_takes_out_what_the_step_does_not_hold() {
    for (old, new) in [("1m:2h", "10s:1h"), ("10s:2h", "1m:1h")] {
        let mut world = World::new(&format!("{old};f64;hb=30s"));
        world.grant(&[gauge("g")]).unwrap();
        // The step before is known, half of it being so.
        for (after, value) in [(0, 0.0), (25, 0.0), (54, 0.0), (57, 1000.0)] {
            world.push(&[("g", START + after, value)]);
        }
        world.change(Change::Policy(Policy::parse(&format!("{new};f64;hb=30s")).unwrap())).unwrap();
        world.push(&[("g", START + 55, 0.0)]);
        world.push(&[("g", START + 60, 0.0)]);
        let rows = world.rows("g", 0, START, START + 60);
        let known = rows.average.iter().filter(|value| !value.is_nan());
        let outside = known.filter(|value| !(0.0..=1000.0).contains(*value)).count();
        assert_eq!(outside, 0, "{old} to {new}: {:?}", rows.average);
    }
}
