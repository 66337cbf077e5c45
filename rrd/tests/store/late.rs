//! Late gauges: they fill steps that had no reading, in memory and in files, whatever happens to the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use fixtures::dice::{Dice, told};
use rrd::{Kind, MemDisk, NewSeries, Policy, Verdicts};

use crate::history::{self, Act as _, Cut};
use crate::world::{World, dump, gauge, name};

const STEP: i64 = 10;

fn verdicts(stored: u64, duplicate: u64, late: u64) -> Verdicts {
    Verdicts { stored, duplicate, late, stale_generation: 0 }
}

/// Readings at the ends of steps.
fn steps(
    series: &'static str,
    steps: impl IntoIterator<Item = i64>,
) -> Vec<(&'static str, i64, f64)> {
    steps.into_iter().map(|step| (series, step * STEP, step as f64)).collect()
}

#[test]
fn a_late_gauge_becomes_its_step_before_and_after_the_round() {
    for (before_late, after_late) in [(false, false), (false, true), (true, false), (true, true)] {
        let case = format!("rounds before the late reading {before_late}, after it {after_late}");
        let mut world = World::new("10s:5m,1m:20m;hb=1m;f64;last");
        world.grant(&[gauge("load")]).unwrap();
        world.push(&steps("load", (1..=8).chain([11, 12, 13])));
        assert_eq!(world.averages("load", 0, 80, 130), "11 11 11 12 13");
        if before_late {
            world.round();
        }
        let told = world.push(&[("load", 100, 5.0), ("load", 88, 4.0), ("load", 130, 9.0)]);
        assert_eq!(told, verdicts(2, 1, 0), "{case}");
        let told = world.push(&[("load", 91, 9.0), ("load", 85, 9.0), ("load", 80, 9.0)]);
        assert_eq!(told, verdicts(0, 3, 0), "{case}");
        if after_late {
            world.round();
        }
        for restarts in 0..3 {
            assert_eq!(world.averages("load", 0, 80, 130), "4 5 11 12 13", "{case}, {restarts}");
            let row = world.rows("load", 1, 60, 120);
            assert_eq!((row.average[0], row.min[0], row.max[0]), (47.0 / 6.0, 4.0, 12.0), "{case}");
            assert_eq!((row.known[0], row.last[0]), (6, 12.0), "{case}");
            let disk = world.disk.clone();
            let (restarted, damage) = world.restarted(disk);
            assert_eq!(damage, [], "{case}");
            world = restarted;
            world.round();
        }
        assert_eq!(world.store.damage(), [], "{case}");
    }
}

#[test]
fn a_late_gauge_counts_in_the_rows_that_are_still_open() {
    let mut world = World::new("10s:30m,1m:2h,10m:1d;hb=20s;f64;last");
    world.grant(&[gauge("load")]).unwrap();
    // 2..=5 and 8..=12 are unknown.
    world.push(&steps("load", [1, 5, 6, 7, 12, 13]));
    world.round();
    assert_eq!(world.push(&[("load", 40, 100.0), ("load", 60, 1.0)]), verdicts(1, 1, 0));
    assert_eq!(world.push(&[("load", 110, -100.0), ("load", 100, 2.0)]), verdicts(2, 0, 0));
    world.push(&steps("load", 14..=60));
    let rows = world.rows("load", 1, 0, 120);
    assert_eq!(rows.known, [3, 3]);
    assert_eq!(rows.average, [(1.0 + 100.0 + 6.0) / 3.0, (7.0 + 2.0 - 100.0) / 3.0]);
    assert_eq!(crate::world::shown(&rows.last), "6 -");
    let wide = world.rows("load", 2, 0, 600);
    assert_eq!((wide.known[0], wide.min[0], wide.max[0]), (54, -100.0, 100.0));
}

#[test]
fn counters_markers_values_without_meaning_and_steps_too_old_fill_nothing() {
    let mut world = World::new("10s:1h;hb=20s");
    let series = |text, kind| NewSeries { labels: name(text), kind, first_reading: None };
    world.grant(&[gauge("g"), series("t", Kind::Total), series("u", Kind::Unknown)]).unwrap();
    for series in ["g", "t", "u"] {
        world.push(&steps(series, [10, 11, 12, 143]));
    }
    let before = dump(&world.store);
    for (series, step, value, told) in [
        ("t", 100, 1.0, verdicts(0, 0, 1)),
        ("g", 100, f64::NAN, verdicts(0, 1, 0)),
        ("g", 100, 1e39, verdicts(0, 0, 1)),
        ("u", 100, 1e300, verdicts(0, 0, 1)),
        ("g", 16, 1.0, verdicts(0, 0, 1)),
        ("g", 9, 1.0, verdicts(0, 0, 1)),
    ] {
        assert_eq!(world.push(&[(series, step * STEP, value)]), told, "{series} {step} {value}");
        let rows =
            |text: &str| text.lines().filter(|l| !l.starts_with("batch")).collect::<String>();
        assert_eq!(rows(&dump(&world.store)), rows(&before), "{series} {step} {value}");
    }
    assert_eq!(world.push(&[("g", 17 * STEP, 1.0), ("u", 17 * STEP, 1e39)]), verdicts(2, 0, 0));
    assert_eq!(world.averages("g", 0, 160, 180), "1 -");
    assert_eq!(world.rows("u", 0, 160, 170).average, [1e39]);
}

/// All steps of a series, and what follows from them by the definition.
#[derive(Default)]
struct Oracle {
    values: BTreeMap<i64, f64>,
    touched: BTreeSet<i64>,
    birth: Option<i64>,
    newest: i64,
    /// By steps a row and row: values that were replaced and that its extremes still know.
    past: BTreeMap<(i64, i64), Vec<f64>>,
    row_count: i64,
}

impl Oracle {
    /// A reading at the end of a step; what becomes of it.
    fn read(&mut self, step: i64, value: f64, widths: &[i64]) -> Verdicts {
        let birth = *self.birth.get_or_insert(step - 1);
        if birth + 1 == step && self.values.is_empty() {
            self.newest = birth;
        }
        if step > self.newest {
            let is_known = step - self.newest <= 3;
            for covered in self.newest + 1..=step {
                self.values.insert(covered, if is_known { value } else { f64::NAN });
            }
            self.newest = step;
            self.touched.insert(step);
            return verdicts(1, 0, 0);
        }
        let oldest = (self.newest - 126).max(self.newest - self.row_count + 1).max(birth + 1);
        // Steps that the ring has forgotten keep their bit.
        if step > self.newest - 127 && self.touched.contains(&step) {
            return verdicts(0, 1, 0);
        }
        if step < oldest {
            return verdicts(0, 0, 1);
        }
        self.touched.insert(step);
        let old = self.values.insert(step, value).unwrap();
        for &width in widths {
            let row = (step - 1).div_euclid(width) + 1;
            let past = self.past.entry((width, row)).or_default();
            past.push(old);
            if ((row - 1) * width).max(birth) + 1 >= oldest {
                past.clear();
            }
        }
        verdicts(1, 0, 0)
    }

    /// Average, min, max and known steps of a closed row.
    fn row(&self, width: i64, row: i64) -> (f64, f64, f64, u32) {
        let steps = self.values.range((row - 1) * width + 1..=row * width);
        let known: Vec<f64> = steps.map(|(_, value)| *value).filter(|v| !v.is_nan()).collect();
        if known.is_empty() {
            return (f64::NAN, f64::NAN, f64::NAN, 0);
        }
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let past = self.past.get(&(width, row)).cloned().unwrap_or_default();
        let all = || known.iter().chain(&past).copied();
        let count = u32::try_from(known.len()).unwrap();
        (mean, all().fold(f64::NAN, f64::min), all().fold(f64::NAN, f64::max), count)
    }
}

fn compare(world: &World, oracle: &Oracle, policy: &Policy, tolerance: f64) {
    let is_close = |got: f64, want: f64| {
        (got.is_nan() && want.is_nan()) || (got - want).abs() <= tolerance * (1000.0 + want.abs())
    };
    for (archive, spec) in policy.archives().iter().enumerate() {
        let width = i64::try_from(spec.step.as_millis()).unwrap() / (STEP * 1000);
        let rows = world.rows("load", archive, 0, (oracle.newest + 1) * STEP);
        let newest = oracle.newest.div_euclid(width);
        if rows.is_empty() {
            assert_eq!(oracle.birth.unwrap_or_default().div_euclid(width), newest);
            continue;
        }
        let first = rows.first_end.as_millis() / (STEP * 1000 * width);
        assert_eq!(first + i64::try_from(rows.len()).unwrap() - 1, newest, "rows of {width}");
        for (index, row) in (first..=newest).enumerate() {
            let (average, min, max, known) = oracle.row(width, row);
            assert_eq!(rows.known[index], known, "row {row} of {width}");
            if f64::from(known) < width as f64 / 2.0 {
                assert!(rows.average[index].is_nan());
                continue;
            }
            for (got, want) in
                [(rows.average[index], average), (rows.min[index], min), (rows.max[index], max)]
            {
                assert!(is_close(got, want), "row {row} of {width}: {got}, not {want}");
            }
        }
    }
}

#[test]
fn any_late_readings_make_the_rows_of_a_naive_engine() {
    let policies = [
        ("10s:1h,1m:2h,10m:1d,1h:5d;hb=30s;f64;last", 1e-9),
        ("10s:3m,1m:1h,10m:1d;hb=30s;f64", 1e-9),
        ("10s:1h,70s:2h,20m:2d;hb=30s", 1e-5),
        ("10s:20m;hb=30s", 1e-6),
    ];
    let seeds = told().map_or(0..120, |seed| seed..seed + 1);
    for seed in seeds {
        let (text, tolerance) = policies[usize::try_from(seed).unwrap() % policies.len()];
        let again = format!("again: ROUNDEL_SEED={seed} cargo nextest run -p rrd naive_engine");
        let run = || against_the_oracle(&mut Dice::new(seed), text, tolerance);
        assert!(catch_unwind(run).is_ok(), "{again}");
    }
}

fn against_the_oracle(dice: &mut Dice, text: &str, tolerance: f64) {
    let policy = Policy::parse(text).unwrap();
    let below = |dice: &mut Dice, bound| i64::try_from(dice.below(bound)).unwrap();
    let step_ms = STEP * 1000;
    let width = |spec: &rrd::ArchiveSpec| i64::try_from(spec.step.as_millis()).unwrap() / step_ms;
    let widths: Vec<i64> = policy.archives()[1..].iter().map(width).collect();
    let row_count = i64::try_from(policy.archives()[0].row_count).unwrap();
    let mut oracle = Oracle { row_count, ..Oracle::default() };
    let mut world = World::new(text);
    world.grant(&[gauge("load")]).unwrap();
    let mut now = 1000 + below(dice, 100);
    for _ in 0..150 {
        let mut readings = Vec::new();
        let mut want = verdicts(0, 0, 0);
        for _ in 0..=dice.below(6) {
            let step = if dice.once_in(2) {
                now += if dice.once_in(20) { below(dice, 60) } else { 1 + below(dice, 3) };
                now
            } else {
                let reach = if dice.once_in(3) { 140 } else { 12 };
                now - below(dice, reach)
            };
            let value = below(dice, 100_000) as f64 / 128.0;
            readings.push(("load", step * STEP, value));
            let one = oracle.read(step, value, &widths);
            want = verdicts(
                want.stored + one.stored,
                want.duplicate + one.duplicate,
                want.late + one.late,
            );
        }
        // Late readings of a frame are filled when all others are in: the oracle takes them as they come.
        assert_eq!(one_by_one(&mut world, &readings), want, "{readings:?}");
        match dice.below(12) {
            0..2 => drop(world.round()),
            2 => drop(world.store.begin_round(world.seq(), 1).write()),
            3 => {
                let disk = world.disk.clone();
                let (restarted, damage) = world.restarted(disk);
                assert_eq!(damage, []);
                world = restarted;
            }
            _ => {}
        }
        compare(&world, &oracle, &policy, tolerance);
    }
    assert_eq!(world.store.damage(), []);
}

fn one_by_one(world: &mut World, readings: &[(&str, i64, f64)]) -> Verdicts {
    let mut sum = verdicts(0, 0, 0);
    for reading in readings {
        let one = world.push(&[*reading]);
        sum.stored += one.stored;
        sum.duplicate += one.duplicate;
        sum.late += one.late;
    }
    sum
}

/// One thing that happens to two series.
#[derive(Debug)]
enum Act {
    Push(Vec<(&'static str, i64, f64)>),
    Round,
    /// A round whose record the journal never got.
    LostRound,
    /// A round whose file cannot be synced.
    FailedRound,
}

/// Readings at any second, many of them late, with rounds between.
fn history(dice: &mut Dice) -> Vec<Act> {
    let below = |dice: &mut Dice, bound| i64::try_from(dice.below(bound)).unwrap();
    let mut now = 50;
    let mut push = |dice: &mut Dice| {
        let count = 3 + dice.below(12);
        let mut one = || {
            now += match dice.below(25) {
                0 => below(dice, 400),
                1 => 1 + below(dice, 40),
                _ => below(dice, 14),
            };
            let reach = [20, 90, 300, 1400][dice.index(4)];
            let late = if dice.once_in(2) { below(dice, reach) } else { 0 };
            let value = if dice.once_in(30) { f64::NAN } else { below(dice, 800) as f64 / 8.0 };
            (["a", "b"][dice.index(2)], (now - late).max(1), value)
        };
        Act::Push((0..count).map(|_| one()).collect())
    };
    let mut acts = Vec::new();
    for _ in 0..7 {
        acts.extend((0..=dice.below(3)).map(|_| push(dice)));
        acts.push(match dice.below(6) {
            0 | 1 => Act::LostRound,
            2 => Act::FailedRound,
            _ => Act::Round,
        });
    }
    acts
}

impl history::Act for Act {
    fn perform(&self, world: &mut World) -> bool {
        match self {
            Self::Push(readings) => drop(world.push(readings)),
            Self::Round => return world.round().failed.is_empty(),
            Self::LostRound => {
                return world.store.begin_round(world.seq(), 1).write().failed.is_empty();
            }
            Self::FailedRound => {
                let before = world.disk.op_count();
                world.disk.fail_sync(PathBuf::from(World::file_path()));
                let report = world.store.begin_round(world.seq(), 1).write();
                world.disk.heal();
                assert!(!report.failed.is_empty() || world.disk.op_count() == before);
            }
        }
        true
    }
}

fn begun(policy: &str) -> World {
    let mut world = World::new(policy);
    let whole = NewSeries { labels: name("b"), kind: Kind::Unknown, first_reading: None };
    world.grant(&[gauge("a"), whole]).unwrap();
    world
}

/// Every history, its disk stopped after every change.
fn play_all(test: &str, crash: &dyn Fn(&MemDisk, u64) -> MemDisk) {
    let policies =
        ["10s:3m,1m:20m;hb=30s;last", "10s:30m,1m:2h,10m:1d;hb=1m", "10s:4m,30s:1h;hb=1m;f64"];
    let seeds = told().map_or(0..36, |seed| seed..seed + 1);
    let mut repaired = 0;
    for seed in seeds {
        let policy = policies[usize::try_from(seed).unwrap() % policies.len()];
        let acts = history(&mut Dice::new(seed));
        let again = || format!("again: ROUNDEL_SEED={seed} cargo nextest run -p rrd {test}");
        let mut world = begun(policy);
        let granted_at = world.disk.op_count();
        let mut dumps = BTreeMap::from([(world.seq(), dump(&world.store))]);
        for act in &acts {
            let is_done = catch_unwind(AssertUnwindSafe(|| act.perform(&mut world)));
            assert!(is_done.is_ok_and(|done| done), "{} without a crash", again());
            let now = dump(&world.store);
            if let Some(before) = dumps.insert(world.seq(), now.clone()) {
                assert!(before == now, "{}: a round changes nothing that can be seen", again());
            }
        }
        assert_eq!(world.store.damage(), [], "{}", again());
        let op_count = world.disk.op_count() - granted_at;
        repaired += op_count;
        for at in 0..op_count {
            let crash = |disk: &MemDisk| crash(disk, seed * 1000 + at);
            let cut = Cut { stop_after: at, after: &crash, dumps: &dumps };
            let run = || cut.play(begun(policy), &acts);
            assert!(catch_unwind(AssertUnwindSafe(run)).is_ok(), "{}, after {at} changes", again());
        }
    }
    assert!(repaired > 20, "{repaired} changes of the disk");
}

#[test]
fn late_readings_survive_a_kill_at_any_change_of_the_disk() {
    let test = "late_readings_survive_a_kill_at_any_change_of_the_disk";
    play_all(test, &|disk, _| disk.kill());
}

#[test]
fn late_readings_survive_a_power_cut_at_any_change_of_the_disk() {
    let test = "late_readings_survive_a_power_cut_at_any_change_of_the_disk";
    play_all(test, &|disk, seed| disk.crash(seed));
}
