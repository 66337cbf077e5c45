//! A column of ours, filled from the rings of a file.

use super::rings::{Ring, RingRow};
use crate::file::TILE_ROWS;
use crate::series::Run;
use crate::{ArchiveSpec, Timestamp};

/// All rows of one series, and where they begin.
pub(super) struct Column {
    pub(super) birth: Timestamp,
    /// By archive: closed rows without gaps, from the birth or the ring's oldest tile to the newest.
    pub(super) rows: Vec<Vec<Run>>,
}

/// What rows are filled from.
pub(super) struct Filler<'a> {
    pub(super) rings: &'a [Ring<'a>],
    pub(super) archives: &'a [ArchiveSpec],
    pub(super) last_update: Timestamp,
    /// The file's own step, in milliseconds.
    pub(super) base_ms: i64,
    /// The rate in the file's open step, for rows that are finer; `NaN` when unknown.
    pub(super) open_rate: f64,
}

/// A row, before it is known which one it is.
#[derive(Clone, Copy)]
struct Content {
    average: f64,
    min: f64,
    max: f64,
    last: f64,
    known: u32,
}

impl Filler<'_> {
    /// The number of the newest closed row of the finest archive.
    pub(super) fn newest(&self) -> i64 {
        self.last_update.as_millis().div_euclid(self.step_ms(0))
    }

    pub(super) fn step_ms(&self, archive: usize) -> i64 {
        self.archives[archive].step.as_millis().cast_signed()
    }

    pub(super) fn column(&self) -> Column {
        let mut rows: Vec<Vec<Run>> = (0..self.archives.len()).map(|a| self.rows(a)).collect();
        let begins = (0..).zip(&rows).filter_map(|(archive, runs)| {
            let first = runs.iter().find(|run| run.known > 0)?.first_row;
            Some((first - 1) * self.step_ms(archive))
        });
        let birth_ms = begins.min().unwrap_or(self.newest() * self.step_ms(0));
        for (archive, runs) in rows.iter_mut().enumerate() {
            cut(runs, birth_ms.div_euclid(self.step_ms(archive)));
        }
        Column { birth: Timestamp::from_millis(birth_ms), rows }
    }

    /// The rows of one archive as far back as any ring reaches.
    fn rows(&self, archive: usize) -> Vec<Run> {
        let step_ms = self.step_ms(archive);
        let newest = (self.newest() * self.step_ms(0)).div_euclid(step_ms);
        // Two tiles more than may be read, so that every tile of the ring is whole.
        let kept = self.archives[archive].row_count.cast_signed() + 2 * i64::from(TILE_ROWS);
        let begins_ms = self.rings.iter().map(Ring::begins_ms).min().unwrap_or(i64::MAX);
        let first = (newest - kept).max(begins_ms.div_euclid(step_ms)) + 1;
        let mut runs: Vec<Run> = Vec::new();
        for row in first..=newest {
            let content = self.content(archive, row).unwrap_or(Content::UNKNOWN);
            match runs.last_mut().filter(|run| content.continues(run)) {
                Some(run) => run.count += 1,
                None => runs.push(content.run(archive, row)),
            }
        }
        runs
    }

    /// A row from the ring of its width, else from finer ones, else from coarser ones; `None` where
    /// no ring holds it.
    fn content(&self, archive: usize, row: i64) -> Option<Content> {
        let step_ms = self.step_ms(archive);
        let exact = self.rings.iter().filter(|ring| ring.width_ms == step_ms);
        let finer = self.rings.iter().rev();
        let finer = finer.filter(|ring| ring.width_ms < step_ms && step_ms % ring.width_ms == 0);
        let coarser = self.rings.iter();
        let coarser =
            coarser.filter(|ring| ring.width_ms > step_ms && ring.width_ms % step_ms == 0);
        let per_row = u32::try_from(step_ms / self.step_ms(0)).expect("Policy::parse checks it");
        let found = exact
            .clone()
            .filter_map(|ring| Some(Content::of(ring.row(row)?, per_row)))
            .chain(finer.filter_map(|ring| self.consolidated(ring, archive, row)))
            .chain(coarser.filter_map(|ring| {
                let wide = -(-row * step_ms).div_euclid(ring.width_ms);
                Some(Content::of(ring.row(wide)?, per_row))
            }))
            .next();
        // Least and greatest steps may be there where the mean of that width is not.
        match (found, { exact }.find_map(|ring| ring.row_without_average(row))) {
            (Some(found), Some(beside)) if found.known > 0 => {
                let Content { average, min, max, last, known } = found;
                let row = Content::of(beside.row(average, [min, max, last]), known);
                Some(row)
            }
            (_, Some(beside)) => {
                let average = beside.average;
                Some(Content::of(beside.row(average, [average; 3]), per_row))
            }
            (found, None) => found.or_else(|| self.in_open_step(archive, row, per_row)),
        }
    }

    /// Finer rows put together as closed steps are; all of them must be there.
    fn consolidated(&self, ring: &Ring<'_>, archive: usize, row: i64) -> Option<Content> {
        let count = self.step_ms(archive) / ring.width_ms;
        let mut sum = 0.0;
        let (mut known, mut last) = (0_u32, f64::NAN);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for finer in (row - 1) * count + 1..=row * count {
            let part = ring.row(finer)?;
            last = part.last;
            if !part.average.is_nan() {
                sum += part.average;
                known += 1;
                (min, max) = (part.min.min(min), part.max.max(max));
            }
        }
        let known_ms = i64::from(known) * ring.width_ms;
        // A step is known if at most half of it is unknown; a coarser row counts its known steps.
        let steps = match archive {
            0 => i64::from(known > 0 && known_ms * 2 >= self.step_ms(0)),
            _ => (known_ms / self.step_ms(0)).max(i64::from(known > 0)),
        };
        if steps == 0 {
            return Some(Content {
                last: if archive == 0 { f64::NAN } else { last },
                ..Content::UNKNOWN
            });
        }
        let average = sum / f64::from(known);
        let (min, max) = if archive == 0 { (average, average) } else { (min, max) };
        let last = if archive == 0 { average } else { last };
        let known = u32::try_from(steps).expect("at most the steps of a row");
        Some(Content { average, min, max, last, known })
    }

    /// A row that has closed within the open step of the file.
    fn in_open_step(&self, archive: usize, row: i64, per_row: u32) -> Option<Content> {
        let ends_ms = row * self.step_ms(archive);
        let open_ms = self.last_update.as_millis().div_euclid(self.base_ms) * self.base_ms;
        let rate = self.open_rate;
        let row = RingRow { average: rate, min: rate, max: rate, last: rate };
        (ends_ms > open_ms && self.base_ms % self.step_ms(archive) == 0)
            .then(|| Content::of(row, per_row))
    }
}

impl Content {
    const UNKNOWN: Self =
        Self { average: f64::NAN, min: f64::NAN, max: f64::NAN, last: f64::NAN, known: 0 };

    fn of(row: RingRow, per_row: u32) -> Self {
        let RingRow { average, min, max, last } = row;
        Self { average, min, max, last, known: if average.is_nan() { 0 } else { per_row } }
    }

    fn run(self, archive: usize, first_row: i64) -> Run {
        let Self { average, min, max, last, known } = self;
        Run { archive, first_row, count: 1, average, min, max, last, known, reset: false }
    }

    fn continues(self, run: &Run) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        self.known == run.known
            && same(self.average, run.average)
            && same(self.min, run.min)
            && same(self.max, run.max)
            && same(self.last, run.last)
    }
}

/// Drops the rows up to number `begin`, before which there is no series.
fn cut(runs: &mut Vec<Run>, begin: i64) {
    let end = |run: &Run| run.first_row.saturating_add_unsigned(run.count) - 1;
    runs.retain(|run| end(run) > begin);
    if let Some(first) = runs.first_mut().filter(|run| run.first_row <= begin) {
        first.count = (end(first) - begin).unsigned_abs();
        first.first_row = begin + 1;
    }
}
