//! The kind of a series: how its readings become a rate.

/// What a reading means (rrdtool's data source type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A level: the reading is the value.
    Gauge = 0,
    /// A whole number that only rises and wraps at 32 or 64 bits.
    Counter = 1,
    /// A whole number that may fall.
    Derive = 2,
    /// A count since the previous reading.
    Absolute = 3,
    /// A rising decimal number, as Prometheus' counters are; a fall is a reset (DDERIVE, min 0).
    Total = 4,
    /// A decimal number that may fall.
    DDerive = 5,
    /// A decimal number that only rises, in either direction of sign (rrdtool's DCOUNTER).
    DCounter = 6,
    /// The sender did not say; kept as a gauge in f64.
    Unknown = 7,
}

impl Kind {
    /// True where rows hold rates and queries may ask for an increase.
    pub const fn is_counter(self) -> bool {
        !matches!(self, Self::Gauge | Self::Unknown)
    }

    /// True where readings are counts that stand for themselves, and can be rebuilt from rates.
    pub(crate) const fn is_count(self) -> bool {
        self.is_counter() && !matches!(self, Self::Absolute)
    }

    /// True where a reading below the one before means that the count began anew.
    pub(crate) const fn tells_resets(self) -> bool {
        matches!(self, Self::Total)
    }

    /// The kind with this number on disk; `None` for a number this program does not know.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Gauge,
            1 => Self::Counter,
            2 => Self::Derive,
            3 => Self::Absolute,
            4 => Self::Total,
            5 => Self::DDerive,
            6 => Self::DCounter,
            7 => Self::Unknown,
            _ => return None,
        })
    }
}
