//! The typed plan of a query: what is to be computed, with every type already settled.

use rrd::{Labels, Matcher, Step, Timestamp};

use crate::functions::Map;
use crate::operators::{Compare, Operator};
use crate::relabel::{Join, Replace};
use crate::window::Over;

/// A whole query, by the type of its result.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Scalar(Scalar),
    Vector(Vector),
    /// A bare range selector or subquery: the rows themselves.
    Rows(Ranged),
    Text(String),
}

/// One number at each moment.
#[derive(Clone, Debug)]
pub(crate) enum Scalar {
    Number(f64),
    Time,
    Negate(Box<Scalar>),
    Binary {
        op: Operator,
        left: Box<Scalar>,
        right: Box<Scalar>,
    },
    /// `scalar(v)`: the value of the only element, NaN when there is not exactly one.
    Only(Box<Vector>),
}

/// A set of series at each moment.
#[derive(Clone, Debug)]
pub(crate) enum Vector {
    Select {
        selector: Selector,
        wanted: Wanted,
    },
    Over {
        function: Over,
        parameters: Vec<Scalar>,
        of: Ranged,
    },
    /// `vector(s)`
    Of(Box<Scalar>),
    Map {
        function: Map,
        of: Box<Vector>,
    },
    Clamp {
        of: Box<Vector>,
        min: Option<Scalar>,
        max: Option<Scalar>,
    },
    Round {
        of: Box<Vector>,
        to: Scalar,
    },
    /// `timestamp` of something computed: the asked moment.
    Stamp(Box<Vector>),
    Absent {
        labels: Labels,
        of: Box<Vector>,
    },
    Sort {
        of: Box<Vector>,
        descending: bool,
    },
    SortByLabel {
        of: Box<Vector>,
        labels: Vec<String>,
        descending: bool,
    },
    Replace {
        replace: Replace,
        of: Box<Vector>,
    },
    Join {
        join: Join,
        of: Box<Vector>,
    },
    Buckets {
        ask: OfBuckets,
        of: Box<Vector>,
    },
    Aggregate {
        function: Aggregate,
        grouping: Names,
        of: Box<Vector>,
    },
    WithScalar {
        op: Operator,
        vector: Box<Vector>,
        scalar: Scalar,
        scalar_first: bool,
    },
    Match {
        op: Operator,
        matching: Matching,
        left: Box<Vector>,
        right: Box<Vector>,
    },
    Set {
        op: SetOperator,
        on: Names,
        left: Box<Vector>,
        right: Box<Vector>,
    },
}

/// What an instant selector is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The value.
    Value,
    /// END of the row that answers, in seconds: `timestamp()`.
    End,
    /// Only whether there is one: `absent`, `count` and `group` need no more, and a counter,
    /// whose raw value is not known, still counts.
    Presence,
}

/// Which series, and how their time is shifted.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) shift: Shift,
}

/// `offset` and `@`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shift {
    pub(crate) offset_ms: i64,
    pub(crate) at: Option<At>,
}

/// What a function of a window looks back on.
#[derive(Clone, Debug)]
pub(crate) enum Ranged {
    Rows(Selector, Window),
    Subquery(Box<Subquery>),
}

/// `of[width:step]`
#[derive(Clone, Debug)]
pub(crate) struct Subquery {
    pub(crate) of: Vector,
    /// Never 0.
    pub(crate) width_ms: i64,
    pub(crate) step: Step,
    pub(crate) shift: Shift,
}

/// What is asked of the buckets of a histogram.
#[derive(Clone, Debug)]
pub(crate) enum OfBuckets {
    /// The value that this share of all observations does not exceed.
    Quantile(Scalar),
    /// The share of observations between two values.
    Fraction(Scalar, Scalar),
}

/// How far back a range selector looks, in milliseconds; never 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) width_ms: i64,
}

/// `@`
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    Moment(Timestamp),
    Start,
    End,
}

/// A choice among label names: `by`/`on`, or `without`/`ignoring`.
#[derive(Clone, Debug)]
pub(crate) enum Names {
    Only(Vec<String>),
    /// All but these and the metric name.
    Without(Vec<String>),
}

impl Names {
    /// The labels of `labels` that are chosen.
    pub(crate) fn chosen<'a>(
        &'a self,
        labels: &'a Labels,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        labels.iter().filter(move |(label, _)| match self {
            Self::Only(names) => names.iter().any(|n| n == label),
            Self::Without(names) => *label != rrd::NAME && !names.iter().any(|n| n == label),
        })
    }

    pub(crate) fn choose(&self, labels: &Labels) -> Labels {
        match self {
            Self::Only(names) if names.is_empty() => Labels::default(),
            Self::Only(names) => labels.filtered(|label| names.iter().any(|n| n == label)),
            Self::Without(names) => {
                labels.filtered(|label| label != rrd::NAME && !names.iter().any(|n| n == label))
            }
        }
    }
}

/// How the elements of a group become one, or which of them stay.
#[derive(Clone, Debug)]
pub(crate) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
    Count,
    Group,
    StandardVariance,
    StandardDeviation,
    Quantile(Scalar),
    /// `count_values`, with the label that takes the value.
    Values(String),
    /// `topk` and `bottomk`.
    Extreme {
        count: Scalar,
        largest: bool,
    },
}

/// How elements of two vectors find each other.
#[derive(Clone, Debug)]
pub(crate) struct Matching {
    pub(crate) on: Names,
    pub(crate) cardinality: Cardinality,
}

/// How many elements of each side may meet.
#[derive(Clone, Debug)]
pub(crate) enum Cardinality {
    OneToOne,
    /// `group_left`, `group_right`: the side that may repeat, and the labels it takes from the
    /// other.
    Grouped {
        many: Side,
        include: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetOperator {
    And,
    Or,
    Unless,
}

impl Operator {
    /// True when results keep no metric name: all but filters.
    pub(crate) const fn drops_name(self) -> bool {
        !matches!(self, Self::Compare(Compare { as_bool: false, .. }))
    }
}
