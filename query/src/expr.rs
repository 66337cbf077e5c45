//! An expression: PromQL that was read, checked and planned once, to be evaluated many times.

use promql_parser::parser::Expr as Tree;
use rrd::{Matcher, Timestamp};

use crate::evaluate::Run;
use crate::moments::{Moments, Range};
use crate::plan::Plan;
use crate::{Answer, Error, Limits, Options, Read, lower, parse};

/// A query ready to be evaluated. Cheap to keep; evaluation needs neither time nor text.
#[derive(Clone, Debug)]
pub struct Expr {
    text: String,
    plan: Plan,
}

impl Expr {
    /// Reads PromQL of at most 16 KiB, nested at most 100 deep. Errors with the place when it is
    /// not PromQL, and by name when this program does not evaluate a part of it.
    ///
    /// ```
    /// let expr = query::Expr::parse("sum by (zone) (rate(http_requests_total[5m]))").unwrap();
    /// assert!(query::Expr::parse("sum(").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, Error> {
        let tree = parse::parse(text)?;
        Ok(Self { text: text.to_owned(), plan: lower::plan(&tree)? })
    }

    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The answer at one moment.
    pub fn instant(
        &self,
        read: &dyn Read,
        at: Timestamp,
        limits: &Limits,
    ) -> Result<Answer, Error> {
        Run::of(read, Moments::one(at), limits).instant(&self.plan)
    }

    /// The answer at each moment of a range, always as lines.
    pub fn range(&self, read: &dyn Read, range: Range, limits: &Limits) -> Result<Answer, Error> {
        self.range_with(read, range, limits, Options::default())
    }

    /// The answer at each moment of a range, answered as `options` ask.
    pub fn range_with(
        &self,
        read: &dyn Read,
        range: Range,
        limits: &Limits,
        options: Options,
    ) -> Result<Answer, Error> {
        let mut run = Run::of(read, Moments::of(range, limits)?, limits);
        run.last = range.end;
        run.widest = options.coarse.then_some(range.step);
        run.range(&self.plan)
    }
}

/// The matchers of a bare selector, as in `match[]` of the HTTP API; under the same bounds as
/// [`Expr::parse`].
///
/// ```
/// assert_eq!(query::matchers("up{job=\"node\"}").unwrap().len(), 2);
/// assert!(query::matchers("sum(up)").is_err());
/// ```
pub fn matchers(text: &str) -> Result<Vec<Matcher>, Error> {
    match parse::parse(text)? {
        Tree::VectorSelector(of) if of.offset.is_none() && of.at.is_none() => {
            lower::selector(&of).map(|selector| selector.matchers)
        }
        _ => Err(Error::parse("a bare selector is expected, as up{job=\"node\"}")),
    }
}
