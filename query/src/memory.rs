//! A source of series in memory: a double for tests of this crate and of others.
//!
//! It consolidates like the store (a coarse row is known when at least half of its steps are), so
//! that tests need only name what the finest rows hold. Series are written as text:
//!
//! ```text
//! archives 1m:100,5m:50     the rings of the series below; at first 1m:1000
//! visible 3m                how long they are seen after their last row; at first three steps; or `visible ended`
//! kind counter              gauge (at first), counter (values are rates a second) or unknown
//! start 10m                 END of the first value below; at first 0
//! readings 1m=50 2m=70      raw readings of the counters below, and when they were kept; at first none
//! resets 3m 9m              when the counters below began anew; at first never
//! up{job="a"} 0 1 _ 2x3 0+10x5 _x2
//! ```
//!
//! `_` is unknown; `2x3` is 2 and three more of it; `0+10x5` is 0 and five more, each 10 higher.

use std::sync::Arc;

use promql_parser::label::MatchOp;
use promql_parser::parser::{self, Expr as Tree};
use rrd::time::parse_duration_ms;
use rrd::{
    Anchor, ArchiveSpec, Calendar, Column, InstanceId, Kind, Labels, Matcher, NAME, SeriesRef,
    Span, Step, Timestamp,
};

use crate::read::{Read, Rows, Series};

/// Series and their finest rows, in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryRead {
    series: Vec<Stored>,
}

#[derive(Clone, Debug)]
struct Stored {
    series: Series,
    /// END of the first value.
    first_end: Timestamp,
    values: Vec<f64>,
    past: MemoryPast,
}

/// What is kept of a counter beside its rates.
#[derive(Clone, Debug, Default)]
pub struct MemoryPast {
    /// Raw readings, oldest first.
    pub anchors: Vec<Anchor>,
    /// When it began anew.
    pub resets: Vec<Timestamp>,
}

/// A series to be stored: its finest rows, one after the other.
#[derive(Clone, Debug)]
pub struct MemorySeries {
    /// What names it.
    pub labels: Labels,
    /// What its rows mean.
    pub kind: Kind,
    /// Its archives, finest first.
    pub archives: Arc<[ArchiveSpec]>,
    /// How long it is seen after its last row; `None` when it ended.
    pub visible_ms: Option<u64>,
    /// END of the first value, a multiple of the finest step.
    pub first_end: Timestamp,
    /// The finest rows; NaN is unknown.
    pub values: Vec<f64>,
}

impl MemoryRead {
    /// The series of a text in the form that this module describes. Errors name the line.
    pub fn load(text: &str) -> Result<Self, String> {
        let mut read = Self::default();
        let mut setting = Setting::default();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            setting.line(line, &mut read).ok_or_else(|| format!("cannot read {line:?}"))?;
        }
        Ok(read)
    }

    /// Adds a series.
    pub fn add(&mut self, new: MemorySeries) {
        self.add_counter(new, MemoryPast::default());
    }

    /// Adds a counter of which more is kept than rates.
    pub fn add_counter(&mut self, new: MemorySeries, past: MemoryPast) {
        let step = new.archives[0].step;
        let gaps = i64::try_from(new.values.len()).unwrap_or(i64::MAX) - 1;
        let width = step.as_millis().cast_signed();
        let newest = match gaps {
            0.. => new.first_end.plus_millis(width.saturating_mul(gaps)),
            _ => Timestamp::MIN,
        };
        let index = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        let series = Series {
            series: SeriesRef { instance: InstanceId(0), column: Column { index, generation: 1 } },
            labels: new.labels,
            kind: new.kind,
            archives: new.archives,
            newest,
            visible_ms: new.visible_ms,
            birth: new.first_end - step,
        };
        let (first_end, values) = (new.first_end, new.values);
        self.series.push(Stored { series, first_end, values, past });
    }
}

impl Read for MemoryRead {
    fn select(&self, matchers: &[Matcher]) -> Vec<Series> {
        let all = self.series.iter().map(|stored| &stored.series);
        all.filter(|s| matchers.iter().all(|m| m.matches(&s.labels))).cloned().collect()
    }

    fn rows(&self, series: &Series, archive: usize, span: Span) -> Rows {
        let place = usize::try_from(series.series.column.index).unwrap_or(usize::MAX);
        match self.series.get(place) {
            Some(stored) => stored.rows(archive, span),
            None => Rows::default(),
        }
    }
}

impl Stored {
    fn rows(&self, archive: usize, span: Span) -> Rows {
        let shape = self.series.archives[archive];
        let first = shape.ended_row(span.start()) + 1;
        let mut rows = Rows { first_end: shape.row_end(first), ..Rows::default() };
        for row in first..=shape.ended_row(span.end()) {
            self.push_row(&mut rows, archive, row);
        }
        if self.series.kind.is_counter() {
            let start = shape.row_end(first - 1);
            let near = |anchor: &&Anchor| anchor.at > start && anchor.at <= span.end();
            rows.anchors = self.past.anchors.iter().filter(near).copied().collect();
        }
        rows
    }

    fn push_row(&self, rows: &mut Rows, archive: usize, row: i64) {
        let shape = self.series.archives[archive];
        let finest = self.series.archives[0].step;
        let oldest = crate::archive::oldest(&self.series, shape);
        let end = shape.row_end(row);
        let steps = u64::from(shape.steps_in(row, finest));
        let held = end > oldest && end <= self.series.newest;
        let start = if held { shape.row_end(row - 1) } else { end };
        let values: Vec<f64> = self.known(start, end, finest).collect();
        let known = u32::try_from(values.len()).unwrap_or(u32::MAX);
        let enough = known > 0 && u64::from(known) * 2 >= steps;
        let value = |value: Option<f64>| value.filter(|_| enough).unwrap_or(f64::NAN);
        let sum = values.iter().copied().reduce(|a, b| a + b);
        rows.average.push(value(sum.map(|sum| sum / f64::from(known))));
        rows.min.push(value(values.iter().copied().reduce(f64::min)));
        rows.max.push(value(values.iter().copied().reduce(f64::max)));
        rows.known.push(known);
        if self.series.kind.is_counter() {
            let within = |at: &Timestamp| *at > start && *at <= end;
            rows.resets.push(self.past.resets.iter().any(within));
        }
    }

    /// The known values that end in (start, end].
    fn known(
        &self,
        start: Timestamp,
        end: Timestamp,
        finest: Step,
    ) -> impl Iterator<Item = f64> + '_ {
        let width = finest.as_millis().cast_signed();
        let place = |at: Timestamp| {
            let past = at.millis_since(self.first_end).div_euclid(width) + 1;
            usize::try_from(past).unwrap_or(0).min(self.values.len())
        };
        self.values[place(start)..place(end)].iter().copied().filter(|value| !value.is_nan())
    }
}

/// What the lines so far have set.
struct Setting {
    archives: Arc<[ArchiveSpec]>,
    visible: Visible,
    kind: Kind,
    start_ms: u64,
    past: MemoryPast,
}

/// How long series are seen after their last row.
#[derive(Clone, Copy)]
enum Visible {
    ThreeSteps,
    For(u64),
    Ended,
}

impl Default for Setting {
    fn default() -> Self {
        let step = Step::from_secs(60).expect("a minute is a step");
        let archives = Arc::new([ArchiveSpec::even(step, 1000)]);
        let (visible, past) = (Visible::ThreeSteps, MemoryPast::default());
        Self { archives, visible, kind: Kind::Gauge, start_ms: 0, past }
    }
}

impl Setting {
    fn line(&mut self, line: &str, read: &mut MemoryRead) -> Option<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "archives" => self.archives = archives(rest)?,
            "visible" if rest == "ended" => self.visible = Visible::Ended,
            "visible" => self.visible = Visible::For(parse_duration_ms(rest)?),
            "start" => self.start_ms = parse_duration_ms(rest)?,
            "kind" => {
                self.kind = match rest {
                    "gauge" => Kind::Gauge,
                    "counter" => Kind::Total,
                    "unknown" => Kind::Unknown,
                    _ => return None,
                }
            }
            "readings" => {
                self.past.anchors = rest.split(' ').map(reading).collect::<Option<_>>()?;
            }
            "resets" => self.past.resets = rest.split(' ').map(moment).collect::<Option<_>>()?,
            _ => read.add_counter(self.series(line)?, self.past.clone()),
        }
        Some(())
    }

    fn series(&self, line: &str) -> Option<MemorySeries> {
        let split = match line.rfind('}') {
            Some(at) => at + 1,
            None => line.find(' ')?,
        };
        let (head, values) = line.split_at_checked(split)?;
        let mut all = Vec::new();
        for word in values.split_whitespace() {
            all.extend(repeated(word)?);
        }
        let visible_ms = match self.visible {
            Visible::ThreeSteps => Some(self.archives.first()?.step.as_millis() * 3),
            Visible::For(millis) => Some(millis),
            Visible::Ended => None,
        };
        Some(MemorySeries {
            labels: labels(head)?,
            kind: self.kind,
            archives: Arc::clone(&self.archives),
            visible_ms,
            first_end: Timestamp::from_millis(i64::try_from(self.start_ms).ok()?),
            values: all,
        })
    }
}

fn archives(text: &str) -> Option<Arc<[ArchiveSpec]>> {
    let one = |part: &str| {
        let (step, count) = part.split_once(':')?;
        let (step, zone) = step.split_once('@').map_or((step, None), |(s, zone)| (s, Some(zone)));
        let step = Step::from_millis(parse_duration_ms(step)?)?;
        let spec = ArchiveSpec::even(step, count.parse().ok()?);
        match zone {
            None => Some(spec),
            Some(zone) => Some(ArchiveSpec { days: Some(Calendar::of(zone)?), ..spec }),
        }
    };
    let all: Arc<[ArchiveSpec]> = text.split(',').map(one).collect::<Option<_>>()?;
    (!all.is_empty()).then_some(all)
}

/// `5m=70`
fn reading(text: &str) -> Option<Anchor> {
    let (at, reading) = text.split_once('=')?;
    Some(Anchor { at: moment(at)?, reading: reading.parse().ok()? })
}

fn moment(text: &str) -> Option<Timestamp> {
    i64::try_from(parse_duration_ms(text)?).ok().map(Timestamp::from_millis)
}

/// The labels of a series as PromQL writes them.
fn labels(text: &str) -> Option<Labels> {
    let Ok(Tree::VectorSelector(selector)) = parser::parse(text) else { return None };
    let equal = selector.matchers.matchers.iter().all(|m| m.op == MatchOp::Equal);
    let pairs = selector.matchers.matchers.into_iter().map(|m| (m.name, m.value));
    let name = selector.name.map(|name| (NAME.to_owned(), name));
    Labels::from_pairs(name.into_iter().chain(pairs)).ok().filter(|_| equal)
}

/// One value, or a run of them.
fn repeated(word: &str) -> Option<Vec<f64>> {
    let (value, more) = match word.split_once('x') {
        Some((value, more)) => (value, more.parse::<u32>().ok()?),
        None => (word, 0),
    };
    let (first, slope) = match value.get(1..)?.find(['+', '-']) {
        Some(at) if !value.get(..=at)?.ends_with('e') => {
            let (first, slope) = value.split_at_checked(at + 1)?;
            (first, slope.parse::<f64>().ok()?)
        }
        _ => (value, 0.0),
    };
    let first = if first == "_" { f64::NAN } else { first.parse().ok()? };
    Some((0..=more).map(|n| first + slope * f64::from(n)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_labels_and_values() {
        let read = MemoryRead::load("up{job=\"a b\"} 0 _ 1x2 0+10x2 -1-1x1").unwrap();
        let stored = &read.series[0];
        assert_eq!(stored.series.labels.to_string(), "up{job=\"a b\"}");
        let values: Vec<_> = stored.values.iter().map(ToString::to_string).collect();
        assert_eq!(values.join(" "), "0 NaN 1 1 1 0 10 20 -1 -2");
        assert_eq!(stored.series.newest, Timestamp::from_secs(9 * 60));
        assert!(MemoryRead::load("up{").unwrap_err().contains("up{"));
    }

    #[test]
    fn coarse_rows_are_consolidated_and_half_unknown_is_known() {
        let read = MemoryRead::load("archives 1m:100,2m:100\nstart 1m\na 1 3 _ 5 _ _").unwrap();
        let series = &read.select(&[])[0];
        let span = Span::new(Timestamp::from_secs(0), Timestamp::from_secs(360)).unwrap();
        let rows = read.rows(series, 1, span);
        assert_eq!(rows.average[..2], [2.0, 5.0]);
        assert!(rows.average[2].is_nan());
        assert_eq!(
            (rows.max[0].to_bits(), rows.known.as_slice()),
            (3.0_f64.to_bits(), &[2, 1, 0][..])
        );
    }
}
