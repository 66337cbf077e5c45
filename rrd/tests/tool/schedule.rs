//! Random files and updates, without what would only show rrdtool's known oddities.

use super::file::START_S;

/// Numbers that look random and follow from a seed (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn from(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1).unsigned_abs()).cast_signed()
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.next() % all.len() as u64).unwrap()]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Absolute,
    Counter,
    Derive,
    DCounter,
    DDerive,
}

const KINDS: [(&str, Kind); 6] = [
    ("GAUGE", Kind::Gauge),
    ("ABSOLUTE", Kind::Absolute),
    ("COUNTER", Kind::Counter),
    ("DERIVE", Kind::Derive),
    ("DCOUNTER", Kind::DCounter),
    ("DDERIVE", Kind::DDerive),
];

/// A data source, and as much of its state as tells a known reading from an unknown one.
#[derive(Debug)]
struct Source {
    kind: Kind,
    heartbeat_s: i64,
    min: Option<f64>,
    max: Option<f64>,
    previous: Option<f64>,
    unknown_s: i64,
}

/// A file and what is done to it, as rrdtool's arguments.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) create: Vec<String>,
    pub(crate) updates: Vec<Vec<String>>,
    pub(crate) fetches: Vec<Vec<String>>,
    pub(crate) xport: Vec<String>,
}

struct Maker {
    dice: Dice,
    step_s: i64,
    sources: Vec<Source>,
    /// Steps a row, rows.
    archives: Vec<(i64, i64)>,
    last_s: i64,
}

/// Times beyond this make a fall of a counter look like a small rate.
const LONGEST_WITH_FALL_S: i64 = 4000;

impl Schedule {
    /// The schedule of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let step_s = dice.of(&[1, 7, 10, 60, 60, 300]);
        let start_s = START_S - dice.from(0, 3) * dice.from(0, 5 * step_s);
        let mut create = vec![
            "--start".to_owned(),
            start_s.to_string(),
            "--step".to_owned(),
            step_s.to_string(),
        ];
        let mut sources = Vec::new();
        for index in 0..dice.from(1, 3) {
            let (source, text) = Source::random(&mut dice, step_s, index);
            sources.push(Source { unknown_s: start_s % step_s, ..source });
            create.push(text);
        }
        let mut archives = Vec::new();
        for _ in 0..dice.from(1, 5) {
            let per_row = dice.of(&[1, 1, 2, 3, 4, 5, 12]);
            let rows = dice.from(1, 20);
            let (function, xff) = (
                dice.of(&["AVERAGE", "MIN", "MAX", "LAST"]),
                dice.of(&["0", "0.1", "0.3333333333333333", "0.5", "0.75", "0.999"]),
            );
            create.push(format!("RRA:{function}:{xff}:{per_row}:{rows}"));
            archives.push((per_row, rows));
        }
        let mut maker = Maker { dice, step_s, sources, archives, last_s: start_s };
        let updates = (0..maker.dice.from(1, 4)).map(|_| maker.update()).collect();
        let fetches = (0..2).map(|_| maker.fetch(start_s)).collect();
        let xport = maker.xport(start_s);
        Self { create, updates, fetches, xport }
    }
}

impl Source {
    fn random(dice: &mut Dice, step_s: i64, index: i64) -> (Self, String) {
        let (name, kind) = dice.of(&KINDS);
        let heartbeat_s = dice.of(&[1, 2, 2, 3, 10]) * step_s + dice.of(&[0, 0, 1]);
        let min = dice.of(&[None, None, Some(0.0), Some(-5.0), Some(1.5)]);
        let max = dice.of(&[None, None, Some(20.0), Some(100.0)]);
        let limit = |limit: Option<f64>| limit.map_or("U".to_owned(), |limit| limit.to_string());
        let text = format!("DS:d{index}:{name}:{heartbeat_s}:{}:{}", limit(min), limit(max));
        (Self { kind, heartbeat_s, min, max, previous: None, unknown_s: 0 }, text)
    }

    fn reading(&self, dice: &mut Dice, elapsed_s: i64) -> Option<f64> {
        if dice.once_in(9) {
            return None;
        }
        let elapsed = elapsed_s as f64;
        let small = dice.from(-400, 1600) as f64 / 16.0;
        let previous = self.previous.unwrap_or(100.0);
        Some(match self.kind {
            Kind::Gauge => small,
            Kind::Absolute => (small * elapsed).abs().floor(),
            // wrap32-off-by-one, wrap64-precision: a fall is only made where a limit hides its size.
            Kind::Counter
                if dice.once_in(12) && self.max.is_some() && elapsed_s < LONGEST_WITH_FALL_S =>
            {
                dice.from(0, 50) as f64
            }
            Kind::Counter => previous + (small.abs() * elapsed).floor(),
            // derive-across-zero: readings keep their sign.
            Kind::Derive => (previous + (small * elapsed).floor()).max(1.0),
            Kind::DCounter | Kind::DDerive => previous + small * elapsed,
        })
    }

    /// Whether the rate of this reading is known, the gap not looked at.
    fn is_known(&self, reading: Option<f64>, elapsed_s: i64) -> bool {
        let Some(value) = reading else { return false };
        let rise = match (self.kind, self.previous) {
            (Kind::Gauge, _) => value * elapsed_s as f64,
            (Kind::Absolute, _) => value,
            (_, None) => return false,
            (Kind::DCounter, Some(previous))
                if (value > 0.0 && previous > value) || (value < 0.0 && value > previous) =>
            {
                return false;
            }
            (Kind::Counter, Some(previous)) if value < previous => return false,
            (_, Some(previous)) => value - previous,
        };
        let rate = rise / elapsed_s as f64;
        self.min.is_none_or(|min| rate >= min) && self.max.is_none_or(|max| rate <= max)
    }

    /// u-closes-step: rrdtool forgets the unknown time with which a step is closed.
    fn shows_u_closes_step(&self, known: bool, from_s: i64, to_s: i64, step_s: i64) -> bool {
        let (head_s, end_s) = (from_s % step_s, from_s - from_s % step_s + step_s);
        let pre_s = end_s - from_s;
        let is_gap = to_s - from_s > self.heartbeat_s;
        // A gap that closes one step leaves it unknown in any case.
        let is_unknown_anyway = is_gap && to_s < end_s + step_s;
        to_s >= end_s
            && head_s > 0
            && (!known || is_gap)
            && !is_unknown_anyway
            && 2 * self.unknown_s <= step_s
            && 2 * (self.unknown_s + pre_s) > step_s
    }

    fn take(&mut self, reading: Option<f64>, known: bool, from_s: i64, to_s: i64, step_s: i64) {
        let known = known && to_s - from_s <= self.heartbeat_s;
        let opened_s = to_s - to_s % step_s;
        let counted_s = if from_s < opened_s { to_s - opened_s } else { to_s - from_s };
        if from_s < opened_s {
            self.unknown_s = 0;
        }
        self.unknown_s += if known { 0 } else { counted_s };
        self.previous = reading;
    }
}

impl Maker {
    fn update(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        let skips = self.dice.once_in(6);
        if skips {
            words.push("-s".to_owned());
        }
        words.push("--".to_owned());
        for _ in 0..self.dice.from(1, 14) {
            let odd = self.dice.from(0, 60);
            if odd <= 1 && (skips || odd == 1) {
                // Late, or the same time again.
                let values = vec!["3"; self.sources.len()].join(":");
                words.push(format!("{}:{values}", self.last_s - self.dice.from(0, 100)));
                if !skips {
                    break;
                }
                continue;
            }
            // unread-text: rrdtool does not look at a decimal count while it has none before, nor at
            // any text after a gap.
            let reads_text = !matches!(self.sources[0].kind, Kind::DCounter | Kind::DDerive);
            if odd == 2 && reads_text {
                // refused-sample-leak: the bad value is the first, so that none before it is kept.
                let values = vec!["1x"; self.sources.len()].join(":");
                words.push(format!("{}:{values}", self.last_s + 1));
                break;
            }
            for _ in 0..8 {
                if let Some(sample) = self.sample() {
                    words.push(sample);
                    break;
                }
            }
        }
        if words.last().is_some_and(|word| word == "--") {
            words.push(format!("{}:x", self.last_s));
        }
        words
    }

    fn sample(&mut self) -> Option<String> {
        let (step_s, from_s) = (self.step_s, self.last_s);
        let boundary_s = from_s - from_s % step_s + step_s;
        let to_s = match self.dice.from(0, 19) {
            0..=8 => boundary_s,
            9..=15 => from_s + self.dice.from(1, 2 * step_s),
            16..=17 => from_s + self.dice.from(1, 6 * step_s),
            18 => from_s + self.dice.from(1, 40 * step_s),
            _ => from_s + self.dice.from(1, 300 * step_s),
        };
        // ring-gap-misplaced-row: no reading closes more rows than an archive of wide rows has.
        let is_too_long = self.archives.iter().any(|(per_row, rows)| {
            let row_s = per_row * step_s;
            *per_row > 1 && to_s / row_s - from_s / row_s > *rows
        });
        let readings: Vec<_> = self
            .sources
            .iter()
            .map(|source| {
                let reading = source.reading(&mut self.dice, to_s - from_s);
                (reading, source.is_known(reading, to_s - from_s))
            })
            .collect();
        let mut both = self.sources.iter().zip(&readings);
        let is_odd = both
            .any(|(source, (_, known))| source.shows_u_closes_step(*known, from_s, to_s, step_s));
        if is_too_long || is_odd {
            return None;
        }
        for (source, (reading, known)) in self.sources.iter_mut().zip(&readings) {
            source.take(*reading, *known, from_s, to_s, step_s);
        }
        self.last_s = to_s;
        let texts =
            readings.iter().map(|(reading, _)| reading.map_or("U".to_owned(), |r| r.to_string()));
        Some(format!("{to_s}:{}", texts.collect::<Vec<_>>().join(":")))
    }

    fn xport(&mut self, start_s: i64) -> Vec<String> {
        let (low, high) = (start_s - 3 * self.step_s, self.last_s + 3 * self.step_s);
        let (a, b) = (self.dice.from(low, high), self.dice.from(low, high));
        let (function, other) = (self.function(), self.function());
        let column = self.dice.from(0, i64::try_from(self.sources.len()).unwrap() - 1);
        let step_s = self.step_s * self.dice.from(1, 9);
        let words = format!(
            "-s {} -e {} --step {step_s} -t DEF:x=f:d0:{function} DEF:y=f:d{column}:{other} \
             CDEF:z=x,y,+,x,y,GT,x,UN,y,3,%,IF,IF XPORT:x:left XPORT:y XPORT:z:both",
            a.min(b),
            a.max(b) + 1,
        );
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn function(&mut self) -> &'static str {
        self.dice.of(&["AVERAGE", "MIN", "MAX", "LAST"])
    }

    fn fetch(&mut self, start_s: i64) -> Vec<String> {
        let (low, high) = (start_s - 3 * self.step_s, self.last_s + 3 * self.step_s);
        let (a, b) = (self.dice.from(low, high), self.dice.from(low, high));
        let mut words = vec![
            self.function().to_owned(),
            "-s".to_owned(),
            a.min(b).to_string(),
            "-e".to_owned(),
            a.max(b).to_string(),
        ];
        if self.dice.once_in(2) {
            words.extend(["-r".to_owned(), (self.step_s * self.dice.from(1, 14)).to_string()]);
            if self.dice.once_in(3) {
                words.push("-a".to_owned());
            }
        }
        words
    }
}
