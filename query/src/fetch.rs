//! From selectors to columns: rows are read once a series and archive, then looked at per moment.

use std::num::NonZeroU32;
use std::ops::Range;

use rrd::{ArchiveSpec, Span, Step, Timestamp};

use crate::archive::{Stretch, grown_ms, oldest, stretches};
use crate::ask::Ask;
use crate::columns::{Cell, Column};
use crate::evaluate::Run;
use crate::moments::Moments;
use crate::plan::{Selector, Wanted, Window};
use crate::read::{RowParts, Rows, RowsWanted, Series};
use crate::sweep::{Bare, Look, Looker};
use crate::window::Frame;
use crate::{Error, Line};

/// The rows one stretch of moments looks at.
pub(crate) struct Held {
    pub(crate) rows: Rows,
    /// What archive they are of.
    pub(crate) shape: ArchiveSpec,
    /// A counter's reading at END of each row, when these are what is looked at.
    pub(crate) readings: Option<Vec<f64>>,
    /// True of values that a subquery computed: the averages are of [`Cell::raw`].
    pub(crate) is_computed: bool,
}

impl Held {
    /// What the rows are taken for.
    pub(crate) fn values(&self) -> &[f64] {
        self.readings.as_deref().unwrap_or(&self.rows.average)
    }

    /// The smallest or largest of each row, where they are kept apart from what it is taken for.
    pub(crate) fn extremes<'a>(&'a self, kept: &'a [f64]) -> &'a [f64] {
        if self.readings.is_some() || self.is_computed { self.values() } else { kept }
    }

    /// True when a row that ends in (from, until] is known, but not the reading at its END.
    pub(crate) fn lacks_reading(&self, from: Timestamp, until: Timestamp) -> bool {
        let Some(readings) = &self.readings else { return false };
        let place = |at| usize::try_from(self.index(at) + 1).unwrap_or(0).min(readings.len());
        let rows = place(from)..place(until);
        let pairs = rows.start.min(rows.end)..rows.end;
        let mut pairs = readings[pairs.clone()].iter().zip(&self.rows.average[pairs]);
        pairs.any(|(reading, rate)| reading.is_nan() && !rate.is_nan())
    }

    /// The index of the last row that ends at or before `at`; it may lie outside the rows.
    pub(crate) fn index(&self, at: Timestamp) -> i64 {
        let (first, step) = (self.rows.first_end, self.shape.step);
        match self.shape.days {
            None => at.millis_since(first).div_euclid(step.as_millis().cast_signed()),
            Some(days) => days.ended_row(at).saturating_sub(days.ended_row(first)),
        }
    }

    /// END of the row of this index.
    pub(crate) fn end(&self, index: i64) -> Timestamp {
        let (first, step) = (self.rows.first_end, self.shape.step);
        match self.shape.days {
            None => first.plus_millis(index.saturating_mul(step.as_millis().cast_signed())),
            Some(days) => days.row_end(days.ended_row(first).saturating_add(index)),
        }
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
        let (stride, width) = (moments.stride_ms(), held.shape.step.as_millis().cast_signed());
        let is_even = held.shape.days.is_none() && stride % width == 0;
        let rows_per_moment = is_even.then_some(stride / width);
        Self { held, rows_per_moment, next: None }
    }

    /// Fills in these moments, of which none is after the newest row, where each is whole rows after
    /// the one before; answers the moments that are left.
    fn fill(&self, moments: Moments, which: Range<usize>, cells: &mut [Cell]) -> Range<usize> {
        let stride = self.rows_per_moment.and_then(|rows| usize::try_from(rows).ok());
        let Some(stride) = stride.filter(|&stride| stride > 0 && !which.is_empty()) else {
            return which;
        };
        let first = self.held.index(moments.at(which.start));
        let before = usize::try_from(first.saturating_neg()).unwrap_or(0).div_ceil(stride);
        let row = usize::try_from(first.saturating_add_unsigned((before * stride) as u64));
        let values = row.ok().and_then(|row| self.held.values().get(row..)).unwrap_or_default();
        let cells = cells[which.clone()].get_mut(before..).unwrap_or_default().iter_mut();
        let put = |(cell, value): (&mut Cell, &f64)| *cell = Cell::known(*value);
        if stride == 1 {
            cells.zip(values).for_each(put); // Many at once.
        } else {
            cells.zip(values.iter().step_by(stride)).for_each(put);
        }
        which.end..which.end
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
        self.columns(selector, Look::Row(wanted))
    }

    /// A function of a window before each moment, of each selected series.
    pub(crate) fn over(
        &mut self,
        ask: &Ask<'_>,
        selector: &Selector,
        window: Window,
    ) -> Result<Vec<Column>, Error> {
        self.columns(selector, Look::Window(ask, window))
    }

    /// The known rows of the window before the one moment of an instant query.
    pub(crate) fn rows(&mut self, selector: &Selector, window: Window) -> Result<Vec<Line>, Error> {
        let (found, moments) = self.find(selector)?;
        let mut looker = self.looker(moments)();
        let mut lines = Vec::new();
        for series in found {
            self.limits.patience.check()?;
            for stretch in stretches(&series, moments, Some(window.width_ms), self.widest) {
                let step = series.archives[stretch.archive].step;
                let at = moments.last();
                let width_ms = grown_ms(window.width_ms, step);
                let ends = (at.plus_millis(-width_ms), at);
                let parts = readings_or(series.kind.is_counter(), RowParts::Averages);
                let Some(held) = looker.hold_as(&series, &stretch, ends, parts) else { continue };
                looker.note_lack(&series, &held, ends);
                looker.notes.note_use(step, moments, &stretch);
                looker.warn_of_growth(window, step);
                let points: Vec<_> = Frame::of(&series, &held, at, width_ms).points().collect();
                self.spend(points.len())?;
                if !points.is_empty() {
                    lines.push(Line { labels: series.labels.clone(), points });
                }
            }
        }
        self.notes.join(looker.notes);
        self.warn_of_bare(&looker.bare);
        Ok(lines)
    }

    /// The series a selector names, and the moments it asks them for.
    pub(crate) fn find(&mut self, selector: &Selector) -> Result<(Vec<Series>, Moments), Error> {
        let found = self.read.select(&selector.matchers);
        if found.len() > self.limits.series {
            return Err(Error::Limit(format!(
                "a selector finds {} series, over the limit of {}; add matchers",
                found.len(),
                self.limits.series
            )));
        }
        self.spend(found.len().saturating_mul(self.moments.count()))?;
        Ok((found, self.shifted(selector.shift)))
    }

    pub(crate) fn warn_of_bare(&mut self, bare: &Bare) {
        if let Some(warning) = bare.warning() {
            self.warn(warning);
        }
    }
}

impl Looker<'_> {
    /// The row of each moment of a stretch.
    pub(crate) fn read_values(
        &mut self,
        series: &Series,
        stretch: &Stretch,
        wanted: Wanted,
        cells: &mut [Cell],
    ) {
        let (shape, moments) = (series.archives[stretch.archive], self.moments);
        let first = moments.at(stretch.moments.start).min(series.newest);
        let last = moments.at(stretch.moments.end - 1);
        let ends = (shape.row_end(shape.ended_row(first).saturating_sub(1)), last);
        let wants_readings = series.kind.is_counter() && wanted == Wanted::Value;
        let held = if wants_readings {
            self.hold_readings(series, stretch, ends)
        } else if wanted == Wanted::End {
            self.hold(series, stretch, ends, RowParts::Values)
        } else {
            let every = rows_a_moment(shape, moments).unwrap_or(NonZeroU32::MIN);
            let each = self.hold_each(series, stretch, ends, (RowParts::Values, every));
            // The newest row, which later moments look at, may lie between them.
            each.or_else(|| self.hold(series, stretch, ends, RowParts::Values))
        };
        let Some(held) = held else { return };
        self.notes.note_use(shape.step, moments, stretch);
        let mut place = Place::of(&held, moments);
        let upto = moments.before(series.newest.plus_millis(1)).max(stretch.moments.start);
        let mut left = stretch.moments.start..upto.min(stretch.moments.end);
        if wanted != Wanted::End {
            left = place.fill(moments, left, cells);
        }
        left.end = stretch.moments.end;
        let mut newest = None;
        for index in left {
            let at = moments.at(index);
            if at > series.newest && !visible(series, at) {
                break; // Later moments are even farther from the last row.
            }
            let row = if at > series.newest { held.index(series.newest) } else { place.row(at) };
            let value = if at > series.newest && held.shape.step != shape.step {
                *newest.get_or_insert_with(|| self.newest_value(series, stretch))
            } else {
                let value = usize::try_from(row).ok().and_then(|row| held.values().get(row));
                value.copied().unwrap_or(f64::NAN)
            };
            let cell = Cell::known(value);
            cells[index] = match wanted {
                Wanted::End if cell.is_present() => Cell::of(held.end(row).as_secs_f64()),
                _ => cell,
            };
        }
        self.note_lack(series, &held, ends);
        self.room = held.rows;
    }

    /// The value of the newest row.
    fn newest_value(&mut self, series: &Series, stretch: &Stretch) -> f64 {
        let shape = series.archives[stretch.archive];
        let end = shape.floor(series.newest);
        let ends = (shape.row_end(shape.ended_row(end).saturating_sub(1)), end);
        let held = self.hold(series, stretch, ends, RowParts::Values);
        held.and_then(|held| held.values().last().copied()).unwrap_or(f64::NAN)
    }

    /// The function of the window before each moment of a stretch.
    pub(crate) fn read_windows(
        &mut self,
        series: &Series,
        stretch: &Stretch,
        (ask, window): (&Ask<'_>, Window),
        cells: &mut [Cell],
    ) -> Result<(), Error> {
        let (step, moments) = (series.archives[stretch.archive].step, self.moments);
        let width_ms = grown_ms(window.width_ms, step);
        let first = moments.at(stretch.moments.start);
        let last = moments.at(stretch.moments.end - 1);
        let ends = (first.plus_millis(-width_ms), last);
        let parts = readings_or(ask.wants_readings(series), ask.function.parts());
        let Some(held) = self.hold_as(series, stretch, ends, parts) else { return Ok(()) };
        self.notes.note_use(step, moments, stretch);
        self.warn_of_growth(window, step);
        if stretch.archive > 0 {
            self.warn_of_averages(ask, series, step);
        }
        self.note_lack(series, &held, ends);
        let mut values = std::mem::take(&mut self.values);
        let (mut begins, mut ends) = (Place::of(&held, moments), Place::of(&held, moments));
        for index in stretch.moments.clone() {
            let at = moments.at(index);
            let rows = (begins.row(at.plus_millis(-width_ms)), ends.row(at));
            let frame = Frame::of_rows(series, &held, rows).before(at, width_ms);
            self.looks.add(frame.len())?;
            cells[index] = Cell::from(ask.apply(&frame, index, &mut values));
        }
        (self.room, self.values) = (held.rows, values);
        Ok(())
    }

    /// Rows that end in (from, until]: these parts of them, or all with a counter's readings.
    fn hold_as(
        &mut self,
        series: &Series,
        stretch: &Stretch,
        ends: (Timestamp, Timestamp),
        parts: Option<RowParts>,
    ) -> Option<Held> {
        match parts {
            Some(parts) => self.hold(series, stretch, ends, parts),
            None => self.hold_readings(series, stretch, ends),
        }
    }

    /// Notes a counter of which a row in (from, until] is known, but not its reading.
    fn note_lack(&mut self, series: &Series, held: &Held, (from, until): (Timestamp, Timestamp)) {
        if held.lacks_reading(from, until) {
            self.bare.note(series);
        }
    }

    /// The rows of an archive that end in (from, until], as far as the ring and the series reach.
    pub(crate) fn hold(
        &mut self,
        series: &Series,
        stretch: &Stretch,
        (from, until): (Timestamp, Timestamp),
        parts: RowParts,
    ) -> Option<Held> {
        self.hold_each(series, stretch, (from, until), (parts, NonZeroU32::MIN))
    }

    /// As [`Looker::hold`], only each `every`th row, the first one after `from` being the first; they are as
    /// the rows of a wider archive are. One of uneven rows has every one of them.
    fn hold_each(
        &mut self,
        series: &Series,
        stretch: &Stretch,
        (from, until): (Timestamp, Timestamp),
        (parts, every): (RowParts, NonZeroU32),
    ) -> Option<Held> {
        let (number, archive) = (series.series, stretch.archive);
        let mut shape = series.archives[archive];
        let mut start = shape.floor(from.max(oldest(series, shape)).max(series.birth));
        let end = shape.floor(until.min(series.newest));
        if every > NonZeroU32::MIN {
            shape.step = Step::from_millis(shape.step.as_millis() * u64::from(every.get()))?;
            let width_ms = shape.step.as_millis().cast_signed();
            let ahead_ms = start.millis_since(from).rem_euclid(width_ms);
            start = start.plus_millis((width_ms - ahead_ms) % width_ms);
        }
        let span = Span::new(start, end).filter(|span| span.start() < span.end())?;
        let wanted = RowsWanted { series: number, archive, span, parts, every };
        let mut rows = std::mem::take(&mut self.room);
        self.read.rows_into(&mut rows, series, wanted);
        Some(Held { rows, shape, readings: None, is_computed: false })
    }

    fn warn_of_averages(&mut self, ask: &Ask<'_>, series: &Series, step: Step) {
        let name = ask.name();
        if ask.wants_readings(series) {
            self.notes.warn(format!("{name} looked at one reading a counter for each {step} row"));
        } else if series.kind.is_counter() && ask.looks_between_rows() {
            self.notes.warn(format!("{name} saw at most one a {step} row"));
        } else if ask.looks_between_rows() {
            self.notes.warn(format!("{name} looked at averages of {step} rows"));
        }
    }

    pub(crate) fn warn_of_growth(&mut self, window: Window, step: Step) {
        let width_ms = window.width_ms;
        if grown_ms(width_ms, step) > width_ms {
            self.notes.warn(format!(
                "a window of {width_ms} ms is shorter than the {step} rows that answer it and was widened to one row"
            ));
        }
    }
}

/// How many rows of an archive there are to a moment, where these are whole ones, and so no other row is
/// looked at.
fn rows_a_moment(shape: ArchiveSpec, moments: Moments) -> Option<NonZeroU32> {
    let (stride, width) = (moments.stride_ms(), shape.step.as_millis().cast_signed());
    let is_even = shape.days.is_none() && stride % width == 0;
    is_even.then(|| u32::try_from(stride / width).ok().and_then(NonZeroU32::new)).flatten()
}

/// `None`, which stands for a counter's readings, when these are wanted.
const fn readings_or(wants_readings: bool, parts: RowParts) -> Option<RowParts> {
    if wants_readings { None } else { Some(parts) }
}

/// True while a series is still seen at `at`, after its newest row.
fn visible(series: &Series, at: Timestamp) -> bool {
    let silent_ms = u64::try_from(at.millis_since(series.newest)).unwrap_or(0);
    series.newest > Timestamp::MIN && series.visible_ms.is_some_and(|ms| silent_ms <= ms)
}
