//! A series under test: a timeline of readings, and the rows it has closed so far.

use std::collections::BTreeMap;

use super::{
    Definition, Grid, Head, Missing, MissingMut, Open, OpenMut, Run, Sums, Verdict, apply,
    apply_whole, row_is_known, silence,
};
use crate::policy::ArchiveSpec;
use crate::{Kind, Step, Timestamp};

/// Longer gaps would make the map of rows the slowest part of a test.
const MOST_ROWS: u64 = 100_000;

pub(super) struct Timeline {
    pub(super) definition: Definition,
    pub(super) archives: Vec<ArchiveSpec>,
    pub(super) open: Open,
    rows: BTreeMap<(usize, i64), Run>,
}

/// A gauge without limits.
pub(super) fn gauge(heartbeat_s: u64) -> Definition {
    definition(Kind::Gauge, heartbeat_s)
}

pub(super) fn definition(kind: Kind, heartbeat_s: u64) -> Definition {
    Definition { kind, heartbeat_ms: heartbeat_s * 1000, min: f64::NAN, max: f64::NAN }
}

pub(super) fn archives(step_ms: u64, per_rows: &[u64]) -> Vec<ArchiveSpec> {
    let spec = |per_row: &u64| ArchiveSpec::even(Step::from_millis(step_ms * per_row).unwrap(), 10);
    std::iter::once(&1).chain(per_rows).map(spec).collect()
}

impl Timeline {
    /// A series that its first reading begins.
    pub(super) fn unborn(definition: Definition, archives: Vec<ArchiveSpec>) -> Self {
        let open = Open::unborn(archives.len() - 1);
        Self { definition, archives, open, rows: BTreeMap::new() }
    }

    /// A series created with rrdtool's `--start`.
    pub(super) fn begun(
        definition: Definition,
        archives: Vec<ArchiveSpec>,
        start: Timestamp,
    ) -> Self {
        let open = Open::begin(start, &archives);
        Self { definition, archives, open, rows: BTreeMap::new() }
    }

    /// Where it stands, as the store keeps it.
    pub(super) fn head(&self) -> Head {
        let grid = Grid::of(&self.archives);
        let (mut head, count) = (Head::unborn(1, 0), self.archives.len() - 1);
        let (mut rows, mut all) = (vec![Sums::EMPTY; count], Missing::none(&grid));
        all.grow(count);
        let missing = MissingMut { all: &mut all, first: 0 };
        self.open.store(&mut OpenMut { head: &mut head, rows: &mut rows, missing }, &grid);
        head
    }

    pub(super) fn read(&mut self, at: Timestamp, value: f64) -> Verdict {
        let Self { definition, archives, open, rows } = self;
        let verdict = apply(definition, archives, open, at, value, &mut |run| keep(rows, run));
        assert!(self.open.agrees_with(&self.archives), "after {at}: {:?}", self.open);
        verdict
    }

    pub(super) fn read_whole(&mut self, at: Timestamp, value: i128) -> Verdict {
        let Self { definition, archives, open, rows } = self;
        let verdict =
            apply_whole(definition, archives, open, at, value, &mut |run| keep(rows, run));
        assert!(self.open.agrees_with(&self.archives), "after {at}: {:?}", self.open);
        verdict
    }

    /// A value in whole seconds of a short test.
    pub(super) fn at(&mut self, secs: i64, value: f64) -> Verdict {
        self.read(Timestamp::from_secs(secs), value)
    }

    pub(super) fn silence(&mut self, now_s: i64) {
        let Self { definition, archives, open, rows } = self;
        let now = Timestamp::from_secs(now_s);
        silence(definition, archives, open, now, &mut |run| keep(rows, run));
        assert!(self.open.agrees_with(&self.archives), "silence at {now}: {:?}", self.open);
    }

    /// The row of `archive` that ends at `end`, if it has closed.
    pub(super) fn closed_row(&self, archive: usize, end: Timestamp) -> Option<&Run> {
        self.rows.get(&(archive, end.row(self.archives[archive].step)))
    }

    /// The average of the row that ends at `end`, as a reader sees it with this `xff`.
    pub(super) fn average(&self, archive: usize, end: Timestamp, xff: f64) -> f64 {
        let per_row = self.archives[archive].steps_per_row(self.archives[0].step);
        match self.closed_row(archive, end) {
            Some(row) if row_is_known(row.known, per_row, xff) => row.average,
            _ => f64::NAN,
        }
    }

    /// Every closed average of an archive, oldest first: (END in seconds, value).
    pub(super) fn averages(&self, archive: usize) -> Vec<(i64, f64)> {
        let step = self.archives[archive].step;
        let rows = self.rows.range((archive, i64::MIN)..=(archive, i64::MAX));
        rows.map(|(&(_, row), run)| (Timestamp::row_end(row, step).as_millis() / 1000, run.average))
            .collect()
    }

    /// Numbers of every closed row of an archive, oldest first.
    pub(super) fn row_numbers(&self, archive: usize) -> Vec<i64> {
        let rows = self.rows.range((archive, i64::MIN)..=(archive, i64::MAX));
        rows.map(|(&(_, row), _)| row).collect()
    }
}

fn keep(rows: &mut BTreeMap<(usize, i64), Run>, run: Run) {
    assert!(run.count > 0, "{run:?}");
    assert_eq!(run.known == 0, run.average.is_nan(), "{run:?}");
    if run.count > MOST_ROWS {
        return;
    }
    for row in (run.first_row..).take(usize::try_from(run.count).unwrap()) {
        let one = Run { first_row: row, count: 1, ..run };
        assert!(rows.insert((run.archive, row), one).is_none(), "row {row} closed twice");
    }
}

/// Equal to rrdtool's eleven printed digits; unknown equals unknown.
pub(super) fn is_close(got: f64, want: f64) -> bool {
    (got.is_nan() && want.is_nan())
        || got.to_bits() == want.to_bits()
        || (got - want).abs() <= 1e-12 + 1e-9 * want.abs()
}
