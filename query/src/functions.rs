//! Functions of one number: the mathematics of PromQL, and the parts of a date.

use crate::dates::DATES;

/// A function that takes each value to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map(pub(crate) OfOne);

/// `-v`, which has no name to look up.
pub(crate) const NEGATE: Map = Map(|value| -value);

pub(crate) type OfOne = fn(f64) -> f64;

const MAPS: &[(&str, OfOne)] = &[
    ("abs", f64::abs),
    ("acos", f64::acos),
    ("acosh", f64::acosh),
    ("asin", f64::asin),
    ("asinh", f64::asinh),
    ("atan", f64::atan),
    ("atanh", f64::atanh),
    ("ceil", f64::ceil),
    ("cos", f64::cos),
    ("cosh", f64::cosh),
    ("deg", f64::to_degrees),
    ("exp", f64::exp),
    ("floor", f64::floor),
    ("ln", f64::ln),
    ("log10", f64::log10),
    ("log2", f64::log2),
    ("rad", f64::to_radians),
    ("sgn", sign),
    ("sin", f64::sin),
    ("sinh", f64::sinh),
    ("sqrt", f64::sqrt),
    ("tan", f64::tan),
    ("tanh", f64::tanh),
];

/// The function called `name`, if it is one of these.
pub(crate) fn map(name: &str) -> Option<Map> {
    all().find(|(known, _)| *known == name).map(|(_, function)| Map(*function))
}

/// The names of these functions.
pub(crate) fn map_names() -> impl Iterator<Item = &'static str> {
    all().map(|(name, _)| *name)
}

fn all() -> impl Iterator<Item = &'static (&'static str, OfOne)> {
    MAPS.iter().chain(DATES)
}

fn sign(value: f64) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        value
    }
}

/// `clamp(v, min, max)`; NaN when either bound is NaN.
pub(crate) fn clamp(value: f64, min: f64, max: f64) -> f64 {
    if min.is_nan() || max.is_nan() || value.is_nan() {
        return f64::NAN;
    }
    min.max(value.min(max))
}

/// `round(v, to)`: the nearest multiple of `to`, halves upwards, as Prometheus computes it.
pub(crate) fn round(value: f64, to: f64) -> f64 {
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_upwards_to_the_given_multiple() {
        for (value, to, expected) in [(2.5, 1.0, 3.0), (-2.5, 1.0, -2.0), (7.0, 5.0, 5.0)] {
            assert_eq!(round(value, to).to_bits(), f64::to_bits(expected), "{value} to {to}");
        }
    }

    #[test]
    fn a_sign_is_minus_one_zero_or_one_and_nan_stays() {
        let sgn = map("sgn").unwrap().0;
        assert_eq!((sgn(-3.0), sgn(0.0), sgn(9.0)), (-1.0, 0.0, 1.0));
        assert!(sgn(f64::NAN).is_nan());
        assert!(map("round").is_none());
    }
}
