//! From selectors to columns: rows are read once a series and archive, then looked at per moment.

use rrd::{Span, Step, Timestamp};

use crate::archive::{Stretch, grown_ms, oldest, stretches};
use crate::columns::{Cell, Column};
use crate::evaluate::Run;
use crate::moments::Moments;
use crate::plan::{At, Selector, Wanted, Window};
use crate::read::{Rows, Series};
use crate::window::{Frame, Over};
use crate::{Error, Line};

/// The rows one stretch of moments looks at.
pub(crate) struct Held {
    pub(crate) rows: Rows,
    /// Width of each row.
    pub(crate) step: Step,
}

impl Held {
    /// The index of the last row that ends at or before `at`; it may lie outside the rows.
    pub(crate) fn index(&self, at: Timestamp) -> i64 {
        at.millis_since(self.rows.first_end).div_euclid(self.step.as_millis().cast_signed())
    }

    /// END of the row of this index.
    pub(crate) fn end(&self, index: i64) -> Timestamp {
        self.rows.first_end.plus_millis(index.saturating_mul(self.step.as_millis().cast_signed()))
    }
}

/// The row of each moment in turn. Where a stride is whole rows it needs no division, which
/// would be half the cost of a fleet's aggregate.
struct Place<'a> {
    held: &'a Held,
    rows_per_moment: Option<i64>,
    next: Option<i64>,
}

impl<'a> Place<'a> {
    fn of(held: &'a Held, moments: Moments) -> Self {
        let (stride, width) = (moments.stride_ms(), held.step.as_millis().cast_signed());
        let rows_per_moment = (stride % width == 0).then_some(stride / width);
        Self { held, rows_per_moment, next: None }
    }

    /// The row at `at`, the moment after the one asked before.
    fn row(&mut self, at: Timestamp) -> i64 {
        let row = self.next.unwrap_or_else(|| self.held.index(at));
        self.next = self.rows_per_moment.map(|rows| row + rows);
        row
    }
}

impl Run<'_> {
    /// The value of each selected series at each moment.
    pub(crate) fn select(
        &mut self,
        selector: &Selector,
        wanted: Wanted,
    ) -> Result<Vec<Column>, Error> {
        let (found, moments) = self.find(selector)?;
        let mut bare_counters = Bare::default();
        let mut columns = Vec::with_capacity(found.len());
        for series in found {
            self.limits.patience.check()?;
            if series.kind.is_counter() && wanted == Wanted::Value {
                bare_counters.note(&series);
                continue;
            }
            let mut cells = vec![Cell::ABSENT; moments.count()];
            for stretch in stretches(&series, moments, None, self.widest) {
                self.read_values(&series, moments, &stretch, wanted, &mut cells);
            }
            columns.push(self.column(&series, cells));
        }
        self.warn_of_bare(&bare_counters);
        Ok(columns)
    }

    /// A function of a window before each moment, of each selected series.
    pub(crate) fn over(
        &mut self,
        function: Over,
        selector: &Selector,
        window: Window,
    ) -> Result<Vec<Column>, Error> {
        let (found, moments) = self.find(selector)?;
        let mut bare_counters = Bare::default();
        let mut columns = Vec::with_capacity(found.len());
        for series in found {
            self.limits.patience.check()?;
            if series.kind.is_counter() && !function.knows_counters() {
                bare_counters.note(&series);
                continue;
            }
            let mut cells = vec![Cell::ABSENT; moments.count()];
            for stretch in stretches(&series, moments, Some(window.width_ms), self.widest) {
                self.read_windows(&series, moments, &stretch, (function, window), &mut cells);
            }
            columns.push(self.column(&series, cells));
        }
        self.warn_of_bare(&bare_counters);
        Ok(columns)
    }

    /// The known rows of the window before the one moment of an instant query.
    pub(crate) fn rows(&mut self, selector: &Selector, window: Window) -> Result<Vec<Line>, Error> {
        let (found, moments) = self.find(selector)?;
        let mut bare_counters = Bare::default();
        let mut lines = Vec::new();
        for series in found {
            self.limits.patience.check()?;
            if series.kind.is_counter() {
                bare_counters.note(&series);
                continue;
            }
            for stretch in stretches(&series, moments, Some(window.width_ms), self.widest) {
                let step = series.archives[stretch.archive].step;
                let at = moments.last();
                let width_ms = grown_ms(window.width_ms, step);
                let Some(held) = self.hold(&series, &stretch, at, at.plus_millis(-width_ms)) else {
                    continue;
                };
                self.note_use(step, moments, &stretch);
                self.warn_of_growth(window, step);
                let points: Vec<_> = Frame::of(&series, &held, at, width_ms).points().collect();
                self.spend(points.len())?;
                if !points.is_empty() {
                    lines.push(Line { labels: series.labels.clone(), points });
                }
            }
        }
        self.warn_of_bare(&bare_counters);
        Ok(lines)
    }

    /// The series a selector names, and the moments it asks them for.
    fn find(&mut self, selector: &Selector) -> Result<(Vec<Series>, Moments), Error> {
        let moments = match selector.at {
            None => self.moments,
            Some(At::Moment(at)) => Moments::one(at),
            Some(At::Start) => Moments::one(self.moments.first()),
            Some(At::End) => Moments::one(self.moments.last()),
        };
        let found = self.read.select(&selector.matchers);
        if found.len() > self.limits.series {
            return Err(Error::Limit(format!(
                "a selector finds {} series, over the limit of {}; add matchers",
                found.len(),
                self.limits.series
            )));
        }
        self.spend(found.len().saturating_mul(self.moments.count()))?;
        Ok((found, moments.earlier(selector.offset_ms)))
    }

    fn read_values(
        &mut self,
        series: &Series,
        moments: Moments,
        stretch: &Stretch,
        wanted: Wanted,
        cells: &mut [Cell],
    ) {
        let step = series.archives[stretch.archive].step;
        let first = moments.at(stretch.moments.start).min(series.newest);
        let last = moments.at(stretch.moments.end - 1);
        let Some(held) = self.hold(series, stretch, last, first.floor(step) - step) else { return };
        self.note_use(step, moments, stretch);
        let mut place = Place::of(&held, moments);
        for index in stretch.moments.clone() {
            let at = moments.at(index);
            if at > series.newest && !visible(series, at) {
                break; // Later moments are even farther from the last row.
            }
            let row = if at > series.newest { held.index(series.newest) } else { place.row(at) };
            let value = usize::try_from(row).ok().and_then(|row| held.rows.average.get(row));
            let cell = Cell::known(value.copied().unwrap_or(f64::NAN));
            cells[index] = match wanted {
                Wanted::End if cell.is_present() => Cell::of(held.end(row).as_secs_f64()),
                _ => cell,
            };
        }
    }

    fn read_windows(
        &mut self,
        series: &Series,
        moments: Moments,
        stretch: &Stretch,
        (function, window): (Over, Window),
        cells: &mut [Cell],
    ) {
        let step = series.archives[stretch.archive].step;
        let width_ms = grown_ms(window.width_ms, step);
        let first = moments.at(stretch.moments.start);
        let last = moments.at(stretch.moments.end - 1);
        let Some(held) = self.hold(series, stretch, last, first.plus_millis(-width_ms)) else {
            return;
        };
        self.note_use(step, moments, stretch);
        self.warn_of_growth(window, step);
        if stretch.archive > 0 && function.looks_between_rows() {
            self.warn(format!("{} looked at averages of {step} rows", function.name()));
        }
        for index in stretch.moments.clone() {
            let frame = Frame::of(series, &held, moments.at(index), width_ms);
            cells[index] = Cell::from(function.apply(&frame));
        }
    }

    /// The rows of an archive that end in (from, until], as far as the ring and the series reach.
    fn hold(
        &self,
        series: &Series,
        stretch: &Stretch,
        until: Timestamp,
        from: Timestamp,
    ) -> Option<Held> {
        let shape = series.archives[stretch.archive];
        let start = from.max(oldest(series, shape)).max(series.birth).floor(shape.step);
        let end = until.min(series.newest).floor(shape.step);
        let span = Span::new(start, end).filter(|span| span.start() < span.end())?;
        Some(Held { rows: self.read.rows(series, stretch.archive, span), step: shape.step })
    }

    fn warn_of_growth(&mut self, window: Window, step: Step) {
        let width_ms = window.width_ms;
        if grown_ms(width_ms, step) > width_ms {
            self.warn(format!(
                "a window of {width_ms} ms is shorter than the {step} rows that answer it and was widened to one row"
            ));
        }
    }

    /// A column of all moments of the query, of which a selector with `@` asked only one.
    fn column(&self, series: &Series, mut cells: Vec<Cell>) -> Column {
        let last = cells.last().copied().unwrap_or(Cell::ABSENT);
        cells.resize(self.moments.count(), last);
        Column { labels: series.labels.clone(), cells }
    }

    fn warn_of_bare(&mut self, bare: &Bare) {
        if let Some(example) = &bare.example {
            self.warn(format!(
                "{} counters such as {example} are absent: their rows hold rates, not raw readings; ask rate(), increase() or irate()",
                bare.count
            ));
        }
    }
}

/// Counters that were asked for readings they do not keep.
#[derive(Default)]
struct Bare {
    count: usize,
    example: Option<String>,
}

impl Bare {
    fn note(&mut self, series: &Series) {
        self.count += 1;
        if self.example.is_none() {
            self.example = Some(series.labels.to_string());
        }
    }
}

/// True while a series is still seen at `at`, after its newest row.
fn visible(series: &Series, at: Timestamp) -> bool {
    let silent_ms = u64::try_from(at.millis_since(series.newest)).unwrap_or(0);
    series.newest > Timestamp::MIN && series.visible_ms.is_some_and(|ms| silent_ms <= ms)
}
