//! A series as a file of rrdtool would hold it, to be written for other programs.

use std::sync::Arc;

use super::instance::{Form, Instance};
use super::{Rows, Store, lock};
use crate::import::{Dump, Function, Prepared, Rra, Source, SourceKind};
use crate::series::{Definition, Open, OpenRow, Resumed};
use crate::{Kind, Policy, SeriesRef, Timestamp};

/// What a data source is called; rrdtool has no room for the labels of a series.
const SOURCE: &str = "value";

impl Store {
    /// The series with all its rows and its open end; `None` when it is not there, has not begun, or
    /// its step is no whole number of seconds.
    pub fn dump_series(&self, series: SeriesRef) -> Option<Dump> {
        let instance = self.instance(series.instance)?;
        let (form, definition, open) = {
            let state = lock(&instance.state);
            let found = state.series(series.column).filter(|found| !found.head.is_unborn())?;
            let open = found.open(&state.form.grid);
            (Arc::clone(&state.form), found.class.definition, open)
        };
        let end = resumable(&open, &definition, &form.policy);
        let step_ms = form.policy.step().as_millis();
        if !step_ms.is_multiple_of(1000) {
            return None;
        }
        let dump = Dump {
            step_s: step_ms / 1000,
            last_update: end.last,
            sources: vec![source(&definition, &end, &form.policy)],
            archives: Vec::new(),
        };
        let archives = (0..form.archives.len())
            .flat_map(|archive| self.rras((&instance, &form), series, archive, &end))
            .collect();
        Some(Dump { archives, ..dump })
    }

    /// One archive of ours is one for each function there; days of a zone are none.
    fn rras(
        &self,
        (instance, form): (&Instance, &Form),
        series: SeriesRef,
        archive: usize,
        end: &Resumed,
    ) -> Vec<Rra> {
        let spec = form.archives[archive];
        if spec.days.is_some() {
            return Vec::new(); // All rows of an archive of rrdtool have one width.
        }
        let steps_per_row = spec.steps_per_row(form.policy.step());
        let (mut rows, of) = self.stored_rows(instance, series.column, archive, None);
        if !std::ptr::eq(Arc::as_ptr(&of), form) {
            rows = Rows::default(); // The archives have changed since the export began.
        }
        if archive > 0 {
            rows.hide_unless_known(&spec, &form.policy, 1);
        }
        let begun = end.newest_row.rem_euclid(i64::from(steps_per_row));
        let open = archive.checked_sub(1).map(|coarser| end.rows[coarser]);
        let newest = self.newest_step(instance, series);
        let count = usize::try_from(spec.row_count).expect("at most 2^24 rows");
        let ring = Ring { rows: &rows, count, short: count.saturating_sub(rows.len()) };
        let functions: &[Function] = match archive {
            0 => &[Function::Average],
            _ if form.policy.keeps_last() => {
                &[Function::Average, Function::Min, Function::Max, Function::Last]
            }
            _ => &[Function::Average, Function::Min, Function::Max],
        };
        let rra = |function: &Function| Rra {
            function: function.clone(),
            steps_per_row: u64::from(steps_per_row),
            xff: form.policy.xff(),
            prepared: vec![prepared(function, open, begun, newest)],
            values: ring.values(function),
        };
        functions.iter().map(rra).collect()
    }

    /// The value of the newest closed step.
    fn newest_step(&self, instance: &Instance, series: SeriesRef) -> f64 {
        let (rows, _) = self.stored_rows(instance, series.column, 0, None);
        rows.average.last().copied().unwrap_or(f64::NAN)
    }
}

/// Where the series stands. A step that silence closed is over there too: rrdtool knows no reading
/// before the end of its newest row.
fn resumable(open: &Open, definition: &Definition, policy: &Policy) -> Resumed {
    let end = open.resumable(definition.kind);
    let opened = Timestamp::row_end(end.newest_row, policy.step());
    if end.last >= opened {
        return end;
    }
    Resumed { last: opened, reading: None, ..end }
}

fn source(definition: &Definition, end: &Resumed, policy: &Policy) -> Source {
    let elapsed_ms = end.last.millis_since(end.last.floor(policy.step())).unsigned_abs();
    let is_known = end.unknown_ms < elapsed_ms;
    Source {
        name: SOURCE.to_owned(),
        kind: SourceKind::Known(definition.kind),
        heartbeat_s: definition.heartbeat_ms.div_ceil(1000).max(1),
        min: if definition.kind == Kind::Total { definition.min.max(0.0) } else { definition.min },
        max: definition.max,
        last_reading: end.reading.map_or_else(|| "U".to_owned(), |last| last.to_string()),
        value: if is_known { end.sum / 1000.0 } else { f64::NAN },
        unknown_s: end.unknown_ms / 1000,
    }
}

fn prepared(function: &Function, open: Option<OpenRow>, begun: i64, newest: f64) -> Prepared {
    let Some(row) = open else { return Prepared { value: f64::NAN, unknown_steps: 0 } };
    let unknown_steps = begun.unsigned_abs().saturating_sub(u64::from(row.known));
    let value = match function {
        Function::Last if begun > 0 => newest,
        _ if row.known == 0 => f64::NAN,
        Function::Min => row.min,
        Function::Max => row.max,
        _ => row.sum,
    };
    Prepared { value, unknown_steps }
}

/// Rows with unknown ones in front, as many as the archive keeps.
struct Ring<'a> {
    rows: &'a Rows,
    count: usize,
    short: usize,
}

impl Ring<'_> {
    fn values(&self, function: &Function) -> Vec<f64> {
        let plane = match function {
            Function::Min => &self.rows.min,
            Function::Max => &self.rows.max,
            Function::Last => &self.rows.last,
            _ => &self.rows.average,
        };
        let mut values = vec![f64::NAN; self.short];
        values.extend(
            plane
                .iter()
                .zip(&self.rows.average)
                .map(|(value, average)| if average.is_nan() { f64::NAN } else { *value }),
        );
        values.truncate(self.count);
        values
    }
}
