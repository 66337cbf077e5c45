//! A cell: the room one stored number takes, and which room a series is given.

use crate::Kind;

/// How a series' numbers are kept in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cell {
    /// 4 bytes, seven digits: enough for a graph and for any rate.
    F32 = 0,
    /// 8 bytes, for numbers whose last digits matter, such as moments in seconds.
    F64 = 1,
}

/// Ends of names whose values are moments, which f32 would round to minutes.
const MOMENTS: [&str; 3] = ["_time_seconds", "_timestamp_seconds", "_expiry"];

/// Every whole number up to here is an f32.
const WHOLE_IN_F32: f64 = 16_777_216.0;

impl Cell {
    /// The cell for a series of this kind and name, whose first reading may be known already.
    pub fn choose(kind: Kind, name: &str, first_reading: Option<f64>, all_f64: bool) -> Self {
        let is_moment = MOMENTS.iter().any(|end| name.ends_with(end));
        // A counter's rows hold rates, however large the count.
        let loses_digits = !kind.is_counter() && first_reading.is_some_and(changes_in_f32);
        if all_f64 || kind == Kind::Unknown || is_moment || loses_digits {
            Self::F64
        } else {
            Self::F32
        }
    }

    /// Bytes one number takes.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// False for a finite number that this cell would turn into an infinite one: it is kept as unknown.
    #[expect(clippy::cast_possible_truncation, reason = "whether it overflows is the question")]
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::F32 => !value.is_finite() || (value as f32).is_finite(),
            Self::F64 => true,
        }
    }

    /// The number as this cell gives it back: readers see the same before and after a round.
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the cell is the purpose")]
    pub(crate) fn kept(self, value: f64) -> f64 {
        match self {
            _ if !self.holds(value) => f64::NAN,
            Self::F32 => f64::from(value as f32),
            Self::F64 => value,
        }
    }

    /// The cell with this number on disk; `None` for a number this program does not know.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::F32),
            1 => Some(Self::F64),
            _ => None,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "what the cast changes is the question")]
fn changes_in_f32(value: f64) -> bool {
    let is_large_whole = value.is_finite() && value.abs() > WHOLE_IN_F32 && value.fract() == 0.0;
    is_large_whole && f64::from(value as f32).to_bits() != value.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_given_the_smallest_cell_that_keeps_its_meaning() {
        use Cell::{F32, F64};
        for (kind, name, first, all_f64, cell) in [
            (Kind::Gauge, "node_load1", None, false, F32),
            (Kind::Gauge, "node_load1", None, true, F64),
            (Kind::Unknown, "node_load1", None, false, F64),
            (Kind::Gauge, "process_start_time_seconds", None, false, F64),
            (Kind::Gauge, "last_success_timestamp_seconds", None, false, F64),
            (Kind::Gauge, "probe_ssl_earliest_cert_expiry", None, false, F64),
            (Kind::Gauge, "time_seconds_total", None, false, F32),
            (Kind::Gauge, "bytes", Some(16_777_216.0), false, F32),
            (Kind::Gauge, "bytes", Some(16_777_217.0), false, F64),
            (Kind::Gauge, "bytes", Some(-16_777_217.0), false, F64),
            (Kind::Gauge, "bytes", Some(16_777_218.0), false, F32),
            (Kind::Gauge, "ratio", Some(123_456_789.5), false, F32),
            (Kind::Gauge, "limit", Some(f64::INFINITY), false, F32),
            (Kind::Total, "bytes_total", Some(16_777_217.0), false, F32),
        ] {
            assert_eq!(Cell::choose(kind, name, first, all_f64), cell, "{kind:?} {name} {first:?}");
        }
    }

    #[test]
    fn a_finite_number_beyond_the_cell_is_not_held() {
        for (value, held) in [
            (3.4e38, true),
            (3.5e38, false),
            (-3.5e38, false),
            (f64::MAX, false),
            (f64::INFINITY, true),
            (f64::NAN, true),
            (1e-300, true),
        ] {
            assert_eq!(Cell::F32.holds(value), held, "{value}");
            assert!(Cell::F64.holds(value), "{value}");
        }
    }

    #[test]
    fn a_cell_has_a_number_on_disk() {
        for cell in [Cell::F32, Cell::F64] {
            assert_eq!(Cell::from_number(cell as u8), Some(cell));
        }
        assert_eq!(Cell::from_number(2), None);
    }
}
