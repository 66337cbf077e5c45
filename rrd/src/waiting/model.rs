//! What waits against a naive list of everything that came, over random schedules.

use fixtures::dice::Dice;

use super::chain::last_rows;
use super::*;
use crate::Timestamp;
use crate::file::Shape;

const SCHEDULES: u64 = 100;
const ARCHIVES: [usize; 4] = [0, 1, 3, 7];

/// All that came for one column since its series began, oldest first.
#[derive(Clone, Debug)]
struct Column {
    generation: u32,
    kept: Kept,
    /// By archive of [`ARCHIVES`]: the row that comes next.
    next: [i64; 4],
    runs: Vec<Run>,
    anchors: Vec<Anchor>,
}

struct World {
    dice: Dice,
    columns: Vec<Column>,
    waiting: Waiting,
}

impl World {
    fn new(mut dice: Dice) -> Self {
        let count = [1, 7, 8, 40, 100][dice.index(5)];
        let (last, wide_in) = (dice.once_in(4), [1, 2, 20][dice.index(3)]);
        let columns = (0..count).map(|_| Column {
            generation: 1,
            kept: Kept { cell: if dice.once_in(wide_in) { Cell::F64 } else { Cell::F32 }, last },
            next: [1000, 200, 20, 1],
            runs: Vec::new(),
            anchors: Vec::new(),
        });
        let columns: Vec<_> = columns.collect();
        let mut waiting = Waiting::default();
        if dice.once_in(2) {
            waiting.grow(count);
            waiting.expect_rows(1 + dice.index(2 * count));
        }
        Self { dice, columns, waiting }
    }

    /// Rows for most of the columns, or for one that is ahead of all others.
    fn step(&mut self) {
        let silent_in = [2, 5, 100][self.dice.index(3)];
        let is_shuffled = self.dice.once_in(2);
        let count = self.columns.len();
        for number in 0..count {
            if self.dice.once_in(silent_in) {
                continue;
            }
            let column = if is_shuffled { self.dice.index(count) } else { number };
            self.row(column, 0);
            if self.dice.once_in(4) {
                self.row(column, 1 + number % 3);
            }
        }
        let ahead = self.dice.index(count);
        (0..self.dice.below(12)).for_each(|_| self.row(ahead, 0));
    }

    fn row(&mut self, number: usize, place: usize) {
        let dice = &mut self.dice;
        let column = &mut self.columns[number];
        let value = [0.1, -3.0, f64::NAN, 1e39, f64::INFINITY, -0.0][dice.index(6)];
        let (count, skipped) = match dice.below(40) {
            0 => (2 + dice.below(5), 0),
            1 => (1 << 40, 0),
            2 => (1, 1 << 40),
            3 => (1, 3),
            _ => (1, 0),
        };
        let first_row = column.next[place] + skipped;
        let mut run = Run::of_equal(ARCHIVES[place], first_row, count, (value, 1));
        if place > 0 {
            (run.min, run.max) = (value - 1.0, value + 1.0);
            run.known = [0, 1, 5, 65_535, 65_536, 1_000_000][dice.index(6)];
        }
        run.reset = dice.once_in(30);
        let (index, generation) = (u32::try_from(number).unwrap(), column.generation);
        let of = (index, generation);
        if place == 0 && !run.reset && count == 1 {
            self.waiting.push_one(of, column.kept, first_row, value);
        } else if place == 0 && !run.reset {
            self.waiting.push_equal(of, column.kept, (first_row, count), value);
        } else {
            self.waiting.push(index, generation, column.kept, &run);
        }
        column.next[place] = first_row.saturating_add_unsigned(count);
        column.runs.push(run);
        if dice.once_in(20) {
            let anchor = Anchor { at: Timestamp::from_secs(first_row), reading: value };
            self.waiting.push_anchor(of, anchor);
            column.anchors.push(anchor);
        }
    }

    /// Another series gets a column, whose first row comes at once.
    fn hand_on(&mut self) {
        let number = self.dice.index(self.columns.len());
        let column = &mut self.columns[number];
        column.generation += 1;
        if self.dice.once_in(2) {
            column.kept.cell = if column.kept.cell == Cell::F32 { Cell::F64 } else { Cell::F32 };
        }
        column.runs.clear();
        column.anchors.clear();
        self.row(number, 0);
    }

    /// Says how many rows lie straight.
    fn check(&self, context: &str) -> usize {
        let mut straight_rows = 0;
        for (index, column) in (0..).zip(&self.columns) {
            let generation = column.generation;
            for archive in ARCHIVES {
                let found: Vec<Run> = self.waiting.runs(index, generation, archive).collect();
                let wanted: Vec<Run> = column.wanted(archive).collect();
                let context = format!("{context}, column {index}, archive {archive}");
                assert_eq!(format!("{found:?}"), format!("{wanted:?}"), "{context}");
                assert_eq!(self.waiting.runs(index, generation + 1, archive).count(), 0);
                assert!(self.waiting.straight(index, generation + 1, archive).is_none());
                if let Some(straight) = self.waiting.straight(index, generation, archive) {
                    straight_rows += column.check_straight(straight, &wanted, &context);
                }
            }
            let found: Vec<Anchor> = self.waiting.anchors(index, generation).collect();
            let wanted: Vec<&Anchor> = column.anchors.iter().rev().collect();
            assert_eq!(format!("{found:?}"), format!("{wanted:?}"), "{context}, column {index}");
        }
        straight_rows
    }
}

impl Column {
    /// Rows that lie straight are the same bytes as if written one by one; `wanted` are all there are, newest
    /// first. Says how many rows they are.
    fn check_straight(&self, straight: StraightRows<'_>, wanted: &[Run], context: &str) -> usize {
        let Kept { cell, last } = self.kept;
        let archive = wanted.first().map_or(0, |run| run.archive);
        let known_lens: &[usize] = if archive == 0 { &[0] } else { &[1, 2, 4] };
        let mut written = 0;
        for (&known_len, len) in known_lens.iter().flat_map(|known| [(known, 1), (known, 3)]) {
            let shape = Shape { cell, known_len, keeps_last: last && archive > 0 };
            for rows in wanted.windows(len) {
                let (newest, oldest) = (rows[0].first_row, rows[len - 1].first_row);
                let mut bytes = vec![7; len * shape.row_len()];
                let is_all = (newest - oldest).unsigned_abs() + 1 == len as u64;
                if is_all && straight.write(oldest..newest + 1, shape, &mut bytes) {
                    let mut expected = vec![0; bytes.len()];
                    let room = expected.chunks_exact_mut(shape.row_len());
                    rows.iter().rev().zip(room).for_each(|(run, row)| shape.write(run, row));
                    assert_eq!(bytes, expected, "{context}, {shape:?}, {rows:?}");
                    written += len;
                }
            }
            let other = if cell == Cell::F32 { Cell::F64 } else { Cell::F32 };
            let shape = Shape { cell: other, ..shape };
            let mut bytes = vec![0; shape.row_len()];
            let first = wanted.first().map_or(0, |run| run.first_row);
            assert!(!straight.write(first..first + 1, shape, &mut bytes), "{context}");
            let after = Shape { cell, ..shape };
            let mut bytes = vec![0; after.row_len()];
            assert!(!straight.write(first + 1..first + 2, after, &mut bytes), "{context}");
        }
        written
    }

    /// Newest first, as the cell keeps them.
    fn wanted(&self, archive: usize) -> impl Iterator<Item = Run> {
        let Kept { cell, last } = self.kept;
        let runs = self.runs.iter().rev().filter(move |run| run.archive == archive);
        runs.map(move |run| {
            let ((count, first_row), average) = (last_rows(run), cell.kept(run.average));
            if archive == 0 {
                let of_equal = Run::of_equal(0, first_row, u64::from(count), (average, 1));
                return Run { reset: run.reset, ..of_equal };
            }
            let (min, max) = (cell.kept(run.min), cell.kept(run.max));
            let last = if last { cell.kept(run.last) } else { f64::NAN };
            Run { first_row, count: u64::from(count), average, min, max, last, ..*run }
        })
    }
}

#[test]
fn what_waits_is_what_came() {
    let mut straight = 0;
    for number in 0..SCHEDULES {
        let seed = fixtures::dice::told().unwrap_or(number);
        let mut world = World::new(Dice::new(seed));
        for step in 0..=world.dice.below(25) {
            world.step();
            if world.dice.once_in(4) {
                world.hand_on();
            }
            if world.dice.once_in(5) {
                straight += world.check(&format!("ROUNDEL_SEED={seed}, step {step}"));
            }
        }
        straight += world.check(&format!("ROUNDEL_SEED={seed}"));
    }
    assert!(straight > 10_000, "{straight} rows");
}
