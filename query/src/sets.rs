//! `and`, `or`, `unless`: elements stay or go by what the other side has.

use std::collections::HashMap;

use rrd::Labels;

use crate::Error;
use crate::columns::{Cell, Column, SAME_LABELS, joined};
use crate::plan::{Names, SetOperator};

/// At which moments each signature is present.
type Presence = HashMap<Labels, Vec<bool>>;

/// The set operation, moment by moment.
pub(crate) fn combined(
    op: SetOperator,
    on: &Names,
    left: Vec<Column>,
    right: Vec<Column>,
) -> Result<Vec<Column>, Error> {
    match op {
        SetOperator::And => Ok(kept(left, on, &presence(&right, on), true)),
        SetOperator::Unless => Ok(kept(left, on, &presence(&right, on), false)),
        SetOperator::Or => {
            let more = kept(right, on, &presence(&left, on), false);
            joined(left.into_iter().chain(more).collect(), SAME_LABELS)
        }
    }
}

fn presence(columns: &[Column], on: &Names) -> Presence {
    let mut all = Presence::new();
    for column in columns {
        let present =
            all.entry(on.choose(&column.labels)).or_insert_with(|| vec![false; column.cells.len()]);
        for (any, cell) in present.iter_mut().zip(&column.cells) {
            *any |= cell.is_present();
        }
    }
    all
}

/// `columns` where the other side is present, or where it is not.
fn kept(mut columns: Vec<Column>, on: &Names, other: &Presence, when: bool) -> Vec<Column> {
    for column in &mut columns {
        match other.get(&on.choose(&column.labels)) {
            Some(present) => {
                for (cell, present) in column.cells.iter_mut().zip(present) {
                    if *present != when {
                        *cell = Cell::ABSENT;
                    }
                }
            }
            None if when => column.cells.fill(Cell::ABSENT),
            None => {}
        }
    }
    columns
}
