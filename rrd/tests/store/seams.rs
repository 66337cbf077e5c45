//! What was thought of by itself, together: late readings, changes of archives and of the finest step, days
//! of zones, counters that fall, heartbeats that are learned, and crashes between any two changes of the disk.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use fixtures::dice::{Dice, told};
use rrd::{
    Batch, Change, ChangeError, Kind, MemDisk, NewSeries, Policy, Sample, SampleFrame, Verdicts,
};

use crate::history::{self, Act as _, Cut, differ};
use crate::world::{Frame, WEB, World, dump, gauge, secs};

/// Policies that may become each other, and the seconds that histories count in.
struct Family {
    unit_s: i64,
    start_s: i64,
    policies: &'static [&'static str],
}

const FAMILIES: [Family; 2] = [
    Family {
        unit_s: 1,
        start_s: 1200,
        policies: &[
            "10s:3m,1m:20m;last",
            "10s:30m,1m:2h,10m:1d;hb=1m",
            "30s:10m,2m:1h;last",
            "20s:20m,1m:10h;hb=2m",
            "10s:4m,30s:1h",
            "1m:10m,5m:2h",
            "5s:3m,10s:20m,1m:1h;f64;last",
        ],
    },
    Family {
        unit_s: 90,
        // Some days before the clocks of Paris change.
        start_s: 1_774_483_200,
        policies: &[
            "15m:10h,1d@Europe/Paris:9d;last",
            "15m:2d,1h:3d,1d@Europe/Paris:30d",
            "15m:5h,2h:2d,1d:20d;hb=1h",
            "15m:1d,1d@Asia/Kolkata:5d;last",
            "30m:1d,2h:4d",
        ],
    },
];
const GAUGES: [&str; 3] = ["a", "b", "c"];
const COUNTERS: [&str; 2] = ["t", "u"];
/// All readings of gauges, and all rates of counters, are at most this.
const MOST: f64 = 1000.0;

#[derive(Clone, Debug)]
enum Act {
    /// Readings of a frame; those of a relay have no number.
    Push(bool, Vec<(&'static str, i64, f64)>),
    Policy(&'static str),
    Drop(&'static str),
    Grant(&'static str),
    Round,
    /// A round whose record the journal never got.
    LostRound,
    /// A round whose file cannot be synced.
    FailedRound,
}

struct Author<'a> {
    dice: &'a mut Dice,
    family: &'static Family,
    now: i64,
    counts: BTreeMap<&'static str, (i64, f64)>,
}

impl Author<'_> {
    fn below(&mut self, bound: u64) -> i64 {
        i64::try_from(self.dice.below(bound)).unwrap()
    }

    fn acts(&mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        let mut is_changing = false;
        for _ in 0..9 {
            for _ in 0..=self.dice.below(3) {
                acts.push(if self.dice.once_in(6) { self.regular() } else { self.push() });
            }
            if !is_changing && self.dice.once_in(3) {
                let all = self.family.policies;
                acts.push(Act::Policy(all[self.dice.index(all.len())]));
                is_changing = true;
                acts.push(self.push());
            }
            if self.dice.once_in(9) {
                // It comes again, in the next generation of its column.
                let series = [GAUGES[2], COUNTERS[1]][self.dice.index(2)];
                acts.extend([Act::Drop(series), Act::Grant(series)]);
                self.counts.remove(series);
                acts.push(self.push());
            }
            acts.push(match self.dice.below(6) {
                0 | 1 => Act::LostRound,
                2 => Act::FailedRound,
                _ => Act::Round,
            });
            is_changing &= !matches!(acts.last(), Some(Act::Round));
        }
        acts
    }

    /// Readings at any second, many of them late.
    fn push(&mut self) -> Act {
        let count = 3 + self.dice.below(12);
        let readings = (0..count).map(|_| self.reading()).collect();
        Act::Push(self.dice.once_in(2), readings)
    }

    fn reading(&mut self) -> (&'static str, i64, f64) {
        let unit = self.family.unit_s;
        self.now += match self.dice.below(25) {
            0 => self.below(400) * unit,
            1 => self.below(41) * unit,
            _ => self.below(14) * unit,
        } + self.below(2);
        if self.dice.once_in(4) {
            return self.count();
        }
        let reach = [20, 90, 300, 1400][self.dice.index(4)];
        let late = if self.dice.once_in(2) { self.below(reach) * unit } else { 0 };
        let value = if self.dice.once_in(30) { f64::NAN } else { self.below(8001) as f64 / 8.0 };
        (GAUGES[self.dice.index(GAUGES.len())], self.now - late, value)
    }

    /// A counter that rises by at most so much a second, and begins anew now and then.
    fn count(&mut self) -> (&'static str, i64, f64) {
        let series = COUNTERS[self.dice.index(COUNTERS.len())];
        let rate = self.below(1000);
        let (at, before) = self.counts.get(series).copied().unwrap_or((self.now, 0.0));
        let count = if self.dice.once_in(12) {
            self.below(50) as f64
        } else {
            before + (rate * (self.now - at)) as f64
        };
        self.counts.insert(series, (self.now, count));
        (series, self.now, count)
    }

    /// A relay that sends one series seldom and regularly.
    fn regular(&mut self) -> Act {
        let series = GAUGES[self.dice.index(2)];
        let apart = (11 + self.below(30)) * 10 * self.family.unit_s;
        let one = |author: &mut Self| {
            author.now += apart;
            (series, author.now, author.below(1000) as f64)
        };
        Act::Push(true, (0..5).map(|_| one(self)).collect())
    }
}

fn series(text: &str) -> NewSeries {
    let kind = match text {
        "t" | "u" => Kind::Total,
        "b" => Kind::Unknown,
        _ => Kind::Gauge,
    };
    NewSeries { kind, ..gauge(text) }
}

impl history::Act for Act {
    fn perform(&self, world: &mut World) -> bool {
        match self {
            Self::Push(is_relayed, readings) => drop(push(world, *is_relayed, readings)),
            Self::Policy(text) => {
                let changed = world.change(Change::Policy(Policy::parse(text).unwrap()));
                return matches!(changed, Ok(()) | Err(ChangeError::OtherStep { .. }));
            }
            Self::Drop(text) => {
                let column = world.column(text);
                return world.change(Change::Drop(vec![column])).is_ok();
            }
            Self::Grant(text) => return world.grant(&[series(text)]).is_ok(),
            Self::Round => return world.round().failed.is_empty(),
            Self::LostRound => {
                return world.store.begin_round(world.seq(), 1).write().failed.is_empty();
            }
            Self::FailedRound => {
                world.disk.fail_sync(PathBuf::from(World::file_path()));
                drop(world.store.begin_round(world.seq(), 1).write());
                world.disk.heal();
            }
        }
        true
    }
}

fn push(world: &mut World, is_relayed: bool, readings: &[(&str, i64, f64)]) -> Verdicts {
    if !is_relayed {
        return world.push(readings);
    }
    let sample = |&(series, at, value): &(&str, i64, f64)| Sample {
        column: world.column(series),
        at: secs(at),
        value,
    };
    let samples = readings.iter().map(sample).collect();
    world.now = readings.iter().map(|r| secs(r.1)).fold(world.now, Ord::max);
    let batch = Batch::default();
    world.append(Frame::Samples(SampleFrame { instance: WEB, batch, samples }))
}

fn begun(policy: &str) -> World {
    let mut world = World::new(policy);
    let all: Vec<_> = GAUGES.iter().chain(&COUNTERS).map(|text| series(text)).collect();
    world.grant(&all).unwrap();
    world
}

/// Every row lies between the least and the largest of what was read.
fn check_rows(world: &World) {
    let text = dump(&world.store);
    for line in text.lines().filter(|line| line.starts_with("row ")) {
        let numbers = line.split(' ').skip(3).take(3).map(|number| number.parse::<f64>().unwrap());
        for number in numbers.filter(|number| !number.is_nan()) {
            assert!((-1e-3..=MOST + 1e-2).contains(&number), "{line}");
        }
    }
}

/// Every history, its disk stopped after many of its changes.
fn play_all(test: &str, crash: &dyn Fn(&MemDisk, u64) -> MemDisk) {
    let seeds = told().map_or(0..HISTORIES, |seed| seed..seed + 1);
    for seed in seeds {
        let mut dice = Dice::new(seed);
        let family = &FAMILIES[dice.index(FAMILIES.len())];
        let policy = family.policies[dice.index(family.policies.len())];
        let now = family.start_s;
        let acts = Author { dice: &mut dice, family, now, counts: BTreeMap::new() }.acts();
        let again = || format!("again: ROUNDEL_SEED={seed} cargo nextest run -p rrd {test}");
        let mut world = begun(policy);
        let granted_at = world.disk.op_count();
        let mut dumps = BTreeMap::from([(world.seq(), dump(&world.store))]);
        for act in &acts {
            let run = || {
                assert!(act.perform(&mut world), "{act:?}");
                check_rows(&world);
                let now = dump(&world.store);
                let before = dumps.entry(world.seq()).or_insert_with(|| now.clone());
                differ(before, &now, &format!("{act:?} changes what is seen"));
            };
            assert!(catch_unwind(AssertUnwindSafe(run)).is_ok(), "{} without a crash", again());
        }
        assert_eq!(world.store.damage(), [], "{}", again());
        let op_count = world.disk.op_count() - granted_at;
        let stride = if told().is_some() { 1 } else { STRIDE };
        for at in (seed % stride..op_count).step_by(usize::try_from(stride).unwrap()) {
            let crash = |disk: &MemDisk| crash(disk, seed * 1000 + at);
            let cut = Cut { stop_after: at, after: &crash, dumps: &dumps };
            let run = || cut.play(begun(policy), &acts);
            assert!(catch_unwind(AssertUnwindSafe(run)).is_ok(), "{}, after {at} changes", again());
        }
    }
}

const HISTORIES: u64 = 40;
/// Of so many changes of the disk one is the last; a seed that is told stops after each.
const STRIDE: u64 = 23;

#[test]
fn all_together_survive_a_kill_at_any_change_of_the_disk() {
    play_all("all_together_survive_a_kill", &|disk, _| disk.kill());
}

#[test]
fn all_together_survive_a_power_cut_at_any_change_of_the_disk() {
    play_all("all_together_survive_a_power_cut", &|disk, seed| disk.crash(seed));
}
