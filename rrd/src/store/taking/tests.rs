//! The straight way against the way of all others: whatever comes, both leave the same behind to the last bit.

use fixtures::dice::Dice;

use super::*;
use crate::series::{Definition, Head};
use crate::waiting::Kept;
use crate::{Cell, Kind, Policy};

const SCHEDULES: u64 = 60;
const POLICIES: [&str; 5] = [
    Policy::DEFAULT,
    "10s:1d,1m:10d",
    "1m:2d",
    "1m:2d,1h:90d,1d@Europe/Paris:5y",
    "1s:2d,2s:3d,10s:14d,1m:90d,1d:1y",
];
const KINDS: [Kind; 8] = [
    Kind::Gauge,
    Kind::Gauge,
    Kind::Total,
    Kind::Total,
    Kind::Unknown,
    Kind::Counter,
    Kind::DDerive,
    Kind::Absolute,
];
/// 2026-01-01 00:00 UTC, less some minutes: days end in the schedule.
const START_MS: i64 = 1_767_225_600_000 - 240_000;

/// The same series twice, and what comes for them.
struct World {
    dice: Dice,
    straight: State,
    one_by_one: State,
    kinds: Vec<Kind>,
    at_ms: i64,
    step_ms: i64,
    hearing: Hearing,
    /// Where in its step each frame comes.
    offset_ms: i64,
}

impl World {
    fn new(mut dice: Dice) -> Self {
        let policy = Policy::parse(POLICIES[dice.index(POLICIES.len())]).unwrap();
        let step_ms = policy.step().as_millis().cast_signed();
        let form = Form::of(policy);
        let hearing = Hearing { second: 1, learns: dice.once_in(2) };
        let offset_ms = [0, 1, step_ms / 3][dice.index(3)];
        let (straight, one_by_one) = (State::of(Arc::clone(&form)), State::of(form));
        let count = [3, 9, 40, 100][dice.index(4)];
        let (at_ms, kinds) = (START_MS, Vec::new());
        let mut world =
            Self { dice, straight, one_by_one, kinds, at_ms, step_ms, hearing, offset_ms };
        let (last, wide_in) = (world.dice.once_in(4), [2, 30][world.dice.index(2)]);
        let has_limits = world.dice.once_in(3);
        for index in 0..count {
            let kind = KINDS[world.dice.index(KINDS.len())];
            let heartbeat_ms = (3 + world.dice.below(3)) * step_ms.unsigned_abs();
            let (min, max) = if has_limits { (-5.0, 500.0) } else { (f64::NAN, f64::NAN) };
            let definition = Definition { kind, heartbeat_ms, min, max };
            let cell = if world.dice.once_in(wide_in) { Cell::F64 } else { Cell::F32 };
            let class = Class { definition, kept: Kept { cell, last } };
            world.kinds.push(kind);
            world.begin(index, 1, class);
        }
        world
    }

    fn begin(&mut self, index: usize, generation: u32, class: Class) {
        for state in [&mut self.straight, &mut self.one_by_one] {
            state.grow(index + 1);
            let class = state.class(class);
            Arc::make_mut(&mut state.columns).begin(index, Head::unborn(generation, class));
        }
    }

    fn step(&mut self) {
        let dice = &mut self.dice;
        let steps = [1, 1, 1, 1, 1, 1, 2, 9][dice.index(8)];
        let part = if dice.once_in(3) { 4 } else { 1 };
        self.at_ms += steps * self.step_ms / part;
        let silent_in = [3, 100, 1_000_000][dice.index(3)];
        let odd_in = [5, 200, 1_000_000][dice.index(3)];
        let mut samples = Vec::new();
        for index in 0..self.kinds.len() {
            if !self.dice.once_in(silent_in) {
                samples.push(self.sample(index, odd_in));
            }
        }
        self.hearing.second += 60;
        if self.dice.once_in(8) {
            let (from, to) = (self.dice.index(self.kinds.len()), self.dice.index(self.kinds.len()));
            if from < samples.len() && to < samples.len() {
                samples.swap(from, to);
            }
        }
        let took = self.straight.take(&samples, self.hearing);
        let took_singly = self.one_by_one.taking(samples.len(), self.hearing, |taking| {
            for sample in &samples {
                taking.one(sample);
            }
        });
        assert_eq!(told(&took), told(&took_singly));
    }

    fn sample(&mut self, index: usize, odd_in: u64) -> Sample {
        let generation = self.straight.columns.generation(index);
        let dice = &mut self.dice;
        let mut at_ms = self.at_ms + self.offset_ms;
        let elapsed = f64::from(u32::try_from((self.at_ms - START_MS) / 1000).unwrap());
        let noise = f64::from(u32::try_from(dice.below(1000)).unwrap()) / 8.0;
        let mut value = match self.kinds[index] {
            Kind::Gauge | Kind::Unknown | Kind::Absolute => noise - 4.0,
            _ => elapsed * 3.0 + noise / 100.0,
        };
        let mut column = Column { index: u32::try_from(index).unwrap(), generation };
        if dice.once_in(odd_in) {
            match dice.below(10) {
                0 => value = f64::NAN,
                1 => value = f64::INFINITY,
                2 => value = -0.0,
                3 => value = 1e300,
                4 => value = -1e39,
                5 => at_ms -= self.step_ms * 2,
                6 => at_ms += self.step_ms / 5,
                7 => at_ms -= self.step_ms / 5,
                8 => column.index /= 2,
                _ => column.generation += 1,
            }
        }
        Sample { column, at: Timestamp::from_millis(at_ms), value }
    }

    /// What a round does, or one series in the place of another.
    fn disturb(&mut self) {
        if self.dice.once_in(6) {
            for state in [&mut self.straight, &mut self.one_by_one] {
                state.waiting = crate::waiting::Waiting::default();
            }
        }
        if self.dice.once_in(6) {
            let index = self.dice.index(self.kinds.len());
            let generation = self.straight.columns.generation(index) + 1;
            let other = self.dice.index(self.straight.classes.len());
            let class = self.straight.classes[other];
            self.kinds[index] = class.definition.kind;
            self.begin(index, generation, class);
        }
    }

    fn check(&self, context: &str) {
        let (straight, one_by_one) = (shown(&self.straight), shown(&self.one_by_one));
        for (got, wanted) in straight.iter().zip(&one_by_one) {
            assert_eq!(got, wanted, "{context}");
        }
        assert_eq!(straight.len(), one_by_one.len(), "{context}");
    }
}

fn told(taken: &Taken) -> String {
    let Taken { verdicts, births, late, learned } = taken;
    format!("{verdicts:?} {births:?} {late:?} {learned:?}")
}

/// All that there is of each series, and of the whole.
fn shown(state: &State) -> Vec<String> {
    let mut columns = Columns::clone(&state.columns);
    let series = (0..columns.len()).map(|index| {
        let open = columns.open(index).unwrap();
        let (head, class) =
            (format!("{:?}", open.head), state.classes[usize::from(open.head.class)]);
        let rows = format!("{:?} {:?}", open.rows, open.missing);
        let column = u32::try_from(index).unwrap();
        let waits = (0..state.form.archives.len()).map(|archive| {
            let runs = state.waiting.runs(column, open.head.generation, archive);
            format!("{:?}", runs.collect::<Vec<_>>())
        });
        let waits: Vec<String> = waits.collect();
        let anchors: Vec<_> = state.waiting.anchors(column, open.head.generation).collect();
        format!("column {index}: {head} {class:?} {rows} {waits:#?} {anchors:?}")
    });
    let mut all: Vec<String> = series.collect();
    all.push(format!("newest row {}", state.newest_row));
    all
}

#[test]
fn usual_samples_leave_behind_what_they_do_one_by_one() {
    for number in 0..SCHEDULES {
        let seed = fixtures::dice::told().unwrap_or(number);
        let mut world = World::new(Dice::new(seed));
        for step in 0..=world.dice.below(60) {
            world.step();
            world.check(&format!("ROUNDEL_SEED={seed}, step {step}"));
            world.disturb();
        }
    }
}
