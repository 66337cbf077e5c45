//! Function calls and aggregations of the syntax tree to plans.

use promql_parser::parser::token::{
    T_AVG, T_BOTTOMK, T_COUNT, T_COUNT_VALUES, T_GROUP, T_MAX, T_MIN, T_QUANTILE, T_STDDEV,
    T_STDVAR, T_SUM, T_TOPK,
};
use promql_parser::parser::{AggregateExpr, Call, Expr as Tree, LabelModifier};
use rrd::{Labels, MatchOp, NAME};

use super::{function_names, range, scalar, text, vector};
use crate::plan::{Aggregate, Names, OfBuckets, Plan, Ranged, Scalar, Selector, Vector, Wanted};
use crate::relabel::{Join, Replace};
use crate::{Error, functions, window};

/// The functions that are neither of one number nor of a range.
pub(crate) const OTHER_FUNCTIONS: &[&str] = &[
    "absent",
    "absent_over_time",
    "clamp",
    "clamp_max",
    "clamp_min",
    "histogram_fraction",
    "histogram_quantile",
    "label_join",
    "label_replace",
    "pi",
    "round",
    "scalar",
    "sort",
    "sort_by_label",
    "sort_by_label_desc",
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
            let of = range(args.at(0)?)?;
            absent(Vector::Over { function: window::Over::Present, parameters: Vec::new(), of })
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
        "sort_by_label" => args.by_label(false)?,
        "sort_by_label_desc" => args.by_label(true)?,
        "label_join" => Vector::Join {
            join: Join { target: args.text(1)?, separator: args.text(2)?, sources: args.texts(3)? }
                .check()?,
            of: args.vector(0)?,
        },
        "histogram_quantile" => {
            Vector::Buckets { ask: OfBuckets::Quantile(args.scalar(0)?), of: args.vector(1)? }
        }
        "histogram_fraction" => Vector::Buckets {
            ask: OfBuckets::Fraction(args.scalar(0)?, args.scalar(1)?),
            of: args.vector(2)?,
        },
        name => named(name, &args)?,
    };
    Ok(Plan::Vector(plan))
}

fn named(name: &str, args: &Args<'_>) -> Result<Vector, Error> {
    if let Some(function) = functions::map(name) {
        // Only of a date may the moment be left out: it is now.
        let of = match args.count() {
            0 => Box::new(Vector::Of(Box::new(Scalar::Time))),
            _ => args.vector(0)?,
        };
        return Ok(Vector::Map { function, of });
    }
    if let Some(function) = window::over(name) {
        let at = usize::from(function == window::Over::Quantile);
        let others = (0..args.count()).filter(|index| *index != at);
        let parameters = others.map(|index| args.scalar(index)).collect::<Result<_, _>>()?;
        return Ok(Vector::Over { function, parameters, of: range(args.at(at)?)? });
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

    fn texts(&self, from: usize) -> Result<Vec<String>, Error> {
        (from..self.count()).map(|index| self.text(index)).collect()
    }

    fn count(&self) -> usize {
        self.0.args.args.len()
    }

    fn by_label(&self, descending: bool) -> Result<Vector, Error> {
        let labels = self.texts(1)?;
        Ok(Vector::SortByLabel { of: self.vector(0)?, labels, descending })
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
        Vector::Select { selector, .. } | Vector::Over { of: Ranged::Rows(selector, _), .. } => {
            promised(selector)
        }
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
        T_COUNT_VALUES => Aggregate::Values(label(tree)?),
        T_TOPK => Aggregate::Extreme { count: parameter()?, largest: true },
        T_BOTTOMK => Aggregate::Extreme { count: parameter()?, largest: false },
        _ => {
            return Err(Error::unsupported(
                format!("aggregation {}", tree.op),
                "avg, bottomk, count, count_values, group, max, min, quantile, stddev, stdvar, sum, topk",
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

/// The label that `count_values` makes of each value.
fn label(tree: &AggregateExpr) -> Result<String, Error> {
    match &tree.param {
        Some(param) => text(param).and_then(|label| match label.as_str() {
            "" => Err(Error::parse("invalid label name \"\" in count_values")),
            _ => Ok(label),
        }),
        None => Err(Error::parse("count_values needs a label")),
    }
}
