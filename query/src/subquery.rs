//! Subqueries: an expression evaluated at moments of its own, looked back on as if it were rows.

use std::mem;

use rrd::{ArchiveSpec, Timestamp};

use crate::answer::Line;
use crate::ask::Ask;
use crate::columns::{Cell, Column};
use crate::evaluate::Run;
use crate::fetch::Held;
use crate::moments::Moments;
use crate::plan::Subquery;
use crate::read::Rows;
use crate::window::Frame;
use crate::{Error, columns};

impl Run<'_> {
    /// A function of the values that a subquery computes in a window before each moment.
    pub(crate) fn over_subquery(
        &mut self,
        ask: &Ask<'_>,
        subquery: &Subquery,
    ) -> Result<Vec<Column>, Error> {
        let moments = ask.moments(self.shifted(subquery.shift));
        let mut columns = Vec::new();
        let mut room = Vec::new();
        for (labels, held) in self.computed(subquery)? {
            let mut cells = vec![Cell::ABSENT; moments.count()];
            for (index, cell) in cells.iter_mut().enumerate() {
                let frame = Frame::computed(&held, moments.at(index), subquery.width_ms);
                self.looks.add(frame.len())?;
                *cell = Cell::from(ask.apply(&frame, index, &mut room));
            }
            self.spend(cells.len())?;
            columns.push(Column { labels, cells: self.at_all(cells) });
        }
        Ok(columns)
    }

    /// The values of a subquery in the window before the one moment of an instant query.
    pub(crate) fn subquery_lines(&mut self, subquery: &Subquery) -> Result<Vec<Line>, Error> {
        let at = self.shifted(subquery.shift).first();
        let mut lines = Vec::new();
        for (labels, held) in self.computed(subquery)? {
            let points: Vec<_> = Frame::computed(&held, at, subquery.width_ms).points().collect();
            if !points.is_empty() {
                lines.push(Line { labels, points });
            }
        }
        Ok(lines)
    }

    /// The values of the inner expression, as rows of its step.
    fn computed(&mut self, subquery: &Subquery) -> Result<Vec<(rrd::Labels, Held)>, Error> {
        let Some(inner) = self.inner(subquery)? else { return Ok(Vec::new()) };
        let widest = self.widest;
        let outer = mem::replace(&mut self.moments, inner);
        self.widest = widest.map(|widest| widest.min(subquery.step));
        let found = self.vector(&subquery.of);
        (self.moments, self.widest) = (outer, widest);
        let found = columns::joined(found?, columns::SAME_LABELS)?;
        let rows = |cells: Vec<Cell>| Rows {
            first_end: inner.first(),
            known: vec![1; cells.len()],
            average: cells.into_iter().map(Cell::raw).collect(),
            ..Rows::default()
        };
        let held = |cells: Vec<Cell>| Held {
            rows: rows(cells),
            shape: ArchiveSpec::even(subquery.step, 1),
            readings: None,
            is_computed: true,
        };
        Ok(found.into_iter().map(|column| (column.labels, held(column.cells))).collect())
    }

    /// All multiples of the subquery's step in any of its windows, which are open on the left.
    fn inner(&mut self, subquery: &Subquery) -> Result<Option<Moments>, Error> {
        let outer = self.shifted(subquery.shift);
        let step = subquery.step;
        let first = next_multiple(outer.first().plus_millis(-subquery.width_ms), step);
        let last = outer.last().floor(step);
        if first > last {
            return Ok(None);
        }
        let gaps = last.millis_since(first) / step.as_millis().cast_signed();
        let count = usize::try_from(gaps).unwrap_or(usize::MAX).saturating_add(1);
        // Even of nothing there may be no more moments than points: scalars have a value at each.
        self.spend(count)?;
        Ok(Some(Moments::spaced(first, step, count)))
    }
}

/// The first multiple of `step` after `at`.
fn next_multiple(at: Timestamp, step: rrd::Step) -> Timestamp {
    at.floor(step) + step
}
