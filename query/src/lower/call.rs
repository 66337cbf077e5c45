//! Function calls and aggregations of the syntax tree to plans.

use promql_parser::parser::token::{
    T_AVG, T_BOTTOMK, T_COUNT, T_GROUP, T_MAX, T_MIN, T_QUANTILE, T_STDDEV, T_STDVAR, T_SUM, T_TOPK,
};
use promql_parser::parser::{AggregateExpr, Call, Expr as Tree, LabelModifier};
use rrd::{Labels, MatchOp, NAME};

use super::{function_names, range, scalar, text, vector};
use crate::plan::{Aggregate, Names, Plan, Scalar, Selector, Vector, Wanted};
use crate::relabel::Replace;
use crate::{Error, functions, window};

/// The functions that are neither of one number nor of a range.
pub(crate) const OTHER_FUNCTIONS: &[&str] = &[
    "absent",
    "absent_over_time",
    "clamp",
    "clamp_max",
    "clamp_min",
    "label_replace",
    "pi",
    "round",
    "scalar",
    "sort",
    "sort_desc",
    "time",
    "timestamp",
    "vector",
];

/// The plan of a function call.
pub(crate) fn call(call: &Call) -> Result<Plan, Error> {
    let args = Args(call);
    let plan = match call.func.name {
        "time" => return Ok(Plan::Scalar(Scalar::Time)),
        "pi" => return Ok(Plan::Scalar(Scalar::Number(std::f64::consts::PI))),
        "scalar" => return Ok(Plan::Scalar(Scalar::Only(args.vector(0)?))),
        "vector" => Vector::Of(Box::new(args.scalar(0)?)),
        "clamp" => Vector::Clamp {
            of: args.vector(0)?,
            min: Some(args.scalar(1)?),
            max: Some(args.scalar(2)?),
        },
        "clamp_min" => Vector::Clamp { of: args.vector(0)?, min: Some(args.scalar(1)?), max: None },
        "clamp_max" => Vector::Clamp { of: args.vector(0)?, min: None, max: Some(args.scalar(1)?) },
        "round" if call.args.len() < 2 => {
            Vector::Round { of: args.vector(0)?, to: Scalar::Number(1.0) }
        }
        "round" => Vector::Round { of: args.vector(0)?, to: args.scalar(1)? },
        "timestamp" => match *args.vector(0)? {
            Vector::Select { selector, wanted: Wanted::Value } => {
                Vector::Select { selector, wanted: Wanted::End }
            }
            computed => Vector::Stamp(Box::new(computed)),
        },
        "absent" => absent(present(*args.vector(0)?, Wanted::Presence)),
        "absent_over_time" => {
            let (selector, window) = range(args.at(0)?)?;
            absent(Vector::Over { function: window::Over::Present, selector, window })
        }
        "sort" => Vector::Sort { of: args.vector(0)?, descending: false },
        "sort_desc" => Vector::Sort { of: args.vector(0)?, descending: true },
        "label_replace" => Vector::Replace {
            replace: Replace::check(
                &args.text(1)?,
                &args.text(2)?,
                &args.text(3)?,
                &args.text(4)?,
            )?,
            of: args.vector(0)?,
        },
        name => named(name, &args)?,
    };
    Ok(Plan::Vector(plan))
}

fn named(name: &str, args: &Args<'_>) -> Result<Vector, Error> {
    if let Some(function) = functions::map(name) {
        return Ok(Vector::Map { function, of: args.vector(0)? });
    }
    if let Some(function) = window::over(name) {
        let (selector, window) = range(args.at(0)?)?;
        return Ok(Vector::Over { function, selector, window });
    }
    Err(Error::unsupported(format!("function {name}"), function_names()))
}

struct Args<'a>(&'a Call);

impl Args<'_> {
    fn at(&self, index: usize) -> Result<&Tree, Error> {
        let arg = self.0.args.args.get(index).map(AsRef::as_ref);
        arg.ok_or_else(|| {
            Error::parse(format!("expected more arguments in call to {:?}", self.0.func.name))
        })
    }

    fn vector(&self, index: usize) -> Result<Box<Vector>, Error> {
        vector(self.at(index)?).map(Box::new)
    }

    fn scalar(&self, index: usize) -> Result<Scalar, Error> {
        scalar(self.at(index)?)
    }

    fn text(&self, index: usize) -> Result<String, Error> {
        text(self.at(index)?)
    }
}

/// The same selection, asked only for what is needed of it; anything else is unchanged.
fn present(vector: Vector, wanted: Wanted) -> Vector {
    match vector {
        Vector::Select { selector, wanted: Wanted::Value } => Vector::Select { selector, wanted },
        other => other,
    }
}

fn absent(of: Vector) -> Vector {
    let labels = match &of {
        Vector::Select { selector, .. } | Vector::Over { selector, .. } => promised(selector),
        _ => Labels::default(),
    };
    Vector::Absent { labels, of: Box::new(of) }
}

/// The labels a selector demands by `=`, once each: what `absent` can say of the missing series.
fn promised(selector: &Selector) -> Labels {
    let mut labels = Labels::default();
    for matcher in selector.matchers.iter().filter(|m| m.name() != NAME) {
        let repeated = selector.matchers.iter().filter(|m| m.name() == matcher.name()).count() > 1;
        if matcher.op() == MatchOp::Equal && !repeated {
            labels = labels.with(matcher.name(), matcher.value());
        }
    }
    labels
}

/// The plan of an aggregation.
pub(crate) fn aggregate(tree: &AggregateExpr) -> Result<Vector, Error> {
    let parameter = || match &tree.param {
        Some(param) => scalar(param),
        None => Err(Error::parse(format!("{} needs a parameter", tree.op))),
    };
    let function = match tree.op.id() {
        T_SUM => Aggregate::Sum,
        T_AVG => Aggregate::Average,
        T_MIN => Aggregate::Min,
        T_MAX => Aggregate::Max,
        T_COUNT => Aggregate::Count,
        T_GROUP => Aggregate::Group,
        T_STDVAR => Aggregate::StandardVariance,
        T_STDDEV => Aggregate::StandardDeviation,
        T_QUANTILE => Aggregate::Quantile(parameter()?),
        T_TOPK => Aggregate::Extreme { count: parameter()?, largest: true },
        T_BOTTOMK => Aggregate::Extreme { count: parameter()?, largest: false },
        _ => {
            return Err(Error::unsupported(
                format!("aggregation {}", tree.op),
                "avg, bottomk, count, group, max, min, quantile, stddev, stdvar, sum, topk",
            ));
        }
    };
    let grouping = match &tree.modifier {
        None => Names::Only(Vec::new()),
        Some(LabelModifier::Include(names)) => Names::Only(names.labels.clone()),
        Some(LabelModifier::Exclude(names)) => Names::Without(names.labels.clone()),
    };
    let of = match function {
        Aggregate::Count | Aggregate::Group => present(vector(&tree.expr)?, Wanted::Presence),
        _ => vector(&tree.expr)?,
    };
    Ok(Vector::Aggregate { function, grouping, of: Box::new(of) })
}
