//! Waiting rows: closed, but not yet in the file. Readers see them; a round writes them.

use crate::Cell;
use crate::series::Run;

/// "No earlier run."
const NONE: u32 = u32::MAX;

/// Runs of closed rows of one instance, as a chain for each column: newest first.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    heads: Vec<Head>,
    /// Rows of the finest archive: most of all there are, so they are kept small.
    fine: Vec<Fine>,
    coarse: Vec<Coarse>,
}

/// Where a column's chains begin, and whose rows they are.
#[derive(Clone, Copy, Debug)]
struct Head {
    generation: u32,
    fine: u32,
    coarse: u32,
}

#[derive(Clone, Copy, Debug)]
struct Fine {
    earlier: u32,
    count: u32,
    first_row: i64,
    value: f64,
}

#[derive(Clone, Copy, Debug)]
struct Coarse {
    earlier: u32,
    archive: u8,
    count: u32,
    known: u32,
    first_row: i64,
    average: f64,
    min: f64,
    max: f64,
    last: f64,
}

const _: () = assert!(size_of::<Fine>() == 24 && size_of::<Coarse>() == 56);

impl Waiting {
    pub(crate) const fn is_empty(&self) -> bool {
        self.fine.is_empty() && self.coarse.is_empty()
    }

    /// Adds rows of a column, as its cell will keep them. Rows of an earlier generation are dropped.
    #[inline]
    pub(crate) fn push(&mut self, column: u32, generation: u32, cell: Cell, run: Run) {
        let index = column as usize;
        if index >= self.heads.len() {
            self.heads.resize(index + 1, Head { generation: 0, fine: NONE, coarse: NONE });
        }
        let head = &mut self.heads[index];
        if head.generation != generation {
            *head = Head { generation, fine: NONE, coarse: NONE };
        }
        let (count, first_row) = last_rows(&run);
        if run.archive == 0 {
            let value = cell.kept(run.average);
            self.fine.push(Fine { earlier: head.fine, count, first_row, value });
            head.fine = last_index(self.fine.len());
        } else {
            self.coarse.push(Coarse {
                earlier: head.coarse,
                archive: u8::try_from(run.archive).expect("at most eight archives"),
                count,
                known: run.known,
                first_row,
                average: cell.kept(run.average),
                min: cell.kept(run.min),
                max: cell.kept(run.max),
                last: cell.kept(run.last),
            });
            head.coarse = last_index(self.coarse.len());
        }
    }

    /// The runs of one archive of a column, newest first.
    pub(crate) fn runs(
        &self,
        column: u32,
        generation: u32,
        archive: usize,
    ) -> impl Iterator<Item = Run> {
        let head = self.heads.get(column as usize).filter(|head| head.generation == generation);
        let (fine, coarse) = match head {
            Some(head) if archive == 0 => (head.fine, NONE),
            Some(head) => (NONE, head.coarse),
            None => (NONE, NONE),
        };
        let fine = chain(&self.fine, fine, |run| run.earlier).map(Fine::run);
        let coarse = chain(&self.coarse, coarse, |run| run.earlier)
            .filter(move |run| usize::from(run.archive) == archive)
            .map(Coarse::run);
        fine.chain(coarse)
    }
}

impl Fine {
    fn run(&self) -> Run {
        let &Self { count, first_row, value, .. } = self;
        let known = u32::from(!value.is_nan());
        let count = u64::from(count);
        let (average, min, max, last) = (value, value, value, value);
        Run { archive: 0, first_row, count, average, min, max, last, known }
    }
}

impl Coarse {
    fn run(&self) -> Run {
        let &Self { archive, first_row, count, average, min, max, last, known, .. } = self;
        let (archive, count) = (usize::from(archive), u64::from(count));
        Run { archive, first_row, count, average, min, max, last, known }
    }
}

fn chain<T>(runs: &[T], head: u32, earlier: impl Fn(&T) -> u32) -> impl Iterator<Item = &T> {
    let first = runs.get(head as usize);
    std::iter::successors(first, move |run| runs.get(earlier(run) as usize))
}

/// Longer runs are gaps, and no ring keeps that many rows: their last rows are enough.
fn last_rows(run: &Run) -> (u32, i64) {
    let count = u32::try_from(run.count).unwrap_or(u32::MAX);
    let skipped = run.count - u64::from(count);
    (count, run.first_row.saturating_add_unsigned(skipped))
}

/// Runs are bounded by the journal, which refuses samples long before there are four billion.
fn last_index(len: usize) -> u32 {
    u32::try_from(len - 1).expect("the journal holds fewer frames than that")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(archive: usize, first_row: i64, average: f64) -> Run {
        let (min, max, last) = (average, average, average);
        Run { archive, first_row, count: 1, average, min, max, last, known: 1 }
    }

    #[test]
    fn a_column_sees_its_own_rows_newest_first() {
        let mut waiting = Waiting::default();
        for row in 1..4 {
            waiting.push(0, 1, Cell::F64, run(0, row, 1.5));
            waiting.push(5, 1, Cell::F64, run(0, row + 10, 2.5));
            waiting.push(0, 1, Cell::F64, run(2, row + 20, 3.5));
        }
        let rows = |column, archive| {
            waiting.runs(column, 1, archive).map(|run| run.first_row).collect::<Vec<_>>()
        };
        assert_eq!(rows(0, 0), [3, 2, 1]);
        assert_eq!(rows(5, 0), [13, 12, 11]);
        assert_eq!(rows(0, 2), [23, 22, 21]);
        assert_eq!((rows(0, 1), rows(9, 0)), (vec![], vec![]));
    }

    #[test]
    fn a_new_generation_never_sees_the_rows_of_the_former() {
        let mut waiting = Waiting::default();
        waiting.push(0, 1, Cell::F64, run(0, 1, 1.0));
        assert_eq!(waiting.runs(0, 2, 0).count(), 0);
        waiting.push(0, 2, Cell::F64, run(0, 2, 2.0));
        assert_eq!(waiting.runs(0, 2, 0).count(), 1);
        assert_eq!(waiting.runs(0, 1, 0).count(), 0);
    }

    #[test]
    fn rows_are_rounded_as_their_cell_rounds_them() {
        let mut waiting = Waiting::default();
        for (column, value) in [(0, 0.1), (1, 1e39), (2, f64::INFINITY)] {
            waiting.push(column, 1, Cell::F32, run(0, 1, value));
        }
        let value = |column| waiting.runs(column, 1, 0).next().unwrap().average;
        assert_eq!(value(0).to_bits(), f64::from(0.1_f32).to_bits());
        assert!(value(1).is_nan());
        assert!(value(2).is_infinite());
    }
}
