//! Numbers as people read them: units, prefixes, and just enough decimals.

use std::fmt::Write;

/// How large and small numbers are shortened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Never: percentages and bare counts.
    Plain,
    /// By thousands: k, M, G.
    Decimal,
    /// By 1024: Ki, Mi, Gi.
    Binary,
}

/// What a number counts, and how it is shortened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `%`, `B`, `bit/s`; empty for a bare number.
    pub symbol: String,
    /// How it is shortened.
    pub scale: Scale,
}

/// From 1000^-3 to 1000^6; the fourth is the bare number.
const DECIMAL: [&str; 10] = ["n", "µ", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// Labels need at most this many decimals: beyond, f64 has none to give.
const MOST_DECIMALS: usize = 12;

/// A factor and its written prefix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prefix {
    pub(super) factor: f64,
    pub(super) name: &'static str,
}

impl Unit {
    /// A unit of this symbol. Percentages and bare numbers are never shortened.
    pub fn new(symbol: &str, base: u32) -> Self {
        let scale = match (symbol, base) {
            ("" | "%", _) => Scale::Plain,
            (_, 1024) => Scale::Binary,
            _ => Scale::Decimal,
        };
        Self { symbol: symbol.to_owned(), scale }
    }

    /// `value` with its prefix and unit, three digits or so: `1.43 Mbit/s`, `12.3 %`.
    pub fn text(&self, value: f64) -> String {
        let mut prefix = self.prefix(value.abs());
        let mut number = digits(value / prefix.factor);
        // 999.96 k rounds to 1000 k, which reads better as 1.00 M.
        let rounded: f64 = number.parse().unwrap_or(0.0);
        let above = self.prefix(rounded.abs() * prefix.factor);
        if above.factor > prefix.factor {
            prefix = above;
            number = digits(value / prefix.factor);
        }
        let unit = format!("{}{}", prefix.name, self.symbol);
        if unit.is_empty() { number } else { format!("{number} {unit}") }
    }

    /// The label of an axis: its decimals follow the distance of the labels.
    pub(super) fn label(&self, value: f64, distance: f64, prefix: Prefix) -> String {
        let mut text = String::new();
        let number = value / prefix.factor;
        let decimals = decimals_for(distance / prefix.factor);
        write!(text, "{number:.decimals$}").expect("a string takes all");
        // A one-letter unit has room beside each number; a longer one stands once, in the title.
        let unit = if self.symbol.chars().count() == 1 { self.symbol.as_str() } else { "" };
        if value == 0.0 {
            return if unit == "%" { "0 %".to_owned() } else { "0".to_owned() };
        }
        if !prefix.name.is_empty() || !unit.is_empty() {
            write!(text, " {}{unit}", prefix.name).expect("a string takes all");
        }
        text
    }

    /// The prefix for a number of this size.
    pub(super) fn prefix(&self, size: f64) -> Prefix {
        let (base, names, bare): (f64, &[&'static str], i32) = match self.scale {
            Scale::Plain => return Prefix { factor: 1.0, name: "" },
            Scale::Decimal => (1000.0, &DECIMAL, 3),
            Scale::Binary => (1024.0, &BINARY, 0),
        };
        if !(size.is_finite() && size > 0.0) {
            return Prefix { factor: 1.0, name: "" };
        }
        let last = i32::try_from(names.len()).unwrap_or(i32::MAX) - 1;
        let mut power = 0;
        while power < last - bare && size >= base.powi(power + 1) {
            power += 1;
        }
        while power > -bare && size < base.powi(power) {
            power -= 1;
        }
        let name = usize::try_from(power + bare).ok().and_then(|at| names.get(at));
        Prefix { factor: base.powi(power), name: name.copied().unwrap_or("") }
    }
}

/// About three digits, so that a column of them can be compared.
fn digits(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size == 0.0 => return "0".to_owned(),
        _ if size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.1 => 2,
        _ if size >= 0.0005 => 3,
        _ => return if value < 0.0 { "-0.000".to_owned() } else { "0.000".to_owned() },
    };
    format!("{value:.decimals$}")
}

/// How many decimals tell multiples of `distance` apart.
fn decimals_for(distance: f64) -> usize {
    let mut scaled = distance.abs();
    for decimals in 0..MOST_DECIMALS {
        if (scaled - scaled.round()).abs() < scaled * 1e-9 {
            return decimals;
        }
        scaled *= 10.0;
    }
    MOST_DECIMALS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_about_three_digits_and_their_unit() {
        for (value, symbol, base, text) in [
            (0.0, "%", 1000, "0 %"),
            (12.345, "%", 1000, "12.3 %"),
            (12_345.0, "%", 1000, "12345 %"),
            (1_430_000.0, "bit/s", 1000, "1.43 Mbit/s"),
            (999_960.0, "bit/s", 1000, "1.00 Mbit/s"),
            (0.0042, "s", 1000, "4.20 ms"),
            (1023.9, "B", 1024, "1.00 KiB"),
            (3.0 * 1024.0 * 1024.0 * 1024.0, "B", 1024, "3.00 GiB"),
            (0.5, "B/s", 1024, "0.50 B/s"),
            (0.004, "", 1000, "0.004"),
            (0.000_04, "%", 1000, "0.000 %"),
            (-2000.0, "bit/s", 1000, "-2.00 kbit/s"),
        ] {
            assert_eq!(Unit::new(symbol, base).text(value), text, "{value} {symbol}");
        }
    }

    #[test]
    fn labels_have_the_decimals_that_tell_them_apart() {
        for (value, distance, text) in
            [(70.0, 0.001, "70.000 %"), (0.0, 20.0, "0 %"), (2.5, 0.5, "2.5 %")]
        {
            let unit = Unit::new("%", 1000);
            assert_eq!(unit.label(value, distance, unit.prefix(value)), text);
        }
    }
}
