//! Random histories of a store, its disk crashing again and again, against the same without a crash.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fixtures::dice::{Dice, told};
use rrd::{
    Cell, Change, ChangeError, Column, GrantError, GrantFrame, GrantedSeries, Kind, Labels,
    MemDisk, NewSeries, Policy,
};

use crate::world::{Frame, WEB, World, dump, gauge, name};

/// Small rings, so that they wrap many times in a history.
const POLICIES: [&str; 3] = ["10s:3m,1m:20m;hb=30s;last", "10s:5m,1m:1h;hb=1m", "1m:10m;hb=2m"];
/// What the archives of these may become, by their finest step.
const CHANGES: [(&str, [&str; 4]); 2] = [
    ("10s", ["10s:3m,1m:20m;last", "10s:5m,1m:1h;hb=1m", "10s:2m,30s:10m,2m:1h", "10s:9m;hb=30s"]),
    ("1m:", ["1m:10m;hb=2m", "1m:20m,5m:1h;last", "1m:5m,2m:30m;hb=5m", "1m:7m,3m:20m"]),
];
const HISTORIES: u64 = 300;
/// Times that each history is played, each with crashes elsewhere.
const PLAYS: u64 = 4;
/// Crashes of a play. In all 9,600 kills and as many power cuts.
const CRASHES: u64 = 8;
const ACTS: usize = 50;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Act {
    Grant(Vec<NewSeries>),
    /// More series than any room left over by a grant that was cut short.
    GrantOnFullDisk(Vec<NewSeries>),
    Push(Vec<(String, i64, f64)>),
    Labels(u64),
    Goodbye,
    /// The column of this series goes to another.
    Reuse(String, String),
    Policy(&'static str),
    Drop(String),
    Remove,
    Round,
    /// A round whose record the journal never got: it does not count.
    LostRound,
}

/// Writes a history, with what it must know to write one that works.
struct Author {
    dice: Dice,
    /// Names of series; those of gauges begin with g.
    series: Vec<String>,
    named: usize,
    now: i64,
    policies: [&'static str; 4],
    /// No round has written the last change of archives.
    is_changing: bool,
    /// The instance is to go with the next round.
    is_leaving: bool,
}

impl Author {
    fn history(seed: u64, policy: &str) -> Vec<Act> {
        let same = CHANGES.into_iter().find(|(step, _)| policy.starts_with(step));
        let mut author = Self {
            dice: Dice::new(seed),
            series: Vec::new(),
            named: 0,
            now: 0,
            policies: same.unwrap().1,
            is_changing: false,
            is_leaving: false,
        };
        (0..ACTS).map(|_| author.noted()).collect()
    }

    fn noted(&mut self) -> Act {
        let act = self.act();
        match act {
            Act::Round => (self.is_changing, self.is_leaving) = (false, false),
            Act::Policy(_) => self.is_changing = true,
            Act::Remove => self.is_leaving = true,
            _ => {}
        }
        act
    }

    fn act(&mut self) -> Act {
        let below = self.dice.below(100);
        if self.is_leaving {
            return if below < 40 { Act::LostRound } else { Act::Round };
        }
        if self.series.is_empty() || (below < 6 && self.series.len() < 12) {
            return Act::Grant((0..=self.dice.below(5)).map(|_| self.series()).collect());
        }
        match below {
            0..8 => {
                Act::GrantOnFullDisk((0..250).map(|n| gauge(&format!("no room {n}"))).collect())
            }
            8..12 => Act::Labels(self.dice.below(5)),
            12..14 => Act::Goodbye,
            14..18 => self.reuse(),
            18..34 => Act::Round,
            34..42 => Act::LostRound,
            42..46 if !self.is_changing => {
                Act::Policy(self.policies[self.dice.index(self.policies.len())])
            }
            46..48 => {
                let place = self.dice.index(self.series.len());
                Act::Drop(self.series.swap_remove(place))
            }
            48 if !self.is_changing => {
                self.series.clear();
                Act::Remove
            }
            _ => self.push(),
        }
    }

    fn name(&mut self, kind: char) -> String {
        self.named += 1;
        format!("{kind}{}", self.named)
    }

    fn series(&mut self) -> NewSeries {
        let kinds = [('g', Kind::Gauge), ('u', Kind::Unknown), ('t', Kind::Total)];
        let (letter, kind) = kinds[self.dice.index(kinds.len())];
        let new = self.name(letter);
        self.series.push(new.clone());
        NewSeries { labels: name(&new), kind, first_reading: None }
    }

    fn reuse(&mut self) -> Act {
        let Some(at) = self.series.iter().position(|name| name.starts_with('g')) else {
            return Act::Round;
        };
        let new = self.name('g');
        let old = std::mem::replace(&mut self.series[at], new.clone());
        Act::Reuse(old, new)
    }

    /// Readings in order, too late, twice, unknown, and after gaps up to longer than the ring.
    fn push(&mut self) -> Act {
        self.now += match self.dice.below(30) {
            0 => 5000,
            1..4 => 200,
            _ => 0,
        };
        let count = 1 + self.dice.below(20);
        let mut readings = Vec::new();
        for _ in 0..count {
            let place = self.dice.index(self.series.len());
            self.now += i64::try_from(self.dice.below(9)).unwrap();
            let late = if self.dice.once_in(8) { self.dice.below(40) } else { 0 };
            let at = (self.now - i64::try_from(late).unwrap()).max(1);
            let value = match self.dice.below(20) {
                0 => f64::NAN,
                1 => 1e300,
                _ => f64::from(u32::try_from(self.dice.below(1000)).unwrap()) / 8.0,
            };
            readings.push((self.series[place].clone(), at, value));
        }
        Act::Push(readings)
    }
}

impl Act {
    /// False when the disk failed: the power is off.
    fn perform(&self, world: &mut World) -> bool {
        match self {
            Self::Grant(series) => return world.grant(series).is_ok(),
            Self::GrantOnFullDisk(series) => return refuse(world, series),
            Self::Push(readings) => {
                let readings: Vec<_> =
                    readings.iter().map(|(s, at, v)| (s.as_str(), *at, *v)).collect();
                world.push(&readings);
            }
            Self::Labels(zone) => {
                let pairs = [("instance", "web-1".to_owned()), ("zone", zone.to_string())];
                world.append(Frame::Labels(WEB, Labels::from_pairs(pairs).unwrap()));
            }
            Self::Goodbye => {
                let labels = Labels::from_pairs([("instance", "web-1"), ("zone", "gone")]).unwrap();
                world.append(Frame::Gone(WEB, labels));
            }
            Self::Reuse(old, new) => reuse(world, old, new),
            Self::Policy(policy) => {
                return change(world, Change::Policy(Policy::parse(policy).unwrap()));
            }
            Self::Drop(series) => {
                let column = world.column(series);
                return change(world, Change::Drop(vec![column]));
            }
            Self::Remove => return change(world, Change::Remove),
            Self::LostRound => {
                return world.store.begin_round(world.seq(), 1).write().failed.is_empty();
            }
            Self::Round => return world.round().failed.is_empty(),
        }
        true
    }
}

fn refuse(world: &World, series: &[NewSeries]) -> bool {
    let len = world.try_file_len().unwrap_or(u64::MAX);
    world.disk.set_capacity(len);
    let labels = Labels::default();
    let request =
        rrd::GrantRequest { instance: WEB, policy: &world.policy, labels: &labels, series };
    let refused = world.store.grant(request, &mut |_| Ok::<u64, ()>(1));
    world.disk.set_capacity(u64::MAX);
    match refused {
        Err(GrantError::DiskFull { .. }) => true,
        Err(GrantError::Disk { .. }) => false,
        other => panic!("{other:?}"),
    }
}

/// False when the disk failed, by now or at the end of the last round.
fn change(world: &mut World, change: Change) -> bool {
    match world.change(change) {
        Ok(()) => true,
        Err(ChangeError::Disk { .. } | ChangeError::UnderWay(_)) => false,
        Err(other) => panic!("{other:?}"),
    }
}

fn reuse(world: &mut World, old: &str, new: &str) {
    let Column { index, generation } = world.column(old);
    let granted = GrantedSeries {
        column: Column { index, generation: generation + 1 },
        labels: name(new),
        kind: Kind::Gauge,
        heartbeat_ms: 30_000,
        cell: Cell::F32,
        min: f64::NAN,
        max: f64::NAN,
    };
    let (policy, labels) = (world.policy.clone(), Labels::default());
    world.append(Frame::Grant(GrantFrame { instance: WEB, policy, labels, series: vec![granted] }));
}

/// What the store holds after each frame, on a disk without faults, and how many changes that takes.
fn expected(policy: &str, history: &[Act]) -> (BTreeMap<u64, String>, u64) {
    let mut world = World::new(policy);
    let mut dumps = BTreeMap::from([(0, String::new())]);
    for act in history {
        assert!(act.perform(&mut world), "{act:?}");
        let now = dump(&world.store);
        if let Some(before) = dumps.insert(world.seq(), now.clone()) {
            assert_eq!(before, now, "a round changes nothing that can be seen");
        }
    }
    assert_eq!(world.store.damage(), []);
    (dumps, world.disk.op_count())
}

fn play(
    policy: &str,
    history: &[Act],
    dice: &mut Dice,
    after: &dyn Fn(u64, &MemDisk) -> MemDisk,
    (dumps, op_count): &(BTreeMap<u64, String>, u64),
) {
    let mut world = World::new(policy);
    let mut crashes = 0;
    let mut fault = |world: &World| {
        let most = if dice.once_in(3) { 8 } else { 2 * op_count / CRASHES };
        world.disk.stop_after(dice.below(most.max(1)));
        dice.number()
    };
    let mut seed = fault(&world);
    let mut acts = history.iter().peekable();
    while let Some(act) = acts.peek() {
        if act.perform(&mut world) {
            acts.next();
            continue;
        }
        crashes += 1;
        let disk = after(seed, &world.disk);
        let (restarted, damage) = world.restarted(disk);
        world = restarted;
        assert_eq!(damage, [], "after crash {crashes}");
        assert!(dump(&world.store) == dumps[&world.seq()], "after crash {crashes}");
        assert_eq!(world.store.damage(), [], "after crash {crashes}");
        if crashes < CRASHES {
            seed = fault(&world);
        }
    }
    // The crashes that are left fall between two acts, each on the files of the one before.
    for crash in crashes..CRASHES {
        let disk = after(seed ^ crash, &world.disk);
        let (restarted, damage) = world.restarted(disk);
        world = restarted;
        assert_eq!(damage, [], "after crash {crash}, at the end");
        assert!(dump(&world.store) == dumps[&world.seq()], "after crash {crash}, at the end");
    }
}

fn play_all(test: &str, after: &dyn Fn(u64, &MemDisk) -> MemDisk) {
    let seeds = told().map_or(0..HISTORIES, |seed| seed..seed + 1);
    for seed in seeds {
        let policy = POLICIES[Dice::new(seed).index(POLICIES.len())];
        let history = Author::history(seed, policy);
        let again = || format!("again: ROUNDEL_SEED={seed} cargo nextest run -p rrd {test}");
        let expected = catch_unwind(|| expected(policy, &history));
        let expected = expected.unwrap_or_else(|_| panic!("{}, without a crash", again()));
        for number in 0..PLAYS {
            let mut dice = Dice::new(seed * PLAYS + number);
            let play = || play(policy, &history, &mut dice, after, &expected);
            assert!(catch_unwind(AssertUnwindSafe(play)).is_ok(), "{}, play {number}", again());
        }
    }
}

#[test]
fn any_history_with_kills_has_the_rows_of_one_without() {
    let test = "any_history_with_kills_has_the_rows_of_one_without";
    play_all(test, &|_, disk| disk.kill());
}

#[test]
fn any_history_with_power_cuts_has_the_rows_of_one_without() {
    let test = "any_history_with_power_cuts_has_the_rows_of_one_without";
    play_all(test, &|seed, disk| disk.crash(seed));
}
