//! Operators between two numbers.

/// An operator that takes two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Math(Math),
    Compare(Compare),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Math {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
}

/// A comparison: a filter, or with `bool` 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compare {
    pub(crate) relation: Relation,
    pub(crate) as_bool: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

impl Math {
    pub(crate) fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Modulo => left % right,
            Self::Power => left.powf(right),
            Self::Atan2 => left.atan2(right),
        }
    }
}

impl Relation {
    #[expect(clippy::float_cmp, reason = "PromQL compares exactly")]
    pub(crate) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::Less => left < right,
            Self::GreaterOrEqual => left >= right,
            Self::LessOrEqual => left <= right,
        }
    }
}

impl Operator {
    /// The result; `None` when a filter drops the element. A filter that holds answers `kept`.
    pub(crate) fn apply(self, left: f64, right: f64, kept: f64) -> Option<f64> {
        match self {
            Self::Math(math) => Some(math.apply(left, right)),
            Self::Compare(Compare { relation, as_bool: true }) => {
                Some(f64::from(u8::from(relation.holds(left, right))))
            }
            Self::Compare(Compare { relation, as_bool: false }) => {
                relation.holds(left, right).then_some(kept)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_keeps_or_drops_and_bool_answers_a_number() {
        let less = |as_bool| Operator::Compare(Compare { relation: Relation::Less, as_bool });
        assert_eq!(less(false).apply(1.0, 2.0, 1.0), Some(1.0));
        assert_eq!(less(false).apply(2.0, 1.0, 2.0), None);
        assert_eq!(less(true).apply(2.0, 1.0, 2.0), Some(0.0));
        assert_eq!(less(false).apply(f64::NAN, 1.0, 0.0), None);
    }

    #[test]
    fn modulo_takes_the_sign_of_the_dividend() {
        assert_eq!(Math::Modulo.apply(-5.0, 3.0).to_bits(), (-2.0_f64).to_bits());
    }
}
