//! What a query answers.

use rrd::{Labels, Step, Timestamp};

/// What a query answers, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The result.
    pub value: Value,
    /// What the asker should know about it: one sentence each, no two alike.
    pub warnings: Vec<String>,
    /// Which row steps answered, finest first; empty when no stored row was read.
    pub resolutions: Vec<Resolution>,
}

/// The stretch of asked moments (after `offset` and `@`) that rows of one step answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Width of the rows.
    pub step: Step,
    /// The first moment they answered.
    pub first: Timestamp,
    /// The last moment they answered.
    pub last: Timestamp,
}

/// The four shapes of a PromQL result.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number, of an instant query.
    Scalar {
        /// The asked moment.
        at: Timestamp,
        /// The number.
        value: f64,
    },
    /// A string, of an instant query.
    Text(String),
    /// One value of each series at the asked moment.
    Vector(Vec<Point>),
    /// Values of each series over time: of a range query, or of a bare range selector.
    Matrix(Vec<Line>),
}

/// One series' value at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// What names the series.
    pub labels: Labels,
    /// The asked moment.
    pub at: Timestamp,
    /// Its value; NaN is a value here, an absent series has no point.
    pub value: f64,
}

/// One series' values, oldest first; moments at which it is absent are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What names the series.
    pub labels: Labels,
    /// Moment and value.
    pub points: Vec<(Timestamp, f64)>,
}
