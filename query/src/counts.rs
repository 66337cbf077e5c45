//! Readings of counters, rebuilt from rows of rates and the raw readings kept near them.

use rrd::{Step, Timestamp};

use crate::archive::Stretch;
use crate::fetch::Held;
use crate::read::{RowParts, Rows, Series};
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
        let (finest, step) = (series.archives[0].step, series.archives[stretch.archive].step);
        let reach = finest.as_millis().saturating_mul(ROWS_A_READING).max(step.as_millis());
        let reach_ms = i64::try_from(reach).unwrap_or(i64::MAX);
        let ends = (from.plus_millis(-reach_ms), until.plus_millis(reach_ms));
        let mut held = self.hold(series, stretch, ends, RowParts::All)?;
        held.readings = Some(rebuilt(&held.rows, step, finest));
        Some(held)
    }
}

/// The count at END of each row: from the nearest reading with neither a gap nor a reset between;
/// NaN where there is none.
fn rebuilt(rows: &Rows, step: Step, finest: Step) -> Vec<f64> {
    let mut counts = vec![f64::NAN; rows.average.len()];
    let mut distance = vec![u32::MAX; rows.average.len()];
    let whole = |row: usize| {
        let known_ms = u64::from(rows.known[row]).saturating_mul(finest.as_millis());
        let began_anew = rows.resets.get(row).copied().unwrap_or(false);
        (!rows.average[row].is_nan() && known_ms >= step.as_millis() && !began_anew)
            .then(|| rows.average[row] * step.as_secs_f64())
    };
    let mut carried: Option<(f64, u32)> = None;
    for row in 0..counts.len() {
        carried = carried.zip(whole(row)).map(|((count, far), more)| (count + more, far + 1));
        if let Some(count) = read_in(rows, row, step) {
            carried = Some((count, 0));
        }
        if let Some((count, far)) = carried {
            (counts[row], distance[row]) = (count, far);
        }
    }
    carried = None;
    for row in (0..counts.len()).rev() {
        if distance[row] == 0 {
            carried = Some((counts[row], 0));
        }
        if let Some((count, far)) = carried.filter(|(_, far)| *far < distance[row]) {
            (counts[row], distance[row]) = (count.max(0.0), far);
        }
        carried = carried.zip(whole(row)).map(|((count, far), more)| (count - more, far + 1));
    }
    counts
}

/// The count at END of a row in which a raw reading was kept, the newest if several.
fn read_in(rows: &Rows, row: usize, step: Step) -> Option<f64> {
    let width_ms = step.as_millis().cast_signed();
    let end = rows.first_end.plus_millis(i64::try_from(row).ok()?.saturating_mul(width_ms));
    let past = rows.anchors.partition_point(|anchor| anchor.at <= end);
    let anchor = rows.anchors.get(past.checked_sub(1)?)?;
    let missing_ms = u64::try_from(end.millis_since(anchor.at)).ok()?;
    if missing_ms >= step.as_millis() {
        return None;
    }
    let Some(missing) = Step::from_millis(missing_ms) else { return Some(anchor.reading) };
    let began_anew = rows.resets.get(row).copied().unwrap_or(false);
    let rate = rows.average[row];
    (!began_anew && !rate.is_nan()).then(|| anchor.reading + rate * missing.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use rrd::Anchor;

    use super::*;

    /// Rows of a minute, the first ending at minute 1; rates a second, `None` unknown.
    fn rows(rates: &[Option<f64>], anchors: &[(i64, f64)], resets: &[usize]) -> Vec<String> {
        let anchor = |&(secs, reading)| Anchor { at: Timestamp::from_secs(secs), reading };
        let rows = Rows {
            first_end: Timestamp::from_secs(60),
            average: rates.iter().map(|rate| rate.unwrap_or(f64::NAN)).collect(),
            known: rates.iter().map(|rate| u32::from(rate.is_some())).collect(),
            anchors: anchors.iter().map(anchor).collect(),
            resets: (0..rates.len()).map(|row| resets.contains(&row)).collect(),
            ..Rows::default()
        };
        let minute = Step::from_secs(60).unwrap();
        rebuilt(&rows, minute, minute).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_count_is_carried_both_ways_from_the_nearest_reading() {
        let one = Some(1.0);
        for (rates, anchors, resets, expected) in [
            (&[one, one, one][..], &[(120, 500.0)][..], &[][..], "440 500 560"),
            (&[one, one, one], &[(90, 500.0)], &[], "470 530 590"),
            (&[one, None, one], &[(60, 7.0)], &[], "7 NaN NaN"),
            (&[one, None, one], &[(180, 100.0)], &[], "NaN 40 100"),
            (&[one, one, one], &[(60, 500.0)], &[1], "500 NaN NaN"),
            (&[one, one, one], &[(60, 500.0), (120, 20.0)], &[1], "500 20 80"),
            (&[one, one], &[], &[], "NaN NaN"),
            (&[one, one], &[(0, 5.0)], &[], "NaN NaN"),
        ] {
            assert_eq!(rows(rates, anchors, resets).join(" "), expected, "{rates:?} {anchors:?}");
        }
    }
}
