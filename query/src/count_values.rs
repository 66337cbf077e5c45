//! `count_values`: how many elements of each group have which value.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rrd::Labels;

use crate::Error;
use crate::columns::{Cell, Column, SAME_LABELS, joined};
use crate::evaluate::Run;
use crate::plan::{Names, Vector};

impl Run<'_> {
    /// A column for each group and value, which `label` says.
    pub(crate) fn count_values(
        &mut self,
        label: &str,
        grouping: &Names,
        of: &Vector,
    ) -> Result<Vec<Column>, Error> {
        let mut groups: HashMap<Labels, usize> = HashMap::new();
        let mut places: HashMap<(usize, u64), usize> = HashMap::new();
        let mut found: Vec<Column> = Vec::new();
        // The value takes its label before the elements are grouped, so that this may drop it again.
        let is_dropped =
            matches!(grouping, Names::Without(names) if names.iter().any(|n| n == label));
        for column in self.vector(of)? {
            let group = grouping.choose(&column.labels.with(label, ""));
            let next = groups.len();
            let number = *groups.entry(group.clone()).or_insert(next);
            for (index, cell) in column.cells.iter().enumerate() {
                let Some(value) = cell.get() else { continue };
                let key = if is_dropped { 0 } else { value.to_bits() };
                let place = match places.entry((number, key)) {
                    Entry::Occupied(place) => *place.get(),
                    Entry::Vacant(place) => {
                        self.spend(column.cells.len())?;
                        let name = if is_dropped { String::new() } else { written(value) };
                        let cells = vec![Cell::ABSENT; column.cells.len()];
                        found.push(Column { labels: group.with(label, &name), cells });
                        *place.insert(found.len() - 1)
                    }
                };
                let count = &mut found[place].cells[index];
                *count = Cell::of(count.get().unwrap_or(0.0) + 1.0);
            }
        }
        joined(found, SAME_LABELS)
    }
}

/// As Prometheus writes a value that becomes a label: all digits, never an exponent.
fn written(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_as_a_label_without_an_exponent() {
        for (value, expected) in [
            (8.0, "8"),
            (0.1, "0.1"),
            (-0.0, "-0"),
            (1e21, "1000000000000000000000"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(written(value), expected);
        }
    }
}
