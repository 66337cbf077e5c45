//! A sweep: the series that a selector found, looked at on all processors, piece by piece.
//!
//! Pieces are put together in the order of their series and do not depend on the number of threads,
//! so that every answer is the same bit for bit each time.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rrd::parallel::in_pieces;
use rrd::{Labels, NAME, Rows, SeriesRef, Step};

use crate::aggregate::aggregate;
use crate::archive::stretches;
use crate::ask::Ask;
use crate::columns::{Cell, Column, nameless};
use crate::evaluate::Run;
use crate::fold::Groups;
use crate::looks::Looks;
use crate::moments::Moments;
use crate::notes::Notes;
use crate::plan::{Aggregate, Names, Ranged, Selector, Vector, Wanted, Window};
use crate::read::Series;
use crate::{Error, Read};

/// Series that one thread looks at before it asks for more: some 100 us of work, so that a few series
/// need no second thread, and many keep all busy to the end.
const PIECE: usize = 64;

/// What the rows of a series are looked at for.
#[derive(Clone, Copy)]
pub(crate) enum Look<'a> {
    /// The row of each moment.
    Row(Wanted),
    /// The rows of a window before each moment.
    Window(&'a Ask<'a>, Window),
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
    /// What windows have looked at.
    pub(crate) looks: Looks,
    /// Room for rows, used again.
    pub(crate) room: Rows,
    /// Room for the values of a window, used again.
    pub(crate) values: Vec<f64>,
}

/// Counters that were asked for readings that could not be rebuilt.
#[derive(Default)]
pub(crate) struct Bare {
    count: usize,
    example: Option<String>,
    /// The last of them, which several archives may answer.
    last: Option<SeriesRef>,
}

impl Run<'_> {
    /// What `look` sees of each selected series at each moment.
    pub(crate) fn columns(
        &mut self,
        selector: &Selector,
        look: Look<'_>,
    ) -> Result<Vec<Column>, Error> {
        let (found, moments) = self.find(selector)?;
        self.columns_of(&found, look.moments(moments), look)
    }

    /// The aggregation of what one selector finds, without a column for each of its series; `None`
    /// where it cannot be had so.
    pub(crate) fn folded(
        &mut self,
        function: &Aggregate,
        grouping: &Names,
        of: &Vector,
    ) -> Result<Option<Vec<Column>>, Error> {
        let is_of_rows =
            matches!(of, Vector::Select { .. } | Vector::Over { of: Ranged::Rows(..), .. });
        if !function.is_fold() || !is_of_rows {
            return Ok(None);
        }
        let (parameters, asked) = match of {
            Vector::Over { function, parameters, .. } => {
                (self.parameters(*function, parameters)?, Some(*function))
            }
            _ => (Vec::new(), None),
        };
        let (moments, parameters) = (self.moments, parameters.as_slice());
        let ask = asked.map(|function| Ask { function, parameters, moments });
        let (selector, look) = match (of, &ask) {
            (Vector::Select { selector, wanted }, _) => (selector, Look::Row(*wanted)),
            (Vector::Over { of: Ranged::Rows(selector, window), .. }, Some(ask)) => {
                (selector, Look::Window(ask, *window))
            }
            _ => return Ok(None),
        };
        let groups_by_name =
            matches!(grouping, Names::Only(names) if names.iter().any(|n| n == NAME));
        if look.drops_name() && groups_by_name {
            return Ok(None);
        }
        let (found, moments) = self.find(selector)?;
        let moments = look.moments(moments);
        if let Some(groups) = self.groups(&found, moments, look, (function, grouping))? {
            let cells_to = |column: Column| {
                let cells = self.at_all(column.cells);
                Column { cells, ..column }
            };
            return Ok(Some(groups.finish().map(cells_to).collect()));
        }
        let columns = nameless(self.columns_of(&found, moments, look)?)?;
        Ok(Some(aggregate(function, grouping, &[], columns, self.moments.count())))
    }

    /// `None` when series cannot be told apart without their names.
    fn groups<'b>(
        &mut self,
        found: &[Series],
        moments: Moments,
        look: Look<'_>,
        (function, grouping): (&'b Aggregate, &'b Names),
    ) -> Result<Option<Groups<'b>>, Error> {
        let start = self.looker(moments);
        let pieces = in_pieces(found.len(), PIECE, |range| {
            let mut looker = start();
            let mut groups = Groups::of(function, grouping, moments.count());
            let (mut cells, mut names) = (vec![Cell::ABSENT; moments.count()], Vec::new());
            for series in &found[range] {
                looker.fill(series, look, &mut cells)?;
                groups.add(&series.labels, &cells);
                if look.drops_name() {
                    names.push(hash_without_name(&series.labels));
                }
                cells.fill(Cell::ABSENT);
            }
            looker.looks.check()?;
            Ok((groups, names, looker.notes, looker.bare))
        });
        let mut all = Groups::of(function, grouping, moments.count());
        let (mut bare, mut known) = (Bare::default(), HashSet::new());
        let mut are_distinct = true;
        for piece in pieces {
            let (groups, names, notes, more) = piece?;
            all.join(groups);
            are_distinct &= names.into_iter().all(|name| known.insert(name));
            self.notes.join(notes);
            bare.join(more);
        }
        self.warn_of_bare(&bare);
        Ok(are_distinct.then_some(all))
    }

    fn columns_of(
        &mut self,
        found: &[Series],
        moments: Moments,
        look: Look<'_>,
    ) -> Result<Vec<Column>, Error> {
        let start = self.looker(moments);
        let pieces = in_pieces(found.len(), PIECE, |range| {
            let mut looker = start();
            let mut columns = Vec::with_capacity(range.len());
            for series in &found[range] {
                let mut cells = vec![Cell::ABSENT; moments.count()];
                looker.fill(series, look, &mut cells)?;
                columns.push(Column { labels: series.labels.clone(), cells });
            }
            looker.looks.check()?;
            Ok((columns, looker.notes, looker.bare))
        });
        let (mut all, mut bare) = (Vec::with_capacity(found.len()), Bare::default());
        for piece in pieces {
            let (columns, notes, more) = piece?;
            all.extend(columns);
            self.notes.join(notes);
            bare.join(more);
        }
        self.warn_of_bare(&bare);
        for column in &mut all {
            column.cells = self.at_all(std::mem::take(&mut column.cells));
        }
        Ok(all)
    }

    /// Makes lookers, one for each piece of work.
    pub(crate) fn looker<'b>(&self, moments: Moments) -> impl Fn() -> Looker<'b> + Sync + use<'b>
    where
        Self: 'b,
    {
        let (read, widest, looks) = (self.read, self.widest, self.looks.clone());
        move || Looker {
            read,
            moments,
            widest,
            notes: Notes::default(),
            bare: Bare::default(),
            looks: looks.clone(),
            values: Vec::new(),
            room: Rows::default(),
        }
    }
}

impl Looker<'_> {
    /// Fills in the cells that are known.
    fn fill(&mut self, series: &Series, look: Look<'_>, cells: &mut [Cell]) -> Result<(), Error> {
        self.looks.patience.check()?;
        for stretch in stretches(series, self.moments, look.width_ms(), self.widest) {
            match look {
                Look::Row(wanted) => self.read_values(series, &stretch, wanted, cells),
                Look::Window(ask, window) => {
                    self.read_windows(series, &stretch, (ask, window), cells)?;
                }
            }
        }
        Ok(())
    }
}

impl Look<'_> {
    fn width_ms(self) -> Option<i64> {
        match self {
            Self::Row(_) => None,
            Self::Window(_, window) => Some(window.width_ms),
        }
    }

    /// As many moments as it has answers.
    fn moments(self, shifted: Moments) -> Moments {
        match self {
            Self::Row(_) => shifted,
            Self::Window(ask, _) => ask.moments(shifted),
        }
    }

    fn drops_name(self) -> bool {
        match self {
            Self::Row(wanted) => wanted == Wanted::End,
            Self::Window(ask, _) => !ask.function.keeps_name(),
        }
    }
}

impl Bare {
    pub(crate) fn note(&mut self, series: &Series) {
        if self.last.replace(series.series) == Some(series.series) {
            return;
        }
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
            "{} counters such as {example} are absent where no raw reading is near enough to rebuild their count from rates; ask rate(), increase() or irate()",
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
