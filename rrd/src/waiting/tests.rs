//! What waits, and how it comes back.

use super::chain::last_rows;
use super::*;
use crate::Timestamp;

fn run(archive: usize, first_row: i64, average: f64) -> Run {
    let (min, max, last) = (average, average, average);
    Run { archive, first_row, count: 1, average, min, max, last, known: 1, reset: false }
}

const WIDE: Kept = Kept { cell: Cell::F64, last: false };
const NARROW: Kept = Kept { cell: Cell::F32, last: false };

#[test]
fn a_column_sees_its_own_rows_newest_first() {
    let mut waiting = Waiting::default();
    for row in 1..4 {
        waiting.push(0, 1, WIDE, &run(0, row, 1.5));
        waiting.push(5, 1, WIDE, &run(0, row + 10, 2.5));
        waiting.push(0, 1, WIDE, &run(2, row + 20, 3.5));
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
    waiting.push(0, 1, WIDE, &run(0, 1, 1.0));
    assert_eq!(waiting.runs(0, 2, 0).count(), 0);
    waiting.push(0, 2, WIDE, &run(0, 2, 2.0));
    assert_eq!(waiting.runs(0, 2, 0).count(), 1);
    assert_eq!(waiting.runs(0, 1, 0).count(), 0);
}

#[test]
fn of_a_repaired_row_the_newest_counts_and_its_neighbours_stay() {
    let column = Column { index: 3, generation: 2 };
    let (mut older, mut newer) = (Waiting::default(), Waiting::default());
    older.repair(column, &run(0, 5, 1.0));
    older.repair(column, &run(0, 7, 2.0));
    newer.repair(column, &run(0, 7, 3.0));
    newer.repair(column, &run(1, 7, 4.0));
    newer.repair(Column { generation: 1, ..column }, &run(0, 6, 9.0));
    assert!(!older.is_empty());
    let repairs = repairs_of([&older, &newer].into_iter(), column, 0);
    let runs = vec![Run { count: 4, ..run(0, 4, 0.0) }, run(0, 8, 8.0)];
    let rows = with_repairs(runs, &repairs);
    let rows: Vec<_> = rows.iter().map(|r| (r.first_row, r.count, r.average)).collect();
    assert_eq!(rows, [(4, 1, 0.0), (5, 1, 1.0), (6, 1, 0.0), (7, 1, 3.0), (8, 1, 8.0)]);
}

#[test]
fn rows_are_rounded_as_their_cell_rounds_them() {
    let mut waiting = Waiting::default();
    for (column, value) in [(0, 0.1), (1, 1e39), (2, f64::INFINITY)] {
        waiting.push(column, 1, NARROW, &run(0, 1, value));
    }
    let value = |column| waiting.runs(column, 1, 0).next().unwrap().average;
    assert_eq!(value(0).to_bits(), f64::from(0.1_f32).to_bits());
    assert!(value(1).is_nan());
    assert!(value(2).is_infinite());
}

#[test]
fn rows_of_all_kinds_come_back_as_they_were() {
    for kept in [WIDE, NARROW, Kept { last: true, ..WIDE }, Kept { last: true, ..NARROW }] {
        let mut waiting = Waiting::default();
        let mut pushed = Vec::new();
        // The first row, a late one, the next, a gap, one beyond any short distance, the last.
        for (first_row, count) in
            [(100, 1), (-7, 1), (101, 1), (102, 9), (1 << 40, 1), ((1 << 40) + 1, 1 << 40)]
        {
            for archive in [0, 3, 7] {
                let mut run = Run { count, ..run(archive, first_row, 0.5) };
                if archive > 0 {
                    (run.min, run.max, run.known) = (-1.5, 2.5, 3);
                    run.last = if kept.last { 1.25 } else { f64::NAN };
                }
                match archive {
                    0 => waiting.push_equal((2, 1), kept, (first_row, count), run.average),
                    _ => waiting.push(2, 1, kept, &run),
                }
                let (count, first_row) = last_rows(&run);
                pushed.push(Run { count: u64::from(count), first_row, ..run });
            }
        }
        for archive in [0, 3, 7] {
            let mut got: Vec<Run> = waiting.runs(2, 1, archive).collect();
            got.reverse();
            let want: Vec<&Run> = pushed.iter().filter(|run| run.archive == archive).collect();
            assert_eq!(format!("{got:?}"), format!("{want:?}"), "{kept:?}");
        }
    }
}

#[test]
fn anchors_and_resets_wait_with_the_rows() {
    for kept in [WIDE, NARROW] {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.anchors(0, 1).count(), 0);
        let anchor = |secs, reading| Anchor { at: Timestamp::from_secs(secs), reading };
        for row in 0..4 {
            let reset = row == 2;
            waiting.push(0, 1, kept, &Run { reset, ..run(0, row, f64::NAN) });
            waiting.push(0, 1, kept, &Run { reset, count: 3, ..run(3, row * 3, 0.5) });
            waiting.push_anchor((0, 1), anchor(row * 10 - 20, 0.1));
        }
        let resets = |archive| waiting.runs(0, 1, archive).map(|run| run.reset).collect::<Vec<_>>();
        assert_eq!(resets(0), [false, true, false, false]);
        assert_eq!(resets(3), [false, true, false, false]);
        assert!(waiting.runs(0, 1, 0).all(|run| run.average.is_nan() && run.count == 1));
        let anchors: Vec<Anchor> = waiting.anchors(0, 1).collect();
        assert_eq!(anchors, [10, 0, -10, -20].map(|secs| anchor(secs, 0.1)));
        assert_eq!((waiting.anchors(0, 2).count(), waiting.anchors(1, 1).count()), (0, 0));
    }
}

/// So many columns with so many rows each of the finest archive, minute by minute.
fn minutes(columns: u32, rows: std::ops::Range<i64>) -> Waiting {
    let mut waiting = Waiting::default();
    waiting.grow(columns as usize);
    waiting.expect_rows(columns as usize);
    for row in rows {
        for column in 0..columns {
            waiting.push_one((column, 1), NARROW, row, 0.5);
        }
    }
    waiting
}

#[test]
fn a_usual_row_takes_its_cells_and_no_more() {
    let mut waiting = minutes(100, 0..10);
    assert_eq!(waiting.dense.size(), (10 * 100 * 4, 10));
    for row in 0..2 {
        (0..100).for_each(|column| waiting.push(column, 1, NARROW, &run(1, row, 0.5)));
    }
    assert_eq!(waiting.dense.size(), (10 * 100 * 4 + 2 * 100 * 12, 12));
    assert!(waiting.chain.is_empty());
}

#[test]
fn columns_that_send_nothing_take_no_room_in_pages() {
    let mut waiting = Waiting::default();
    waiting.grow(10_000);
    waiting.expect_rows(20);
    for row in 0..10 {
        (0..20).for_each(|n| waiting.push_one((n * 500, 1), NARROW, row, 0.5));
    }
    assert_eq!(waiting.dense.size(), (10 * 20 * 4, 10));
    assert!(waiting.chain.is_empty());
}

#[test]
fn a_column_that_is_far_ahead_of_all_others_opens_few_pages() {
    let mut waiting = minutes(10_000, 0..1);
    (1..100_000).for_each(|row| waiting.push_one((7, 1), NARROW, row, 0.5));
    let (bytes, pages) = waiting.dense.size();
    assert!(pages < 10 && bytes <= pages * 40_000, "{bytes} bytes in {pages} pages");
    assert!(waiting.runs(7, 1, 0).map(|run| run.first_row).eq((0..100_000).rev()));
}

#[test]
fn columns_whose_rows_come_one_after_the_other_share_pages() {
    let mut waiting = Waiting::default();
    waiting.grow(200);
    for column in 0..200 {
        waiting.expect_rows(10);
        (0..10).for_each(|row| waiting.push_one((column, 1), NARROW, row, 0.5));
    }
    let (bytes, pages) = waiting.dense.size();
    assert!(pages <= 10 && bytes <= 10 * 200 * 4, "{bytes} bytes in {pages} pages");
    assert!((0..200).all(|column| waiting.runs(column, 1, 0).count() == 10));
}

#[test]
fn few_columns_have_no_pages() {
    assert_eq!(minutes(7, 0..10).dense.size(), (0, 0));
    assert_eq!(minutes(8, 0..10).dense.size(), (10 * 8 * 4, 10));
}

#[test]
fn of_a_column_that_changed_hands_the_rows_are_as_dense_as_others() {
    let mut waiting = minutes(100, 0..2);
    for row in 2..5 {
        (0..100).for_each(|column| {
            let generation = if column == 9 { 2 } else { 1 };
            waiting.push_one((column, generation), NARROW, row, 0.5);
        });
    }
    assert!(waiting.chain.is_empty());
    assert_eq!((waiting.runs(9, 1, 0).count(), waiting.runs(9, 2, 0).count()), (0, 3));
    assert_eq!(waiting.runs(8, 1, 0).count(), 5);
}
