//! Repairs: closed rows as late readings have left them, newer than what waits of these rows.

use std::collections::BTreeMap;

use super::Waiting;
use crate::Column;
use crate::series::Run;

/// By column, archive and row, with the generation.
#[derive(Debug, Default)]
pub(super) struct Repairs(BTreeMap<(u32, usize, i64), (u32, Run)>);

impl Repairs {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn put(&mut self, column: Column, run: &Run) {
        let key = (column.index, run.archive, run.first_row);
        self.0.insert(key, (column.generation, *run));
    }

    /// Those of one archive of a series, oldest first.
    pub(super) fn of(&self, column: Column, archive: usize) -> impl Iterator<Item = Run> {
        let key = |row| (column.index, archive, row);
        let found = self.0.range(key(i64::MIN)..=key(i64::MAX));
        found.filter(move |(_, (of, _))| *of == column.generation).map(|(_, (_, run))| *run)
    }
}

/// Runs in ascending order, with some rows of theirs as late readings have left them.
pub(crate) fn with_repairs(runs: Vec<Run>, repairs: &[Run]) -> Vec<Run> {
    if repairs.is_empty() {
        return runs;
    }
    let mut whole = Vec::with_capacity(runs.len() + 2 * repairs.len());
    for run in runs {
        let end = run.first_row.saturating_add_unsigned(run.count);
        let mut next = run.first_row;
        let after = |row: i64| repairs.partition_point(|repair| repair.first_row < row);
        let rest = |rows: std::ops::Range<i64>| {
            let count = (rows.end - rows.start).cast_unsigned();
            (count > 0).then_some(Run { first_row: rows.start, count, ..run })
        };
        for repair in &repairs[after(run.first_row)..after(end)] {
            whole.extend(rest(next..repair.first_row));
            whole.push(*repair);
            next = repair.first_row + 1;
        }
        whole.extend(rest(next..end));
    }
    whole
}

/// Of all that waits, the oldest first: the rows of one archive of a series that late readings have changed
/// since, each as the last one left it, in ascending order.
pub(crate) fn repairs_of<'a>(
    all: impl Iterator<Item = &'a Waiting>,
    column: Column,
    archive: usize,
) -> Vec<Run> {
    let mut newest = BTreeMap::new();
    for waiting in all.filter(|waiting| !waiting.repairs.is_empty()) {
        newest.extend(waiting.repairs.of(column, archive).map(|run| (run.first_row, run)));
    }
    newest.into_values().collect()
}
