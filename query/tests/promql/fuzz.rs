//! Random queries: none panics or takes more than its share, and a range agrees with its moments.
//!
//! `ROUNDEL_FUZZ_SECS` says for how long (60 for a thorough run), `ROUNDEL_SEED` repeats a run.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fixtures::dice::Dice;
use query::memory::MemoryRead;
use query::{Error, Expr, Limits, Options, Range, Value};
use rrd::{Step, Timestamp};

/// As many seconds as a build may spend on it each time.
const USUAL_SECS: u64 = 3;

/// What all queries together may add to the memory of the process.
const MOST_MEMORY_KB: u64 = 200_000;

const SERIES: &str = "\
archives 1m:10,5m:30,1h:100
start 1m
a{x=\"1\",y=\"p\"} 0+1x70
a{x=\"2\",y=\"p\"} 5 _ 3 1x30 _x3 9 8 7x33
a{x=\"3\"} -1x20 _x20 0+0.5x20
b{x=\"1\",le=\"1\"} 1x70
b{x=\"1\",le=\"+Inf\"} 3+2x70
b{x=\"2\"} 7 7 1e300x40 -1e300 0
kind unknown
u{x=\"1\"} 1 5 2 9 1 1 4x60
kind counter
readings 5m=100 20m=2000 58m=70
resets 12m 50m
c{x=\"1\",y=\"p\"} 1x30 2 _ 3x30
readings 3m=5
resets 2m
c{x=\"2\",y=\"q\"} 0.5x10 0x40";

/// One of these words.
fn one_of(dice: &mut Dice, words: &str) -> String {
    let all: Vec<&str> = words.split(' ').collect();
    all[dice.index(all.len())].to_owned()
}

/// Writes random queries, each part no deeper than what is left of `depth`.
struct Author {
    dice: Dice,
}

impl Author {
    fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.selector();
        }
        let of = depth - 1;
        match self.dice.index(16) {
            0..=2 => self.selector(),
            3..=6 => self.over(of),
            7 | 8 => self.aggregate(of),
            9..=11 => self.binary(of),
            12 | 13 => self.map(of),
            14 => format!("({})", self.vector(of)),
            _ => self.named(of),
        }
    }

    fn selector(&mut self) -> String {
        let name = one_of(
            &mut self.dice,
            "a a b c c u nothing a{x=\"1\"} c{x!=\"1\"} {x=~\"1|2\",__name__!=\"b\"} b{le=\"+Inf\"}",
        );
        name + &self.shift()
    }

    fn shift(&mut self) -> String {
        match self.dice.index(12) {
            0 => format!(" offset {}", one_of(&mut self.dice, "1m 7m 90s 1h -5m -1h 3d 1ms")),
            1 => {
                format!(" @ {}", one_of(&mut self.dice, "0 600 1800.5 3600 -60 1e9 start() end()"))
            }
            2 => format!(" @ {} offset -2m", one_of(&mut self.dice, "1200 end()")),
            _ => String::new(),
        }
    }

    fn range(&mut self, depth: usize) -> String {
        let width = one_of(&mut self.dice, "1ms 30s 1m 90s 5m 17m 1h 1d 1y");
        if self.dice.once_in(3) {
            let step = one_of(&mut self.dice, ":  :1m :30s :7m :1h");
            return format!("({})[{width}{}]{}", self.vector(depth), or_colon(&step), self.shift());
        }
        let name = one_of(&mut self.dice, "a b c u nothing c{x=\"1\"}");
        format!("{name}[{width}]{}", self.shift())
    }

    fn over(&mut self, depth: usize) -> String {
        let range = self.range(depth);
        match self.dice.index(6) {
            0 => format!("quantile_over_time({}, {range})", self.scalar(depth)),
            1 => format!("predict_linear({range}, {})", self.scalar(depth)),
            2 => format!("holt_winters({range}, {}, 0.5)", one_of(&mut self.dice, "0.1 0.9 0.5 2")),
            _ => {
                let name = one_of(
                    &mut self.dice,
                    "rate increase irate delta idelta deriv changes resets avg_over_time \
                     min_over_time max_over_time sum_over_time count_over_time stddev_over_time \
                     stdvar_over_time last_over_time first_over_time present_over_time \
                     absent_over_time mad_over_time ts_of_max_over_time ts_of_last_over_time",
                );
                format!("{name}({range})")
            }
        }
    }

    fn aggregate(&mut self, depth: usize) -> String {
        let by = match self.dice.index(4) {
            0 => format!(" by ({}) ", one_of(&mut self.dice, "x y le x,y nothing")),
            1 => format!(" without ({}) ", one_of(&mut self.dice, "x y le x,y nothing")),
            _ => String::new(),
        };
        let of = self.vector(depth);
        match self.dice.index(6) {
            0 => format!("topk{by}({}, {of})", one_of(&mut self.dice, "0 1 2 -1 NaN 1e30")),
            1 => format!("bottomk{by}({}, {of})", self.scalar(depth)),
            2 => format!("quantile{by}({}, {of})", self.scalar(depth)),
            3 => format!("count_values{by}(\"{}\", {of})", one_of(&mut self.dice, "x v le")),
            _ => {
                let name = one_of(&mut self.dice, "sum avg min max count group stddev stdvar");
                format!("{name}{by}({of})")
            }
        }
    }

    fn binary(&mut self, depth: usize) -> String {
        let (left, right) = (self.vector(depth), self.vector(depth));
        match self.dice.index(4) {
            0 => {
                let op = one_of(&mut self.dice, "+ - * / % ^ atan2 == != > < >= <= >bool ==bool");
                format!("{left} {op} {}", self.scalar(depth))
            }
            1 => format!(
                "{left} {} {}{right}",
                one_of(&mut self.dice, "and or unless"),
                one_of(&mut self.dice, " on(x) ignoring(y) on() ")
            ),
            2 => format!(
                "{left} {} {} {right}",
                one_of(&mut self.dice, "+ / > ==bool"),
                one_of(&mut self.dice, "on(x) ignoring(y,le) ignoring(le) on(x,y)")
            ),
            _ => format!(
                "{left} {} {} {right}",
                one_of(&mut self.dice, "* - <"),
                one_of(
                    &mut self.dice,
                    "on(x)group_left(y) on(x)group_right ignoring(le)group_left on()group_left(x)"
                )
            ),
        }
    }

    fn map(&mut self, depth: usize) -> String {
        let of = self.vector(depth);
        match self.dice.index(5) {
            0 => format!("clamp({of}, {}, {})", self.scalar(depth), self.scalar(depth)),
            1 => format!("round({of}, {})", self.scalar(depth)),
            2 => format!("-{of}"),
            _ => {
                let name = one_of(
                    &mut self.dice,
                    "abs ceil floor exp ln sqrt sgn sinh acos deg hour year day_of_week \
                     days_in_month day_of_year minute timestamp absent sort sort_desc",
                );
                format!("{name}({of})")
            }
        }
    }

    fn named(&mut self, depth: usize) -> String {
        let of = self.vector(depth);
        match self.dice.index(7) {
            0 => format!("histogram_quantile({}, {of})", self.scalar(depth)),
            1 => format!("histogram_fraction({}, 2, {of})", self.scalar(depth)),
            2 => format!(
                "label_replace({of}, \"{}\", \"$1!\", \"x\", \"(.*)\")",
                one_of(&mut self.dice, "x z")
            ),
            3 => format!("label_join({of}, \"z\", \"-\", \"x\", \"y\")"),
            4 => format!("sort_by_label({of}, \"x\")"),
            5 => format!("vector({})", self.scalar(depth)),
            _ => one_of(&mut self.dice, "hour() year() vector(time()) absent(nothing)"),
        }
    }

    fn scalar(&mut self, depth: usize) -> String {
        match self.dice.index(8) {
            0 if depth > 0 => format!("scalar({})", self.vector(depth - 1)),
            1 => "time() / 3600".to_owned(),
            2 => "(-pi() ^ 2)".to_owned(),
            _ => one_of(&mut self.dice, "0 0.5 0.9 1 2 -1 NaN Inf -Inf 1e300 0x1F 5m"),
        }
    }

    /// A query with a few letters lost, doubled or exchanged.
    fn damaged(&mut self, text: &str) -> String {
        let mut letters: Vec<char> = text.chars().collect();
        for _ in 0..=self.dice.index(4) {
            let at = self.dice.index(letters.len().max(1)).min(letters.len().saturating_sub(1));
            if letters.is_empty() {
                break;
            }
            match self.dice.index(4) {
                0 => drop(letters.remove(at)),
                1 => letters.insert(at, letters[at]),
                2 => {
                    let other = self.dice.index(letters.len());
                    letters.swap(at, other);
                }
                _ => {
                    let all: Vec<char> = "()[]{},:@\"'`\\+-*é0x1e9mdy =!~#\n".chars().collect();
                    letters[at] = all[self.dice.index(all.len())];
                }
            }
        }
        letters.into_iter().collect()
    }
}

fn or_colon(step: &str) -> &str {
    if step.is_empty() { ":" } else { step }
}

fn limits() -> Limits {
    Limits { points: 300_000, answer: 100_000, looks: 20_000_000, ..Limits::default() }
}

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_secs(60 * minute)
}

/// The values of an answer of one moment, by the text of their labels.
fn values(value: &Value, at: Timestamp) -> BTreeMap<String, f64> {
    match value {
        Value::Vector(points) => points.iter().map(|p| (p.labels.to_string(), p.value)).collect(),
        Value::Matrix(lines) => {
            let at_once = lines.iter().filter_map(|line| {
                let point = line.points.iter().find(|(moment, _)| *moment == at)?;
                Some((line.labels.to_string(), point.1))
            });
            at_once.collect()
        }
        Value::Scalar { value, .. } => BTreeMap::from([("{}".to_owned(), *value)]),
        Value::Text(_) => BTreeMap::new(),
    }
}

fn is_same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs()
}

/// Asks for a range and for each of its moments; both must say the same.
fn check(read: &MemoryRead, expr: &Expr) -> Result<(), Error> {
    let range = Range { start: minute(40), end: minute(80), step: Step::from_secs(600).unwrap() };
    let answer = expr.range_with(read, range, &limits(), Options::default())?;
    if expr.text().contains("start()") || expr.text().contains("end()") {
        return Ok(());
    }
    for moment in [40, 50, 60, 70, 80].map(minute) {
        let once = expr.instant(read, moment, &limits())?;
        let (found, expected) = (values(&once.value, moment), values(&answer.value, moment));
        let is_equal = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && is_same(*a.1, *b.1));
        assert!(is_equal, "{} at {moment:?}: {found:?} but {expected:?} in a range", expr.text());
    }
    Ok(())
}

/// The most memory this process ever had; `None` where the system does not say.
fn most_memory_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the length of the run is all that depends on it")]
fn random_queries_are_survived_within_bounds_and_agree_with_themselves() {
    let seed =
        setting("ROUNDEL_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let secs = setting("ROUNDEL_FUZZ_SECS").unwrap_or(USUAL_SECS);
    println!("ROUNDEL_SEED={seed}");
    let read = MemoryRead::load(SERIES).unwrap();
    let mut author = Author { dice: Dice::new(seed) };
    let before = most_memory_kb();
    let end = Instant::now() + Duration::from_secs(secs);
    let (mut asked, mut answered) = (0_u64, 0_u64);
    while Instant::now() < end {
        let depth = author.dice.index(5);
        let text = author.vector(depth);
        let text = if author.dice.once_in(4) { author.damaged(&text) } else { text };
        asked += 1;
        let ask = || Expr::parse(&text).and_then(|expr| check(&read, &expr));
        let is_answered = catch_unwind(AssertUnwindSafe(ask))
            .unwrap_or_else(|_| panic!("the query was {text}; ROUNDEL_SEED={seed}"));
        answered += u64::from(is_answered.is_ok());
    }
    println!("{asked} queries, {answered} answered");
    assert!(answered * 4 > asked, "of {asked} queries only {answered} were answered");
    if let Some((before, after)) = before.zip(most_memory_kb()) {
        assert!(after - before < MOST_MEMORY_KB, "memory rose from {before} to {after} kB");
    }
}
