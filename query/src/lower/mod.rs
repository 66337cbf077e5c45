//! Syntax tree to typed plan; what this program does not evaluate is refused here, by name.

mod binary;
mod call;

use std::time::{Duration, SystemTime};

use promql_parser::label::{MatchOp as TreeOp, Matchers};
use promql_parser::parser::{
    AtModifier, Expr as Tree, MatrixSelector, Offset, SubqueryExpr, VectorSelector,
};
use rrd::{MatchOp, Matcher, NAME, Step, Timestamp};

use crate::functions::NEGATE;
use crate::plan::{At, Plan, Ranged, Scalar, Selector, Shift, Subquery, Vector, Wanted, Window};
use crate::{Error, functions, window};

/// The step of a subquery that names none: Prometheus takes its usual interval of evaluation.
const USUAL_STEP_MS: i64 = 60_000;

/// The plan of a whole query.
pub(crate) fn plan(tree: &Tree) -> Result<Plan, Error> {
    match tree {
        Tree::NumberLiteral(number) => Ok(Plan::Scalar(Scalar::Number(number.val))),
        Tree::StringLiteral(text) => Ok(Plan::Text(text.val.clone())),
        Tree::Paren(inner) => plan(&inner.expr),
        Tree::Unary(inner) => negate(plan(&inner.expr)?),
        Tree::VectorSelector(of) => {
            let selector = selector(of)?;
            Ok(Plan::Vector(Vector::Select { selector, wanted: Wanted::Value }))
        }
        Tree::MatrixSelector(of) => {
            let (selector, window) = rows(of)?;
            Ok(Plan::Rows(Ranged::Rows(selector, window)))
        }
        Tree::Call(call) => call::call(call),
        Tree::Aggregate(of) => call::aggregate(of).map(Plan::Vector),
        Tree::Binary(of) => binary::binary(of),
        Tree::Subquery(of) => Ok(Plan::Rows(Ranged::Subquery(Box::new(subquery(of)?)))),
        Tree::Extension(_) => Err(Error::parse("unknown kind of expression")),
    }
}

/// The plan of an argument that must be a vector.
pub(crate) fn vector(tree: &Tree) -> Result<Vector, Error> {
    match plan(tree)? {
        Plan::Vector(vector) => Ok(vector),
        other => Err(mistyped("instant vector", &other)),
    }
}

/// The plan of an argument that must be a scalar.
pub(crate) fn scalar(tree: &Tree) -> Result<Scalar, Error> {
    match plan(tree)? {
        Plan::Scalar(scalar) => Ok(scalar),
        other => Err(mistyped("scalar", &other)),
    }
}

/// The plan of an argument that must be a range selector or a subquery.
pub(crate) fn range(tree: &Tree) -> Result<Ranged, Error> {
    match plan(tree)? {
        Plan::Rows(ranged) => Ok(ranged),
        other => Err(mistyped("range vector", &other)),
    }
}

/// An argument that must be a string.
pub(crate) fn text(tree: &Tree) -> Result<String, Error> {
    match plan(tree)? {
        Plan::Text(text) => Ok(text),
        other => Err(mistyped("string", &other)),
    }
}

fn mistyped(expected: &str, found: &Plan) -> Error {
    let found = match found {
        Plan::Scalar(_) => "scalar",
        Plan::Vector(_) => "instant vector",
        Plan::Rows(_) => "range vector",
        Plan::Text(_) => "string",
    };
    Error::parse(format!("expected type {expected}, got {found}"))
}

fn negate(plan: Plan) -> Result<Plan, Error> {
    match plan {
        Plan::Scalar(scalar) => Ok(Plan::Scalar(Scalar::Negate(Box::new(scalar)))),
        Plan::Vector(of) => Ok(Plan::Vector(Vector::Map { function: NEGATE, of: Box::new(of) })),
        other => Err(mistyped("scalar or instant vector", &other)),
    }
}

fn rows(tree: &MatrixSelector) -> Result<(Selector, Window), Error> {
    let width_ms = width_ms(tree.range)?;
    Ok((selector(&tree.vs)?, Window { width_ms }))
}

fn subquery(tree: &SubqueryExpr) -> Result<Subquery, Error> {
    let step = match tree.step {
        None => u64::try_from(USUAL_STEP_MS).ok(),
        Some(step) => u64::try_from(width_ms(step)?).ok(),
    };
    Ok(Subquery {
        of: vector(&tree.expr)?,
        width_ms: width_ms(tree.range)?,
        step: step.and_then(Step::from_millis).ok_or_else(|| Error::parse("step out of range"))?,
        shift: shift(tree.offset.as_ref(), tree.at.as_ref())?,
    })
}

fn width_ms(width: Duration) -> Result<i64, Error> {
    match millis(width)? {
        0 => Err(Error::parse("duration must be greater than 0")),
        millis => Ok(millis),
    }
}

/// What a selector chooses.
pub(crate) fn selector(tree: &VectorSelector) -> Result<Selector, Error> {
    let mut matchers = matchers(&tree.matchers)?;
    if let Some(name) = &tree.name {
        matchers.insert(0, matcher(NAME, MatchOp::Equal, name)?);
    }
    Ok(Selector { matchers, shift: shift(tree.offset.as_ref(), tree.at.as_ref())? })
}

fn shift(offset: Option<&Offset>, at: Option<&AtModifier>) -> Result<Shift, Error> {
    let offset_ms = match offset {
        None => 0,
        Some(Offset::Pos(by)) => millis(*by)?,
        Some(Offset::Neg(by)) => -millis(*by)?,
    };
    Ok(Shift { offset_ms, at: at.map(moment_of) })
}

fn matchers(tree: &Matchers) -> Result<Vec<Matcher>, Error> {
    if !tree.or_matchers.is_empty() {
        return Err(Error::unsupported("\"or\" between matchers", "\",\" between matchers"));
    }
    let one = |m: &promql_parser::label::Matcher| match &m.op {
        TreeOp::Equal => matcher(&m.name, MatchOp::Equal, &m.value),
        TreeOp::NotEqual => matcher(&m.name, MatchOp::NotEqual, &m.value),
        TreeOp::Re(pattern) => matcher(&m.name, MatchOp::Regex, bare(pattern.as_str())),
        TreeOp::NotRe(pattern) => matcher(&m.name, MatchOp::NotRegex, bare(pattern.as_str())),
    };
    tree.matchers.iter().map(one).collect()
}

/// The pattern without the parser's own anchors; the parser also mends what Go would accept.
fn bare(pattern: &str) -> &str {
    pattern.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(pattern)
}

fn matcher(name: &str, op: MatchOp, value: &str) -> Result<Matcher, Error> {
    Matcher::new(name, op, value).map_err(|why| Error::parse(why.to_string()))
}

fn moment_of(tree: &AtModifier) -> At {
    match tree {
        AtModifier::Start => At::Start,
        AtModifier::End => At::End,
        AtModifier::At(time) => At::Moment(moment(*time)),
    }
}

fn moment(time: SystemTime) -> Timestamp {
    let whole = |gap: Duration| i64::try_from(gap.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => whole(after),
        Err(before) => -whole(before.duration()),
    })
}

fn millis(duration: Duration) -> Result<i64, Error> {
    i64::try_from(duration.as_millis()).map_err(|_| Error::parse("duration out of range"))
}

/// Every function that is evaluated, for messages.
pub(crate) fn function_names() -> String {
    let mut all: Vec<&str> = functions::map_names()
        .chain(window::names())
        .chain(call::OTHER_FUNCTIONS.iter().copied())
        .collect();
    all.sort_unstable();
    all.join(", ")
}
