//! One series by itself, in the form that files have: laid into arrays, changed there and read back. For tests.

use super::head::{Head, OpenMut, Out};
use super::phase::{Grid, Phase};
use super::{
    Closed, Definition, Missing, MissingMut, MissingRef, Open, Reading, Run, Sums, Usual, Verdict,
    Way, hush, take, take_reading,
};
use crate::policy::ArchiveSpec;
use crate::{Anchor, Timestamp};

/// Takes one reading at `at`, as [`super::take`]. A usual one has a way of its own, [`Usual`]: both ways are
/// gone, and must end at the same place to the last bit.
pub(crate) fn apply(
    definition: &Definition,
    archives: &[ArchiveSpec],
    open: &mut Open,
    at: Timestamp,
    value: f64,
    out: &mut impl FnMut(Run),
) -> Verdict {
    let (mut other, mut runs, mut other_runs) = (open.clone(), Vec::new(), Vec::new());
    let verdict = change(archives, open, &mut |run| runs.push(run), |phase, mut open, out| {
        take_reading(definition, phase, &mut open, (at, Reading::Real(value)), out)
    });
    let mut keep = |run| other_runs.push(run);
    let other_verdict = change(archives, &mut other, &mut keep, |phase, mut open, out| {
        let usual = Usual::of(phase, open.head, at).and_then(|mut usual| {
            let weighed = usual.weigh(&Way::of(definition, false), open.head, (at, value))?;
            Some((usual, weighed))
        });
        match usual {
            None => take(definition, phase, &mut open, (at, value), out),
            Some((usual, weighed)) => {
                usual.take(weighed, &mut open, out);
                Verdict::Stored
            }
        }
    });
    let told = |open: &Open, runs: &[Run], verdict| format!("{verdict:?} {open:?} {runs:?}");
    assert_eq!(
        told(open, &runs, verdict),
        told(&other, &other_runs, other_verdict),
        "{value} at {at}"
    );
    runs.into_iter().for_each(out);
    verdict
}

/// As [`apply`], for a whole number that may have more digits than an f64 keeps.
pub(crate) fn apply_whole(
    definition: &Definition,
    archives: &[ArchiveSpec],
    open: &mut Open,
    at: Timestamp,
    value: i128,
    out: &mut impl FnMut(Run),
) -> Verdict {
    change(archives, open, out, |phase, mut open, out| {
        take_reading(definition, phase, &mut open, (at, Reading::Whole(value)), out)
    })
}

/// As [`super::hush`].
pub(crate) fn silence(
    definition: &Definition,
    archives: &[ArchiveSpec],
    open: &mut Open,
    now: Timestamp,
    out: &mut impl FnMut(Run),
) {
    change(archives, open, out, |phase, mut open, out| {
        hush(definition, phase, &mut open, now, out);
    });
}

fn change<F: FnMut(Run), T>(
    archives: &[ArchiveSpec],
    open: &mut Open,
    out: &mut F,
    change: impl FnOnce(&mut Phase<'_>, OpenMut<'_>, &mut Each<'_, F>) -> T,
) -> T {
    let grid = Grid::of(archives);
    let (mut head, mut birth) = (Head::unborn(1, 0), open.birth);
    let mut rows = vec![Sums::EMPTY; open.coarser_count()];
    let mut missing = Missing::none(&grid);
    missing.grow(open.coarser_count());
    let of_column = MissingMut { all: &mut missing, first: 0 };
    let mut parts = OpenMut { head: &mut head, rows: &mut rows, missing: of_column };
    open.store(&mut parts, &grid);
    let mut phase = Phase::new(&grid);
    let done = change(&mut phase, parts, &mut Each { out, birth: &mut birth });
    let of_column = MissingRef { all: &missing, first: 0 };
    *open = Open::load(birth, &head, (&rows, of_column), &grid);
    done
}

/// Hands all rows to one function.
struct Each<'a, F> {
    out: &'a mut F,
    birth: &'a mut Timestamp,
}

impl<F: FnMut(Run)> Closed for Each<'_, F> {
    fn fine(&mut self, row: i64, value: f64) {
        (self.out)(Run::of_equal(0, row, 1, (value, 1)));
    }

    fn coarse(&mut self, _: usize, run: &Run) {
        (self.out)(*run);
    }
}

impl<F: FnMut(Run)> Out for Each<'_, F> {
    fn fine(&mut self, first_row: i64, count: u64, value: f64) {
        (self.out)(Run::of_equal(0, first_row, count, (value, 1)));
    }

    fn marked(&mut self, run: &Run) {
        (self.out)(*run);
    }

    fn anchor(&mut self, _: Anchor) {}

    fn coarse(&mut self, run: &Run) {
        (self.out)(*run);
    }

    fn born(&mut self, birth: Timestamp) {
        *self.birth = birth;
    }
}
