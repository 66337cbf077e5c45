//! Faults of a page: what is wrong with a line, for the person who has to put the exporter right.

use thiserror::Error;

/// Faults listed of one page: enough to find what is wrong, small enough to log.
const SHOWN: usize = 20;

/// What is wrong with a line, or with the page as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Fault {
    #[error("the line has no metric name; begin it with one")]
    NoName,
    #[error("the metric name begins with a digit; quote it or rename the metric")]
    Name,
    #[error("the metric is named twice; name it before the braces or inside")]
    TwoNames,
    #[error("a label's name is missing or holds what only a quoted one may; quote it")]
    LabelName,
    #[error("a label has no '='; write name=\"value\"")]
    NoEquals,
    #[error("a label's value is not quoted; write name=\"value\"")]
    NoQuote,
    #[error("a quote is not closed; escape quotes and backslashes inside values")]
    OpenQuote,
    #[error("the braces are not closed; write {{name=\"value\"}}")]
    OpenBrace,
    #[error("labels are not separated by one comma each; write a=\"1\",b=\"2\"")]
    Comma,
    #[error("the line has no value; write it behind the name, after a blank")]
    NoValue,
    #[error("{0:?} is no number; write a decimal number, NaN, +Inf or -Inf")]
    Value(String),
    #[error("{0:?} is no timestamp; write whole milliseconds since 1970 or leave it out")]
    Timestamp(String),
    #[error("{0:?} is no timestamp; write seconds since 1970 or leave it out")]
    Seconds(String),
    #[error("something follows the sample; end the line there")]
    Trailing,
    #[error("the exemplar cannot be read; write # {{name=\"value\"}} and its value")]
    Exemplar,
    #[error("OpenMetrics takes one space between the parts of a line and none elsewhere")]
    Blanks,
    #[error("the line is not UTF-8; send UTF-8")]
    NotUtf8,
    #[error("the line has {0} bytes, over the limit of {limit}; shorten it", limit = super::LINE_LIMIT)]
    LongLine(usize),
    #[error("{0:?} is no type of a metric; write counter, gauge, histogram, summary or untyped")]
    Type(String),
    #[error("the TYPE line has no name and type; write # TYPE name type")]
    TypeLine,
    #[error("metric {0} has two TYPE lines; leave one")]
    TwoTypes(String),
    #[error("the page holds more than {0} samples; those beyond are left out")]
    Samples(usize),
    #[error("the page has {size} bytes, over the limit of {limit}; split the exporter")]
    Size { size: usize, limit: usize },
    /// A rule of `OpenMetrics` that has no place of its own here.
    #[error("OpenMetrics: {0}")]
    Rule(String),
}

impl Fault {
    pub(super) fn rule(rule: impl Into<String>) -> Self {
        Self::Rule(rule.into())
    }
}

/// A fault and the line it is on, counted from 1; line 0 is the page as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {fault}")]
pub(crate) struct LineFault {
    pub(crate) line: usize,
    pub(crate) fault: Fault,
}

/// The faults of one page: all are counted, the first few kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    shown: Vec<LineFault>,
    count: usize,
}

impl Faults {
    pub(super) fn add(&mut self, line: usize, fault: Fault) {
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(LineFault { line, fault });
        }
    }

    pub(crate) fn first(&self) -> Option<&LineFault> {
        self.shown.first()
    }

    /// Lines with a fault.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    #[cfg(test)]
    pub(crate) fn shown(&self) -> &[LineFault] {
        &self.shown
    }
}
