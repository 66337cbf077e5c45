//! An open file as rrdtool sees it: data sources and views over the rows of the archives.

use std::path::Path;

use super::define::{Function, Source, View};
use super::{Caller, ToolError, refuse};
use crate::series::{Open, row_is_known};
use crate::store::{Access, SingleError, SingleFile};
use crate::{NAME, Rows, Step, Timestamp};

/// A reader that two commits overtake sees what is like damage; ten times in a row it is damage.
const MOST_ATTEMPTS: usize = 10;

/// A file, with what its header and catalogue say.
pub(super) struct Archive {
    pub(super) file: SingleFile,
    pub(super) sources: Vec<(Source, Open)>,
    pub(super) views: Vec<View>,
    pub(super) step: Step,
}

/// Rows of one view: row `i` ends at `first_end_s + i * row_s`, one value for each source asked for.
pub(super) struct Table {
    pub(super) row_s: i64,
    pub(super) first_end_s: i64,
    pub(super) rows: Vec<Vec<f64>>,
}

impl Archive {
    pub(super) fn open(caller: &Caller<'_>, path: &str, access: Access) -> Result<Self, ToolError> {
        let file = SingleFile::open(&caller.disk, Path::new(path), access)?;
        let step = file.policy().step();
        let views = View::list(&file.views).filter(|views| has_all(&file, step, views));
        let Some(views) = views else {
            return refuse(format!(
                "{path}: its archives are not readable; restore it from a backup"
            ));
        };
        let sources: Vec<_> = file
            .series()
            .into_iter()
            .map(|(labels, definition, open)| {
                let name = labels.get(NAME).unwrap_or_default().to_owned();
                (Source { name, definition }, open)
            })
            .collect();
        if sources.is_empty() {
            return refuse(format!("{path}: it has no data source; restore it from a backup"));
        }
        Ok(Self { file, sources, views, step })
    }

    /// Opens the file and reads; again when a writer has changed it in the midst.
    pub(super) fn read<T>(
        caller: &Caller<'_>,
        path: &str,
        look: impl Fn(&Self) -> Result<T, ToolError>,
    ) -> Result<T, ToolError> {
        let mut attempt = 1;
        loop {
            let is_last = attempt == MOST_ATTEMPTS;
            let archive = match Self::open(caller, path, Access::Read) {
                Err(ToolError::File(SingleError::Unusable { .. })) if !is_last => {
                    attempt += 1;
                    continue;
                }
                opened => opened?,
            };
            let seen = look(&archive)?;
            match archive.file.damage() {
                None => return Ok(seen),
                Some(what) if is_last => return refuse(format!("{path}: {what}")),
                Some(_) => attempt += 1,
            }
        }
    }

    /// When it was last updated.
    pub(super) fn last(&self) -> Timestamp {
        self.sources[0].1.last
    }

    pub(super) fn last_s(&self) -> i64 {
        self.last().as_millis().div_euclid(1000)
    }

    pub(super) fn step_s(&self) -> i64 {
        (self.step.as_millis() / 1000).cast_signed()
    }

    /// END of the newest row of a view.
    pub(super) fn newest_s(&self, view: &View) -> i64 {
        let row_s = view.row_s(self.step);
        self.last_s().div_euclid(row_s) * row_s
    }

    /// Which of the file's archives a view looks at.
    pub(super) fn archive_of(&self, view: &View) -> usize {
        archive_of(&self.file, self.step, view).expect("checked in `open`")
    }

    pub(super) fn source(&self, name: &str) -> Option<usize> {
        self.sources.iter().position(|(source, _)| source.name == name)
    }

    /// The rows of a view that end after `start_s` and not after `end_s`, of some sources.
    pub(super) fn table(&self, view: &View, span_s: (i64, i64), columns: &[usize]) -> Table {
        let row_s = view.row_s(self.step);
        let first_end_s = span_s.0.div_euclid(row_s) * row_s + row_s;
        let newest_s = self.newest_s(view);
        let count = (span_s.1 - first_end_s).div_euclid(row_s) + 1;
        let archive = self.archive_of(view);
        let index = |column: &usize| u32::try_from(*column).expect("a source of the file");
        let stored: Vec<Rows> =
            columns.iter().map(|column| self.file.rows(index(column), archive)).collect();
        let held_s = row_s.saturating_mul(view.row_count.cast_signed());
        let rows = (0..count)
            .map(|row| {
                let end_s = first_end_s + row * row_s;
                let is_held = end_s <= newest_s && newest_s - end_s < held_s;
                let value = |rows| if is_held { view.value(rows, end_s, row_s) } else { f64::NAN };
                stored.iter().map(value).collect()
            })
            .collect();
        Table { row_s, first_end_s, rows }
    }

    /// All rows of a view, those not yet reached unknown.
    pub(super) fn whole(&self, view: &View) -> Table {
        let newest_s = self.newest_s(view);
        let held_s = view.row_s(self.step).saturating_mul(view.row_count.cast_signed());
        let columns: Vec<usize> = (0..self.sources.len()).collect();
        self.table(view, (newest_s - held_s, newest_s), &columns)
    }
}

impl View {
    /// The value of the row that ends at `end_s`; unknown where there is none.
    fn value(&self, rows: &Rows, end_s: i64, row_s: i64) -> f64 {
        let first_s = rows.first_end.as_millis().div_euclid(1000);
        let Ok(index) = usize::try_from((end_s - first_s).div_euclid(row_s)) else {
            return f64::NAN;
        };
        let Some(&known) = rows.known.get(index) else { return f64::NAN };
        if self.per_row > 1 && !row_is_known(known, self.per_row, self.xff) {
            return f64::NAN;
        }
        let plane = match self.function {
            _ if self.per_row == 1 => &rows.average,
            Function::Average => &rows.average,
            Function::Min => &rows.min,
            Function::Max => &rows.max,
            Function::Last => &rows.last,
        };
        plane.get(index).copied().unwrap_or(f64::NAN)
    }
}

fn archive_of(file: &SingleFile, step: Step, view: &View) -> Option<usize> {
    let row_ms = u64::from(view.per_row).checked_mul(step.as_millis())?;
    let held = |archive: &crate::ArchiveSpec| {
        archive.step.as_millis() == row_ms && archive.row_count >= view.row_count
    };
    file.policy().archives().iter().position(held)
}

/// Whole seconds, and an archive for each view: asked of what was read from a file.
fn has_all(file: &SingleFile, step: Step, views: &[View]) -> bool {
    step.as_millis().is_multiple_of(1000)
        && views.iter().all(|view| archive_of(file, step, view).is_some())
}
