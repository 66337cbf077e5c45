//! A sweep: the series that a selector found, looked at on all processors, piece by piece.
//!
//! Pieces are put together in the order of their series and do not depend on the number of threads,
//! so that every answer is the same bit for bit each time.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rrd::parallel::in_pieces;
use rrd::{Labels, NAME, Rows, Step};

use crate::aggregate::aggregate;
use crate::archive::stretches;
use crate::columns::{Cell, Column, nameless};
use crate::evaluate::Run;
use crate::fold::Groups;
use crate::moments::Moments;
use crate::notes::Notes;
use crate::plan::{Aggregate, Names, Selector, Vector, Wanted, Window};
use crate::read::Series;
use crate::window::Over;
use crate::{Error, Read};

/// Series that one thread looks at before it asks for more: some 100 us of work, so that a few series
/// need no second thread, and many keep all busy to the end.
const PIECE: usize = 64;

/// What the rows of a series are looked at for.
#[derive(Clone, Copy)]
pub(crate) enum Look {
    /// The row of each moment.
    Row(Wanted),
    /// The rows of a window before each moment.
    Window(Over, Window),
}

/// Looks at series one after the other, and notes what is to be said about it.
pub(crate) struct Looker<'a> {
    pub(crate) read: &'a dyn Read,
    /// The moments asked for, after `offset` and `@`.
    pub(crate) moments: Moments,
    /// The widest rows to be preferred, when coarse rows are asked for.
    pub(crate) widest: Option<Step>,
    pub(crate) notes: Notes,
    pub(crate) bare: Bare,
    /// Room for rows, used again.
    pub(crate) room: Rows,
}

/// Counters that were asked for readings they do not keep.
#[derive(Default)]
pub(crate) struct Bare {
    count: usize,
    example: Option<String>,
}

impl Run<'_> {
    /// What `look` sees of each selected series at each moment.
    pub(crate) fn columns(
        &mut self,
        selector: &Selector,
        look: Look,
    ) -> Result<Vec<Column>, Error> {
        let (found, moments) = self.find(selector)?;
        Ok(self.columns_of(&found, moments, look))
    }

    /// The aggregation of what one selector finds, without a column for each of its series; `None`
    /// where it cannot be had so.
    pub(crate) fn folded(
        &mut self,
        function: &Aggregate,
        grouping: &Names,
        of: &Vector,
    ) -> Result<Option<Vec<Column>>, Error> {
        let (selector, look) = match of {
            Vector::Select { selector, wanted } => (selector, Look::Row(*wanted)),
            Vector::Over { function, selector, window } => {
                (selector, Look::Window(*function, *window))
            }
            _ => return Ok(None),
        };
        let groups_by_name =
            matches!(grouping, Names::Only(names) if names.iter().any(|n| n == NAME));
        if !function.is_fold() || (look.drops_name() && groups_by_name) {
            return Ok(None);
        }
        let (found, moments) = self.find(selector)?;
        if let Some(groups) = self.groups(&found, moments, look, (function, grouping)) {
            let cells_to = |mut column: Column| {
                self.stretch(&mut column.cells);
                column
            };
            return Ok(Some(groups.finish().map(cells_to).collect()));
        }
        let columns = nameless(self.columns_of(&found, moments, look))?;
        Ok(Some(aggregate(function, grouping, &[], columns, self.moments.count())))
    }

    /// `None` when series cannot be told apart without their names.
    fn groups<'b>(
        &mut self,
        found: &[Series],
        moments: Moments,
        look: Look,
        (function, grouping): (&'b Aggregate, &'b Names),
    ) -> Option<Groups<'b>> {
        let start = self.looker(moments);
        let pieces = in_pieces(found.len(), PIECE, |range| {
            let mut looker = start();
            let mut groups = Groups::of(function, grouping, moments.count());
            let (mut cells, mut names) = (vec![Cell::ABSENT; moments.count()], Vec::new());
            for series in &found[range] {
                if looker.fill(series, look, &mut cells) {
                    groups.add(&series.labels, &cells);
                    if look.drops_name() {
                        names.push(hash_without_name(&series.labels));
                    }
                    cells.fill(Cell::ABSENT);
                }
            }
            (groups, names, looker.notes, looker.bare)
        });
        let mut all = Groups::of(function, grouping, moments.count());
        let (mut bare, mut known) = (Bare::default(), HashSet::new());
        let mut are_distinct = true;
        for (groups, names, notes, more) in pieces {
            all.join(groups);
            are_distinct &= names.into_iter().all(|name| known.insert(name));
            self.notes.join(notes);
            bare.join(more);
        }
        self.warn_of_bare(&bare);
        are_distinct.then_some(all)
    }

    fn columns_of(&mut self, found: &[Series], moments: Moments, look: Look) -> Vec<Column> {
        let start = self.looker(moments);
        let pieces = in_pieces(found.len(), PIECE, |range| {
            let mut looker = start();
            let mut columns = Vec::with_capacity(range.len());
            for series in &found[range] {
                let mut cells = vec![Cell::ABSENT; moments.count()];
                if looker.fill(series, look, &mut cells) {
                    columns.push(Column { labels: series.labels.clone(), cells });
                }
            }
            (columns, looker.notes, looker.bare)
        });
        let (mut all, mut bare) = (Vec::with_capacity(found.len()), Bare::default());
        for (columns, notes, more) in pieces {
            all.extend(columns);
            self.notes.join(notes);
            bare.join(more);
        }
        self.warn_of_bare(&bare);
        for column in &mut all {
            self.stretch(&mut column.cells);
        }
        all
    }

    /// Makes the cells those of all moments of the query, of which a selector with `@` asked only one.
    fn stretch(&self, cells: &mut Vec<Cell>) {
        let last = cells.last().copied().unwrap_or(Cell::ABSENT);
        cells.resize(self.moments.count(), last);
    }

    /// Makes lookers, one for each piece of work.
    pub(crate) fn looker<'b>(&self, moments: Moments) -> impl Fn() -> Looker<'b> + Sync + use<'b>
    where
        Self: 'b,
    {
        let (read, widest) = (self.read, self.widest);
        move || Looker {
            read,
            moments,
            widest,
            notes: Notes::default(),
            bare: Bare::default(),
            room: Rows::default(),
        }
    }
}

impl Looker<'_> {
    /// Fills in the cells that are known; false when the series is not to be seen at all.
    fn fill(&mut self, series: &Series, look: Look, cells: &mut [Cell]) -> bool {
        if series.kind.is_counter() && look.needs_readings() {
            self.bare.note(series);
            return false;
        }
        for stretch in stretches(series, self.moments, look.width_ms(), self.widest) {
            match look {
                Look::Row(wanted) => self.read_values(series, &stretch, wanted, cells),
                Look::Window(function, window) => {
                    self.read_windows(series, &stretch, (function, window), cells);
                }
            }
        }
        true
    }
}

impl Look {
    fn width_ms(self) -> Option<i64> {
        match self {
            Self::Row(_) => None,
            Self::Window(_, window) => Some(window.width_ms),
        }
    }

    /// True when a counter has no answer, whose rows are rates.
    fn needs_readings(self) -> bool {
        match self {
            Self::Row(wanted) => wanted == Wanted::Value,
            Self::Window(function, _) => !function.knows_counters(),
        }
    }

    fn drops_name(self) -> bool {
        match self {
            Self::Row(wanted) => wanted == Wanted::End,
            Self::Window(function, _) => !function.keeps_name(),
        }
    }
}

impl Bare {
    pub(crate) fn note(&mut self, series: &Series) {
        self.count += 1;
        if self.example.is_none() {
            self.example = Some(series.labels.to_string());
        }
    }

    fn join(&mut self, others: Self) {
        self.count += others.count;
        self.example = self.example.take().or(others.example);
    }

    /// The warning, if there were any.
    pub(crate) fn warning(&self) -> Option<String> {
        let example = self.example.as_ref()?;
        Some(format!(
            "{} counters such as {example} are absent: their rows hold rates, not raw readings; ask rate(), increase() or irate()",
            self.count
        ))
    }
}

/// Equal for labels that are the same but for the metric name, and for hardly any others.
fn hash_without_name(labels: &Labels) -> u64 {
    let mut hasher = DefaultHasher::new();
    labels.iter().filter(|(name, _)| *name != NAME).for_each(|label| label.hash(&mut hasher));
    hasher.finish()
}
