//! Cells taken apart again for their journey: the server knows a series only where it hears of it
//! every few looks, so an average is said once for each look it stands for.

use rrd::Kind;

use super::record::Piece;
use crate::native::Reading;

/// What is known of a segment's series while it is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Expander {
    series: Vec<(Kind, Option<(i64, f64)>)>,
}

/// The readings that one piece stands for, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Expansion {
    piece: Piece,
    step_ms: u64,
    /// By position in the piece: its kind, and the value at the start of the time it stood.
    starts: Vec<(Kind, Option<f64>)>,
    /// The next reading, and how many there are.
    next: u64,
    count: u64,
}

impl Expander {
    /// Adds a series; its number is how many there were.
    pub(super) fn define(&mut self, kind: Kind) {
        self.series.push((kind, None));
    }

    /// What a piece stands for, where looks are `step_ms` apart.
    pub(super) fn expand(&mut self, piece: Piece, step_ms: u64) -> Expansion {
        let start_ms = i64::try_from(piece.span_ms).ok().and_then(|s| piece.at_ms.checked_sub(s));
        let mut starts = Vec::new();
        for (id, value) in &piece.values {
            let known = usize::try_from(*id).ok().and_then(|at| self.series.get_mut(at));
            let Some((kind, last)) = known else { continue };
            if piece.span_ms > 0 {
                let start = last.filter(|(at_ms, _)| Some(*at_ms) == start_ms);
                starts.push((*kind, start.map(|(_, value)| value)));
            }
            *last = Some((piece.at_ms, *value));
        }
        let count = piece.span_ms.div_ceil(step_ms.max(1)).max(1);
        Expansion { piece, step_ms, starts, next: 1, count }
    }
}

impl Iterator for Expansion {
    type Item = Reading;

    fn next(&mut self) -> Option<Reading> {
        if self.next > self.count {
            return None;
        }
        let steps_left = self.count - self.next;
        self.next += 1;
        if steps_left == 0 && self.piece.span_ms <= self.step_ms {
            let piece = std::mem::take(&mut self.piece);
            return Some(Reading { at_ms: piece.at_ms, values: piece.values });
        }
        // Counted back from the end, which is a look; the first may be shorter.
        let left_ms = i64::try_from(steps_left * self.step_ms).unwrap_or(i64::MAX);
        let values = self.piece.values.iter().zip(&self.starts);
        let values = values.filter_map(|((id, value), (kind, start))| {
            Some((*id, self.value_before(left_ms, *value, (*kind, *start))?))
        });
        Some(Reading { at_ms: self.piece.at_ms.saturating_sub(left_ms), values: values.collect() })
    }
}

impl Expansion {
    /// The value so long before the end; `None` for a counter whose start is not known.
    #[expect(clippy::cast_precision_loss, reason = "times of minutes in milliseconds")]
    fn value_before(&self, left_ms: i64, end: f64, of: (Kind, Option<f64>)) -> Option<f64> {
        let share = 1.0 - left_ms as f64 / self.piece.span_ms as f64;
        match of {
            (Kind::Gauge | Kind::Unknown, _) => Some(end),
            (Kind::Absolute, _) => {
                let first = self.piece.span_ms - (self.count - 1) * self.step_ms;
                let part = if self.next == 2 { first } else { self.step_ms };
                Some(end * part as f64 / self.piece.span_ms as f64)
            }
            _ if left_ms == 0 => Some(end),
            (Kind::Counter | Kind::Derive, Some(start)) => {
                Some((start + (end - start) * share).floor())
            }
            (_, Some(start)) => Some(start + (end - start) * share),
            (_, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(kind: Kind, pieces: &[(i64, u64, f64)]) -> Vec<(i64, f64)> {
        let mut expander = Expander::default();
        expander.define(kind);
        let mut found = Vec::new();
        for (second, span_s, value) in pieces {
            let values = vec![(0, *value)];
            let piece = Piece { at_ms: second * 1000, span_ms: span_s * 1000, values };
            for reading in expander.expand(piece, 10_000) {
                found.extend(reading.values.iter().map(|(_, v)| (reading.at_ms / 1000, *v)));
            }
        }
        found
    }

    #[test]
    fn an_average_is_said_for_each_look() {
        let found = expanded(Kind::Gauge, &[(10, 0, 1.0), (40, 30, 2.0), (55, 15, 3.0)]);
        let expected = [(10, 1.0), (20, 2.0), (30, 2.0), (40, 2.0), (45, 3.0), (55, 3.0)];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_counter_rises_evenly_from_its_last_reading() {
        let found = expanded(Kind::Total, &[(10, 0, 1.0), (40, 30, 7.0), (100, 30, 9.0)]);
        let expected = [(10, 1.0), (20, 3.0), (30, 5.0), (40, 7.0), (100, 9.0)];
        assert_eq!(found, expected, "from an unknown start only the end is known");
        assert_eq!(expanded(Kind::Counter, &[(10, 0, 1.0), (30, 20, 4.0)])[1], (20, 2.0));
    }

    #[test]
    fn counts_since_the_last_reading_keep_their_sum() {
        let found = expanded(Kind::Absolute, &[(10, 0, 1.0), (35, 25, 50.0)]);
        assert_eq!(found, [(10, 1.0), (15, 10.0), (25, 20.0), (35, 20.0)]);
    }
}
