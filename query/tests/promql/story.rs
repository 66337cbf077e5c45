//! A story: rows, an expression, a moment, and what is expected, all as text.

use std::fmt::Write;

use query::memory::MemoryRead;
use query::{Answer, Error, Expr, Limits, Options, Range, Value};
use rrd::{Step, Timestamp};

/// Rows to ask about.
pub(crate) struct Story(MemoryRead);

/// The story that `rows` tells.
#[track_caller]
pub(crate) fn load(rows: &str) -> Story {
    Story(MemoryRead::load(rows).unwrap())
}

impl Story {
    /// The whole answer at `minute`.
    #[track_caller]
    pub(crate) fn answer(&self, expr: &str, minute: i64) -> Answer {
        self.try_at(expr, minute).unwrap_or_else(|error| panic!("{expr}: {error}"))
    }

    pub(crate) fn try_at(&self, expr: &str, minute: i64) -> Result<Answer, Error> {
        let at = Timestamp::from_secs(60 * minute);
        Expr::parse(expr)?.instant(&self.0, at, &Limits::default())
    }

    /// The answer at minute 2, under these limits.
    pub(crate) fn with_limits(&self, expr: &str, limits: &Limits) -> Result<Answer, Error> {
        Expr::parse(expr)?.instant(&self.0, Timestamp::from_secs(120), limits)
    }

    /// Asserts the answer at `minute`: elements `labels value`, apart by `; `, in their order.
    #[track_caller]
    pub(crate) fn at(&self, minute: i64, expr: &str, expected: &str) -> &Self {
        assert_eq!(written(&self.answer(expr, minute).value), expected, "{expr} at {minute}m");
        self
    }

    /// Asserts the answer of each minute from `first` to `last`.
    #[track_caller]
    pub(crate) fn range(&self, first: i64, last: i64, expr: &str, expected: &str) -> &Self {
        let answer = self.try_range((first, last, 1), expr, Options::default()).unwrap();
        assert_eq!(written(&answer.value), expected, "{expr} from {first}m to {last}m");
        self
    }

    pub(crate) fn try_range(
        &self,
        (first, last, step): (i64, i64, u64),
        expr: &str,
        options: Options,
    ) -> Result<Answer, Error> {
        let range = Range {
            start: Timestamp::from_secs(60 * first),
            end: Timestamp::from_secs(60 * last),
            step: Step::from_secs(60 * step).unwrap(),
        };
        Expr::parse(expr)?.range_with(&self.0, range, &Limits::default(), options)
    }

    /// Asserts that the answer at `minute` is an error that says `expected`.
    #[track_caller]
    pub(crate) fn fails(&self, minute: i64, expr: &str, expected: &str) -> &Self {
        let error = self.try_at(expr, minute).expect_err(expr).to_string();
        assert!(error.contains(expected), "{expr}: {error}");
        self
    }

    /// Asserts that the answer at `minute` warns of `expected`.
    #[track_caller]
    pub(crate) fn warns(&self, minute: i64, expr: &str, expected: &str) -> &Self {
        let warnings = self.answer(expr, minute).warnings;
        assert!(warnings.iter().any(|w| w.contains(expected)), "{expr}: {warnings:?}");
        self
    }
}

/// The value as text; numbers are rounded to nine digits.
pub(crate) fn written(value: &Value) -> String {
    match value {
        Value::Scalar { value, .. } => number(*value),
        Value::Text(text) => format!("{text:?}"),
        Value::Vector(points) => {
            let one = |p: &query::Point| format!("{} {}", p.labels, number(p.value));
            points.iter().map(one).collect::<Vec<_>>().join("; ")
        }
        Value::Matrix(lines) => lines.iter().map(self::line).collect::<Vec<_>>().join("; "),
    }
}

fn line(line: &query::Line) -> String {
    let mut text = line.labels.to_string();
    for (at, value) in &line.points {
        let minute = at.as_millis() / 60_000;
        write!(text, " {minute}:{}", number(*value)).unwrap();
    }
    text
}

fn number(value: f64) -> String {
    let rounded = format!("{value:.9}");
    if rounded.contains('.') {
        rounded.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        rounded
    }
}
