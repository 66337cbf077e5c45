//! Coarser cells: what becomes of old readings when the spool is full.
//!
//! Gauges become their average over the time they stood, counters their last reading. A cell ends at
//! a reading, never between two, so that the integral of a gauge and the increase of a counter over
//! any number of whole cells are what they were. Where a series has a gap, ends or begins anew, its
//! readings are kept as they are.

use std::collections::BTreeMap;

use rrd::Kind;

use super::record::Piece;

/// Cells of one minute, then of five.
pub(super) const CELLS_MS: [u64; 2] = [60_000, 300_000];

/// Steps without a reading after which a series is unknown on the server.
const GAP_STEPS: u64 = 3;

/// Puts readings of one segment after the other into cells.
pub(super) struct Coarse {
    cell_ms: i64,
    gap_ms: i64,
    kinds: Vec<Kind>,
    series: Vec<Option<Series>>,
    /// The cell that is being filled: its number counts from 1970.
    cell: i64,
    /// What is ready, by the moment it ends at and the time it stood.
    ready: BTreeMap<(i64, u64), Vec<(u32, f64)>>,
}

/// What is known of a series since the last value that was put out.
#[derive(Clone, Copy)]
struct Series {
    /// When that value was read.
    since_ms: i64,
    /// The last reading.
    last_ms: i64,
    last: f64,
    /// Gauges: value times milliseconds; counts since the previous reading: their sum.
    sum: f64,
}

impl Coarse {
    pub(super) fn new(cell_ms: u64, step_ms: u64) -> Self {
        let gap_ms = i64::try_from(step_ms.saturating_mul(GAP_STEPS)).unwrap_or(i64::MAX);
        Self {
            cell_ms: i64::try_from(cell_ms).expect("one of two constants"),
            gap_ms,
            kinds: Vec::new(),
            series: Vec::new(),
            cell: i64::MIN,
            ready: BTreeMap::new(),
        }
    }

    /// Adds a series; its number is how many there were.
    pub(super) fn define(&mut self, kind: Kind) {
        self.kinds.push(kind);
        self.series.push(None);
    }

    /// Adds readings, in the order they were made; `out` is given what is complete by then.
    pub(super) fn add(&mut self, piece: &Piece, out: &mut impl FnMut(Piece)) {
        // A reading on the boundary ends the cell before it.
        let cell = piece.at_ms.saturating_sub(1).div_euclid(self.cell_ms);
        if cell != self.cell {
            self.finish(out);
            self.cell = cell;
        }
        for (id, value) in &piece.values {
            self.add_one(*id, *value, piece);
        }
    }

    fn add_one(&mut self, id: u32, value: f64, piece: &Piece) {
        let Some(at) = usize::try_from(id).ok().filter(|at| *at < self.kinds.len()) else { return };
        let kind = self.kinds[at];
        let known = self.series[at];
        let goes_on = known.is_some_and(|series| self.goes_on(series, kind, value, piece));
        if let (true, Some(mut series)) = (goes_on, known) {
            series.add(kind, value, piece.at_ms);
            self.series[at] = Some(series);
            return;
        }
        self.put_out(at);
        // With nothing before it that it continues, it stays what it is.
        self.ready.entry((piece.at_ms, piece.span_ms)).or_default().push((id, value));
        self.series[at] = (!value.is_nan()).then(|| Series::after(piece.at_ms, value));
    }

    /// True when the value stood since the series' last reading, and has not begun anew.
    fn goes_on(&self, series: Series, kind: Kind, value: f64, piece: &Piece) -> bool {
        let distance = piece.at_ms.saturating_sub(series.last_ms);
        let span = i64::try_from(piece.span_ms).unwrap_or(i64::MAX);
        let follows = match span {
            0 => (1..=self.gap_ms).contains(&distance),
            span => span == distance,
        };
        let rises = matches!(kind, Kind::Counter | Kind::Total | Kind::DCounter);
        follows && !value.is_nan() && !(rises && value < series.last)
    }

    /// Puts out all that is there: a cell is over, or a segment.
    pub(super) fn finish(&mut self, out: &mut impl FnMut(Piece)) {
        for at in 0..self.series.len() {
            self.put_out(at);
        }
        for ((at_ms, span_ms), values) in std::mem::take(&mut self.ready) {
            out(Piece { at_ms, span_ms, values });
        }
    }

    fn put_out(&mut self, at: usize) {
        let Some(series) = &mut self.series[at] else { return };
        let span_ms = u64::try_from(series.last_ms - series.since_ms).unwrap_or(0);
        if span_ms == 0 {
            return;
        }
        let value = series.value(self.kinds[at], span_ms);
        let id = u32::try_from(at).expect("defined by number");
        self.ready.entry((series.last_ms, span_ms)).or_default().push((id, value));
        *series = Series::after(series.last_ms, series.last);
    }
}

impl Series {
    fn after(at_ms: i64, value: f64) -> Self {
        Self { since_ms: at_ms, last_ms: at_ms, last: value, sum: 0.0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "a distance of minutes in milliseconds")]
    fn add(&mut self, kind: Kind, value: f64, at_ms: i64) {
        self.sum += match kind {
            Kind::Gauge | Kind::Unknown => value * (at_ms - self.last_ms) as f64,
            _ => value,
        };
        (self.last_ms, self.last) = (at_ms, value);
    }

    #[expect(clippy::cast_precision_loss, reason = "a time of minutes in milliseconds")]
    fn value(&self, kind: Kind, span_ms: u64) -> f64 {
        match kind {
            Kind::Gauge | Kind::Unknown => self.sum / span_ms as f64,
            Kind::Absolute => self.sum,
            _ => self.last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings of one series every ten seconds, put into cells of a minute.
    fn cells(kind: Kind, readings: &[(i64, f64)]) -> Vec<(i64, u64, f64)> {
        let mut coarse = Coarse::new(60_000, 10_000);
        coarse.define(kind);
        let mut found = Vec::new();
        let mut out = |piece: Piece| {
            assert_eq!(piece.values.len(), 1);
            found.push((piece.at_ms / 1000, piece.span_ms / 1000, piece.values[0].1));
        };
        for (second, value) in readings {
            let piece = Piece { at_ms: second * 1000, span_ms: 0, values: vec![(0, *value)] };
            coarse.add(&piece, &mut out);
        }
        coarse.finish(&mut out);
        found
    }

    #[test]
    fn a_gauge_becomes_its_average_over_the_time_it_stood() {
        let readings = [(60, 1.0), (70, 2.0), (80, 3.0), (100, 8.0), (120, 3.0), (130, 7.0)];
        // 2 and 3 for ten seconds each, 8 and 3 for twenty.
        let expected = [(60, 0, 1.0), (120, 60, 4.5), (130, 10, 7.0)];
        assert_eq!(cells(Kind::Gauge, &readings), expected);
    }

    #[test]
    fn a_counter_keeps_its_last_reading() {
        let readings = [(55, 1.0), (60, 2.0), (70, 3.0), (120, 9.0), (121, 10.0)];
        let expected = [(55, 0, 1.0), (60, 5, 2.0), (70, 10, 3.0), (120, 0, 9.0), (121, 1, 10.0)];
        assert_eq!(cells(Kind::Total, &readings), expected, "with its gap of fifty seconds");
        let steady = [(60, 2.0), (70, 3.0), (80, 4.0), (110, 8.0), (120, 9.0)];
        assert_eq!(cells(Kind::Total, &steady), [(60, 0, 2.0), (120, 60, 9.0)]);
        assert_eq!(cells(Kind::Absolute, &steady), [(60, 0, 2.0), (120, 60, 24.0)]);
    }

    #[test]
    fn a_counter_that_begins_anew_is_not_hidden_in_a_cell() {
        let readings = [(60, 5.0), (70, 6.0), (80, 1.0), (90, 9.0), (120, 10.0)];
        let expected = [(60, 0, 5.0), (70, 10, 6.0), (80, 0, 1.0), (120, 40, 10.0)];
        assert_eq!(cells(Kind::Total, &readings), expected);
        assert_eq!(cells(Kind::DDerive, &readings), [(60, 0, 5.0), (120, 60, 10.0)]);
    }

    #[test]
    fn the_end_of_a_series_stays_where_it_was() {
        let readings = [(60, 5.0), (70, 6.0), (80, f64::NAN), (110, 7.0), (120, 8.0)];
        let mut found = cells(Kind::Gauge, &readings);
        assert!(found.remove(2).2.is_nan());
        assert_eq!(found, [(60, 0, 5.0), (70, 10, 6.0), (110, 0, 7.0), (120, 10, 8.0)]);
    }

    #[test]
    fn cells_of_a_minute_become_cells_of_five() {
        let mut coarse = Coarse::new(300_000, 10_000);
        coarse.define(Kind::Gauge);
        let mut found = Vec::new();
        let mut out = |piece: Piece| found.push(piece);
        let piece = |minute: i64, span_ms, value| Piece {
            at_ms: minute * 60_000,
            span_ms,
            values: vec![(0, value)],
        };
        for minute in 0..=7 {
            let span_ms = if minute == 0 { 0 } else { 60_000 };
            coarse
                .add(&piece(minute, span_ms, f64::from(i32::try_from(minute).unwrap())), &mut out);
        }
        coarse.finish(&mut out);
        assert_eq!(found, [piece(0, 0, 0.0), piece(5, 300_000, 3.0), piece(7, 120_000, 6.5)]);
    }
}
