//! A reading: one raw number, and the rate it makes with the one before.

use super::open::ENDED;
use super::{Definition, Head};
use crate::Kind;

/// What a sender read. Whole numbers come apart from f64 where their last digits count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    /// NaN is a marker: nothing was read.
    Real(f64),
    /// A number of any sign; counts of more than 64 bits are unknown.
    Whole(i128),
}

/// 2^32: what a counter of 32 bits has lost when it wraps.
const WRAP_32: i128 = 1 << 32;
/// 2^64: what a counter of 64 bits has lost when it wraps.
const WRAP_64: i128 = 1 << 64;
const WRAP_64_REAL: f64 = 18_446_744_073_709_551_616.0;

/// Beyond it finite rates are unknown, so that no sum of rate and time overflows to infinity.
pub(super) const LARGEST_RATE: f64 = 1e290;

impl Reading {
    /// True for NaN, which ends the series until its next reading.
    #[inline]
    pub(super) fn is_marker(self) -> bool {
        matches!(self, Self::Real(value) if value.is_nan())
    }

    #[inline]
    pub(super) fn real(self) -> f64 {
        match self {
            Self::Real(value) => value,
            Self::Whole(value) => whole_as_real(value),
        }
    }

    /// The reading as a count of at most 64 bits and a sign; `None` for a fraction.
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and within 64 bits")]
    fn whole(self) -> Option<i128> {
        let value = match self {
            Self::Whole(value) => value,
            Self::Real(value) if value.fract() == 0.0 && value.abs() < WRAP_64_REAL => {
                value as i128
            }
            Self::Real(_) => return None,
        };
        (-WRAP_64 < value && value < WRAP_64).then_some(value)
    }
}

impl Head {
    /// The rate per second since the previous reading, `NaN` when unknown; remembers this reading.
    #[inline]
    pub(super) fn rate(
        &mut self,
        definition: &Definition,
        reading: Reading,
        elapsed_ms: u64,
        is_gap: bool,
    ) -> f64 {
        let rate = match definition.kind {
            Kind::Gauge | Kind::Unknown => {
                let value = reading.real();
                self.remember_real(value);
                value
            }
            Kind::Total => per_second(self.total_rise(reading.real()), elapsed_ms),
            kind => per_second(self.other_rise(kind, reading), elapsed_ms),
        };
        let rate = definition.counted(rate);
        if is_gap { f64::NAN } else { rate }
    }

    /// What was added to a count that only rises; `NaN` where that cannot be known. Remembers it.
    #[inline]
    fn total_rise(&mut self, value: f64) -> f64 {
        let rise = value - self.previous_real();
        if rise >= 0.0 && self.flags & ENDED == 0 {
            self.remember_real(value);
            rise.abs() // Not -0.0: in the file a sign is a reset.
        } else {
            self.no_rise(value)
        }
    }

    /// What was added, for kinds that Prometheus has not; remembers the reading. Apart from the others, so
    /// that those are short.
    #[inline(never)]
    fn other_rise(&mut self, kind: Kind, reading: Reading) -> f64 {
        if matches!(kind, Kind::Counter | Kind::Derive) {
            let value = reading.whole().filter(|&v| v >= 0 || kind == Kind::Derive);
            let rise = whole_rise(kind, self.previous_whole(), value);
            self.remember_whole(value);
            return rise;
        }
        let value = reading.real();
        let rise = match kind {
            Kind::Absolute => value,
            kind => rise(kind, self.previous_real(), value),
        };
        self.remember_real(value);
        rise
    }

    /// The first count, one after a marker, one that fell, or a marker. That leaves the reading: it is not
    /// subtracted from the next, but tells whether that fell.
    #[cold]
    fn no_rise(&mut self, value: f64) -> f64 {
        if value < self.previous_real() {
            self.resets.fall();
        }
        if !value.is_nan() {
            self.remember_real(value);
        }
        f64::NAN
    }
}

impl Definition {
    /// The rate, unknown where it is outside the limits.
    #[inline]
    pub(super) fn counted(&self, rate: f64) -> f64 {
        let is_outside = rate < self.min || rate > self.max;
        let is_too_large = rate.abs() > LARGEST_RATE && rate.is_finite();
        if is_outside | is_too_large { f64::NAN } else { rate }
    }
}

/// Apart, so that nobody else waits for the conversion: compilers work it out for every reading.
#[cold]
#[inline(never)]
#[expect(clippy::cast_precision_loss, reason = "a gauge is kept as f64, whatever was sent")]
fn whole_as_real(value: i128) -> f64 {
    value as f64
}

/// What was added between two decimal readings; `NaN` where that cannot be known.
#[inline]
fn rise(kind: Kind, previous: f64, value: f64) -> f64 {
    let rise = value - previous;
    let is_reset = match kind {
        Kind::DCounter => (value > 0.0 && rise < 0.0) || (value < 0.0 && rise > 0.0),
        _ => false,
    };
    if is_reset { f64::NAN } else { rise }
}

/// What was added between two whole readings, exactly; a counter that fell has wrapped.
#[expect(clippy::cast_precision_loss, reason = "the difference is exact, its rate need not be")]
fn whole_rise(kind: Kind, previous: Option<i128>, value: Option<i128>) -> f64 {
    let (Some(previous), Some(value)) = (previous, value) else { return f64::NAN };
    let mut rise = value - previous;
    if kind == Kind::Counter && rise < 0 {
        rise += if rise + WRAP_32 >= 0 { WRAP_32 } else { WRAP_64 };
    }
    rise as f64
}

#[inline]
#[expect(clippy::cast_precision_loss, reason = "exact below 285,000 years")]
pub(super) fn per_second(amount: f64, elapsed_ms: u64) -> f64 {
    amount * 1000.0 / elapsed_ms as f64
}
