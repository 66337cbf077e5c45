//! A condition on a value: `> 95`, and the hysteresis that ends it.

use std::fmt;
use std::str::FromStr;

/// How a value is compared with a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
    /// `!=`
    Differs,
}

/// Which way is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Larger values are worse.
    Up,
    /// Smaller values are worse.
    Down,
    /// There is no order: equal or not.
    None,
}

/// An operator and the number to the right of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// How the value is compared.
    pub operator: Operator,
    /// With what.
    pub threshold: f64,
}

/// How far inside its threshold an alarm clears when the rule does not say: a tenth.
const DEFAULT_HYSTERESIS: f64 = 0.1;

impl Condition {
    /// True when `value` satisfies the condition. An unknown value (NaN) never does.
    #[expect(clippy::float_cmp, reason = "== and != are what the rule's author wrote")]
    pub fn holds(&self, value: f64) -> bool {
        match self.operator {
            Operator::Above => value > self.threshold,
            Operator::AtLeast => value >= self.threshold,
            Operator::Below => value < self.threshold,
            Operator::AtMost => value <= self.threshold,
            Operator::Equal => value == self.threshold,
            Operator::Differs => value != self.threshold && !value.is_nan(),
        }
    }

    /// Which way is worse, when this condition is the bad one.
    pub(crate) fn direction(&self) -> Direction {
        match self.operator {
            Operator::Above | Operator::AtLeast => Direction::Up,
            Operator::Below | Operator::AtMost => Direction::Down,
            Operator::Equal | Operator::Differs => Direction::None,
        }
    }

    /// The condition that ends this one when the rule names none: a tenth inside the threshold,
    /// or simply no longer true where values have no order.
    pub(crate) fn default_clear(&self) -> Self {
        let margin = self.threshold.abs() * DEFAULT_HYSTERESIS;
        match self.operator {
            // At 0 there is no tenth: the alarm ends when its condition does.
            _ if margin == 0.0 => self.negated(),
            Operator::Above | Operator::AtLeast => {
                Self { operator: Operator::AtMost, threshold: self.threshold - margin }
            }
            Operator::Below | Operator::AtMost => {
                Self { operator: Operator::AtLeast, threshold: self.threshold + margin }
            }
            Operator::Equal | Operator::Differs => self.negated(),
        }
    }

    /// True exactly where this condition is false (unknown values aside).
    fn negated(&self) -> Self {
        let operator = match self.operator {
            Operator::Above => Operator::AtMost,
            Operator::AtLeast => Operator::Below,
            Operator::Below => Operator::AtLeast,
            Operator::AtMost => Operator::Above,
            Operator::Equal => Operator::Differs,
            Operator::Differs => Operator::Equal,
        };
        Self { operator, threshold: self.threshold }
    }
}

/// As a rule writes it: `> 95`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match self.operator {
            Operator::Above => ">",
            Operator::AtLeast => ">=",
            Operator::Below => "<",
            Operator::AtMost => "<=",
            Operator::Equal => "==",
            Operator::Differs => "!=",
        };
        write!(f, "{operator} {}", self.threshold)
    }
}

/// Why a written condition was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a condition; write an operator and a number, such as \"> 80\"")]
pub struct NotACondition(String);

impl FromStr for Condition {
    type Err = NotACondition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || NotACondition(text.to_owned());
        let trimmed = text.trim();
        // Two-letter operators first: ">=" also starts with ">".
        let (operator, number) = [
            (">=", Operator::AtLeast),
            ("<=", Operator::AtMost),
            ("==", Operator::Equal),
            ("!=", Operator::Differs),
            (">", Operator::Above),
            ("<", Operator::Below),
        ]
        .into_iter()
        .find_map(|(sign, operator)| Some((operator, trimmed.strip_prefix(sign)?)))
        .ok_or_else(refused)?;
        let threshold: f64 = number.trim().parse().map_err(|_| refused())?;
        if !threshold.is_finite() {
            return Err(refused());
        }
        Ok(Self { operator, threshold })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(text: &str) -> Condition {
        text.parse().unwrap()
    }

    #[test]
    fn conditions_read_and_print_alike() {
        for (text, printed) in
            [("> 95", "> 95"), (">=0.5", ">= 0.5"), (" < -1 ", "< -1"), ("!= 1e3", "!= 1000")]
        {
            assert_eq!(condition(text).to_string(), printed);
        }
        for bad in ["", "95", "> ", "=> 3", "> NaN", "> inf", "> 9x"] {
            assert!(bad.parse::<Condition>().is_err(), "{bad}");
        }
    }

    #[test]
    fn strict_conditions_exclude_their_threshold_and_unknown_satisfies_none() {
        for (text, value, holds) in [
            ("> 80", 80.0, false),
            (">= 80", 80.0, true),
            ("< 80", 80.0, false),
            ("<= 80", 80.0, true),
            ("!= 80", 81.0, true),
            ("!= 80", f64::NAN, false),
            ("> 80", f64::NAN, false),
        ] {
            assert_eq!(condition(text).holds(value), holds, "{value} {text}");
        }
    }

    #[test]
    fn the_default_clear_lies_a_tenth_inside() {
        for (raise, clear) in [
            ("> 80", "<= 72"),
            ("< 10", ">= 11"),
            ("> -10", "<= -11"),
            ("> 0", "<= 0"),
            ("== 0", "!= 0"),
            ("!= 1", "== 1"),
        ] {
            assert_eq!(condition(raise).default_clear().to_string(), clear, "{raise}");
        }
    }
}
