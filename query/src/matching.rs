//! Binary operators between vectors: elements find each other by their labels.

use std::collections::HashMap;

use rrd::{Labels, NAME};

use crate::Error;
use crate::columns::{Cell, Column, SAME_LABELS, joined};
use crate::evaluate::Run;
use crate::operators::Operator;
use crate::plan::{Cardinality, Matching, Names, Side};

const GROUPING: &str = "multiple matches for labels: grouping labels must ensure unique matches";

/// Columns of one signature.
#[derive(Default)]
struct Party {
    many: Vec<Column>,
    one: Vec<Column>,
}

/// The result of `op` for every pair that matches. Errors when a match is ambiguous at a moment.
pub(crate) fn matched(
    run: &mut Run<'_>,
    (op, matching): (Operator, &Matching),
    left: Vec<Column>,
    right: Vec<Column>,
) -> Result<Vec<Column>, Error> {
    let many_side = match &matching.cardinality {
        Cardinality::OneToOne => Side::Left,
        Cardinality::Grouped { many, .. } => *many,
    };
    let (many, one) = if many_side == Side::Left { (left, right) } else { (right, left) };
    let count = run.moments.count();
    let many_present = presence(&many, count);
    let most = run.columns_left().max(many.len()); // As many took room before.
    let mut results = Vec::with_capacity(many.len());
    for (signature, party) in parties(&matching.on, many, one) {
        check_one(&party.one, &many_present, &signature, many_side)?;
        let pairs = Pairs { op, matching, many_side, count };
        pairs.of(run, &party, &mut results)?;
        if results.len() > most {
            return Err(Error::Limit(
                "a binary operation makes too many series; ask for fewer of them, a shorter range \
                 or a longer step"
                    .to_owned(),
            ));
        }
    }
    match matching.cardinality {
        Cardinality::OneToOne => joined(results, SAME_LABELS),
        Cardinality::Grouped { .. } => joined(results, GROUPING),
    }
}

/// At which moments any of `columns` has a value.
fn presence(columns: &[Column], count: usize) -> Vec<bool> {
    let mut present = vec![false; count];
    for column in columns {
        for (any, cell) in present.iter_mut().zip(&column.cells) {
            *any |= cell.is_present();
        }
    }
    present
}

/// Both sides by signature, in the order of the "many" side.
fn parties(on: &Names, many: Vec<Column>, one: Vec<Column>) -> Vec<(Labels, Party)> {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut parties: Vec<(Labels, Party)> = Vec::new();
    let mut place = |column: &Column, parties: &mut Vec<(Labels, Party)>| {
        let signature = on.choose(&column.labels);
        *places.entry(signature).or_insert_with_key(|signature| {
            parties.push((signature.clone(), Party::default()));
            parties.len() - 1
        })
    };
    for column in many {
        let at = place(&column, &mut parties);
        parties[at].1.many.push(column);
    }
    for column in one {
        let at = place(&column, &mut parties);
        parties[at].1.one.push(column);
    }
    parties
}

/// The "one" side may have only one element at a moment, wherever there is anything to match.
fn check_one(
    one: &[Column],
    many_present: &[bool],
    signature: &Labels,
    many_side: Side,
) -> Result<(), Error> {
    let [first, rest @ ..] = one else { return Ok(()) };
    if rest.is_empty() {
        return Ok(());
    }
    let mut holders: Vec<Option<&Labels>> =
        first.cells.iter().map(|cell| cell.is_present().then_some(&first.labels)).collect();
    for column in rest {
        for (index, cell) in column.cells.iter().enumerate() {
            match holders[index] {
                _ if !cell.is_present() => {}
                Some(holder) if many_present[index] => {
                    let hand = if many_side == Side::Left { "right" } else { "left" };
                    return Err(Error::Execution(format!(
                        "found duplicate series for the match group {signature} on the {hand} hand-side of the operation: [{holder}, {}]; many-to-many matching not allowed: matching labels must be unique on one side",
                        column.labels
                    )));
                }
                _ => holders[index] = Some(&column.labels),
            }
        }
    }
    Ok(())
}

/// How the pairs of one signature are computed.
struct Pairs<'a> {
    op: Operator,
    matching: &'a Matching,
    many_side: Side,
    count: usize,
}

impl Pairs<'_> {
    fn of(&self, run: &mut Run<'_>, party: &Party, results: &mut Vec<Column>) -> Result<(), Error> {
        let alone = party.many.len() == 1;
        let mut taken = vec![false; if alone { 0 } else { self.count }];
        for many in &party.many {
            for one in &party.one {
                run.looks.add(self.count)?;
                let cells = self.cells(many, one);
                if !alone && matches!(self.matching.cardinality, Cardinality::OneToOne) {
                    take(&mut taken, &cells)?;
                }
                // Where values of a label follow each other most pairs never meet.
                if cells.iter().any(|cell| cell.is_present()) {
                    let labels = self.labels(&many.labels, &one.labels);
                    results.push(Column { labels, cells });
                }
            }
        }
        Ok(())
    }

    fn cells(&self, many: &Column, one: &Column) -> Vec<Cell> {
        let apply = |many: Cell, one: Cell| {
            let (many, one) = (many.get()?, one.get()?);
            match self.many_side {
                Side::Left => self.op.apply(many, one, many),
                Side::Right => self.op.apply(one, many, one),
            }
        };
        let pairs = many.cells.iter().zip(&one.cells);
        pairs.map(|(many, one)| Cell::from(apply(*many, *one))).collect()
    }

    fn labels(&self, many: &Labels, one: &Labels) -> Labels {
        let stays = |label: &str| label != NAME || !self.op.drops_name();
        match &self.matching.cardinality {
            Cardinality::OneToOne => many.filtered(|label| stays(label) && self.is_matched(label)),
            Cardinality::Grouped { include, .. } => {
                include.iter().fold(many.filtered(stays), |labels, name| {
                    labels.with(name, one.get(name).unwrap_or_default())
                })
            }
        }
    }

    /// True when both sides agree in this label, the name aside.
    fn is_matched(&self, label: &str) -> bool {
        match &self.matching.on {
            Names::Only(names) => names.iter().any(|name| name == label),
            Names::Without(names) => !names.iter().any(|name| name == label),
        }
    }
}

/// Marks where `cells` are present; errors where another element already was.
fn take(taken: &mut [bool], cells: &[Cell]) -> Result<(), Error> {
    for (taken, cell) in taken.iter_mut().zip(cells) {
        if cell.is_present() && std::mem::replace(taken, true) {
            return Err(Error::Execution(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)".to_owned(),
            ));
        }
    }
    Ok(())
}
