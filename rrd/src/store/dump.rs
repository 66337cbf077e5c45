//! The canonical dump: all that a crash must not change, as text.

use std::fmt::{self, Write};
use std::sync::Arc;

use super::columns::Series;
use super::instance::Instance;
use super::{Store, lock};
use crate::hex::Hex;
use crate::series::{Grid, Open};
use crate::{Anchor, Column, Labels};

impl Store {
    /// Writes labels, catalogue, accumulators with their bits, and every readable cell, in one order:
    /// identical after any crash and recovery. Where blocks lie in files is left out.
    pub fn canonical_dump(&self, out: &mut dyn Write) -> fmt::Result {
        for instance in self.all() {
            self.dump_instance(&instance, out)?;
        }
        Ok(())
    }

    fn dump_instance(&self, instance: &Instance, out: &mut dyn Write) -> fmt::Result {
        let (series, form) = {
            let state = lock(&instance.state);
            if !state.is_granted || state.is_removed {
                return Ok(());
            }
            writeln!(out, "instance {} {} {}", instance.id, state.form.policy, state.labels)?;
            let batch = state.batch;
            writeln!(out, "batch {} {:x} {}", batch.incarnation, batch.boot_id, batch.number)?;
            let all = state.all_series();
            let all = all.map(|series| describe(series, &state.form.grid));
            (all.collect::<Vec<_>>(), Arc::clone(&state.form))
        };
        for (column, text) in series {
            out.write_str(&text)?;
            for archive in 0..form.archives.len() {
                self.dump_rows(instance, column, archive, out)?;
            }
        }
        Ok(())
    }

    fn dump_rows(
        &self,
        instance: &Instance,
        column: Column,
        archive: usize,
        out: &mut dyn Write,
    ) -> fmt::Result {
        let (rows, form) = self.stored_rows(instance, column, archive, None);
        let Some(spec) = form.archives.get(archive) else { return Ok(()) };
        let first = spec.ended_row(rows.first_end);
        for (row, index) in (first..).zip(0..rows.len()) {
            let end = spec.row_end(row);
            let [average, min, max] =
                [&rows.average, &rows.min, &rows.max].map(|plane| plane[index]);
            let known = rows.known[index];
            write!(out, "row {archive} {end} {average:?} {min:?} {max:?} {known}")?;
            rows.last.get(index).map_or(Ok(()), |last| write!(out, " {last:?}"))?;
            let is_reset = rows.resets.get(index).is_some_and(|&is_reset| is_reset);
            writeln!(out, "{}", if is_reset { " reset" } else { "" })?;
        }
        for Anchor { at, reading } in rows.anchors.iter().filter(|_| archive == 0) {
            writeln!(out, "anchor {at} {reading:?}")?;
        }
        Ok(())
    }
}

fn describe(series: Series<'_>, grid: &Grid) -> (Column, String) {
    let column = series.column();
    let labels = Labels::from_key(series.key.bytes()).unwrap_or_default();
    let definition = &series.class.definition;
    let Column { index, generation } = column;
    let text = format!("series {index} {generation} {labels} {:?} ", series.class.kept.cell);
    let mut open = vec![0; Open::encoded_len(grid.coarser_count())];
    series.open(grid).encode(&mut open);
    (column, format!("{text}{definition:?}\nopen {}\n", Hex(&open)))
}
