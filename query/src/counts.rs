//! Readings of counters, rebuilt from rows of rates and the raw readings kept near them.

use rrd::Timestamp;

use crate::archive::Stretch;
use crate::fetch::Held;
use crate::read::{RowParts, Series};
use crate::sweep::Looker;

/// A raw reading is kept for each run of so many finest rows.
const ROWS_A_READING: u64 = 64;

impl Looker<'_> {
    /// As [`Looker::hold`], with the counter's reading at END of each row. More rows are read on
    /// either side, as far as the nearest raw readings may lie.
    pub(crate) fn hold_readings(
        &mut self,
        series: &Series,
        stretch: &Stretch,
        (from, until): (Timestamp, Timestamp),
    ) -> Option<Held> {
        let (finest, shape) = (series.archives[0].step, series.archives[stretch.archive]);
        let reach = finest.as_millis().saturating_mul(ROWS_A_READING).max(shape.step.as_millis());
        let reach_ms = i64::try_from(reach).unwrap_or(i64::MAX);
        let ends = (from.plus_millis(-reach_ms), until.plus_millis(reach_ms));
        let mut held = self.hold(series, stretch, ends, RowParts::All)?;
        let steps_per_row = u32::try_from(shape.step.as_millis() / finest.as_millis()).ok()?;
        held.readings = Some(match shape.days {
            None => held.rows.counts(shape.step, steps_per_row),
            // Days of a zone have no width in common by which a rate becomes an increase.
            Some(_) => vec![f64::NAN; held.rows.len()],
        });
        Some(held)
    }
}
