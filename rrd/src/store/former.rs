//! The archives that an instance had, while its file still has them.

use std::sync::Arc;

use super::columns::Series;
use super::fold::Fold;
use super::instance::Form;
use super::state::{Filed, State};
use super::view::Extent;
use crate::calendar::RowWidth;
use crate::file::Block;
use crate::series::Open;
use crate::waiting::Waiting;
use crate::{Column, Step, Timestamp};

/// The archives that an instance had, as they were when the frame of the change was applied.
#[derive(Clone)]
pub(crate) struct Former {
    form: Arc<Form>,
    pub(super) layout: Arc<Vec<Block>>,
    filed: Filed,
    /// Rows that were not yet in the file.
    pub(super) waiting: Vec<Arc<Waiting>>,
    /// By column.
    ends: Vec<Option<End>>,
    /// Members whose rows are to be added to those of a role, in order of their frames.
    folds: Vec<Arc<Fold>>,
}

/// How far a column had come.
#[derive(Clone, Copy)]
pub(super) struct End {
    generation: u32,
    pub(super) birth_row: i64,
    pub(super) newest_row: i64,
    tells_resets: bool,
    /// Its last reading or marker.
    pub(super) last: Timestamp,
}

impl End {
    /// That of a column among these.
    pub(super) fn find(ends: &[Option<Self>], column: Column) -> Option<Self> {
        let end = ends.get(usize::try_from(column.index).ok()?).copied()??;
        (end.generation == column.generation).then_some(end)
    }

    /// Its birth and its newest closed row, as rows of the finest archive.
    pub(super) const fn rows(self) -> (i64, i64) {
        (self.birth_row, self.newest_row)
    }

    /// Where its first row began, in steps of this width.
    pub(super) const fn birth_ms(self, step: Step) -> i64 {
        Timestamp::row_end(self.birth_row, step).as_millis()
    }
}

impl Former {
    pub(super) fn of(state: &mut State, layout: Arc<Vec<Block>>) -> Self {
        if !state.waiting.is_empty() {
            let waiting = std::mem::take(&mut state.waiting);
            state.frozen.push(Arc::new(waiting));
        }
        Self {
            form: Arc::clone(&state.form),
            layout,
            filed: state.filed.clone(),
            waiting: state.frozen.clone(),
            ends: Self::ends_of(state),
            folds: Vec::new(),
        }
    }

    /// How far each column has come.
    pub(super) fn ends_of(state: &State) -> Vec<Option<End>> {
        let step = state.form.policy.step();
        let end = |series: Series<'_>| {
            let (birth_row, newest_row) = series.closed_rows(step)?;
            let tells_resets = series.class.definition.kind.tells_resets();
            let (generation, last) = (series.head.generation, series.head.last());
            Some(End { generation, birth_row, newest_row, tells_resets, last })
        };
        (0..state.columns.len()).map(|index| end(state.series_at(index)?)).collect()
    }

    pub(super) fn folds(&self) -> &[Arc<Fold>] {
        &self.folds
    }

    /// The same with one more member.
    pub(super) fn with_fold(&self, fold: Arc<Fold>) -> Self {
        let mut folds = self.folds.clone();
        folds.insert(folds.partition_point(|known| known.seq() < fold.seq()), fold);
        Self { folds, ..self.clone() }
    }

    /// What is left to be done once the file, which holds `filed` now, has the members up to `seq`.
    pub(super) fn after(
        &self,
        seq: u64,
        form: &Arc<Form>,
        now: (Arc<Vec<Block>>, Filed),
    ) -> Option<Self> {
        let (done, left) = self.folds.split_at(self.folds.partition_point(|f| f.seq() <= seq));
        let (layout, filed) = now;
        let ends = done.last().map_or(&*self.ends, |fold| fold.ends()).to_vec();
        (!left.is_empty()).then(|| Self {
            form: Arc::clone(form),
            layout,
            filed,
            waiting: Vec::new(),
            ends,
            folds: left.to_vec(),
        })
    }

    /// The time that a column's rows tell of, the one still open among them.
    pub(super) fn span(&self, column: Column, open: &Open) -> Option<(Timestamp, Timestamp)> {
        let (end, step) = (self.end(column)?, self.form.policy.step());
        let begin = Timestamp::from_millis(end.birth_ms(step));
        Some((begin, Timestamp::row_end(end.newest_row, step).max(open.last)))
    }

    /// The same, of a file that holds this.
    pub(super) fn with_filed(&self, filed: Filed) -> Self {
        Self { filed, ..self.clone() }
    }

    /// What the file is known to hold.
    pub(super) const fn filed(&self) -> &Filed {
        &self.filed
    }

    /// The archives that the file still has.
    pub(super) const fn form(&self) -> &Arc<Form> {
        &self.form
    }

    pub(super) fn end(&self, column: Column) -> Option<End> {
        End::find(&self.ends, column)
    }

    pub(super) fn extent(&self, column: Column, archive: usize) -> Option<Extent> {
        let End { birth_row, newest_row, tells_resets, .. } = self.end(column)?;
        let rows = (birth_row, newest_row);
        let extent = self.filed.extent(column, archive, rows, self.form.archives.len());
        Some(Extent { tells_resets, ..extent })
    }

    /// How wide the rows of an archive are.
    pub(super) fn width(&self, archive: usize) -> RowWidth {
        self.form.width(archive)
    }

    /// Milliseconds of a row of an archive.
    pub(super) fn width_ms(&self, archive: usize) -> i64 {
        self.form.archives[archive].step.as_millis().cast_signed()
    }
}
