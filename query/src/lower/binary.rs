//! Binary operators of the syntax tree to plans.

use promql_parser::label::Labels as TreeLabels;
use promql_parser::parser::token::{
    T_ADD, T_ATAN2, T_DIV, T_EQLC, T_GTE, T_GTR, T_LAND, T_LOR, T_LSS, T_LTE, T_LUNLESS, T_MOD,
    T_MUL, T_NEQ, T_POW, T_SUB, TokenType,
};
use promql_parser::parser::{
    BinModifier, BinaryExpr, LabelModifier, VectorMatchCardinality as TreeCardinality,
};

use super::{mistyped, plan};
use crate::Error;
use crate::operators::{Compare, Math, Operator, Relation};
use crate::plan::{Cardinality, Matching, Names, Plan, Scalar, SetOperator, Side, Vector};

/// The plan of a binary expression.
pub(crate) fn binary(tree: &BinaryExpr) -> Result<Plan, Error> {
    let modifier = tree.modifier.clone().unwrap_or_default();
    if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
        return Err(Error::unsupported("fill", "on, ignoring, group_left, group_right, bool"));
    }
    let (left, right) = (plan(&tree.lhs)?, plan(&tree.rhs)?);
    if let Some(op) = set_operator(tree.op) {
        return set(op, &modifier, left, right);
    }
    let op = operator(tree.op, modifier.return_bool)?;
    match (left, right) {
        (Plan::Scalar(left), Plan::Scalar(right)) => {
            Ok(Plan::Scalar(Scalar::Binary { op, left: Box::new(left), right: Box::new(right) }))
        }
        (Plan::Vector(vector), Plan::Scalar(scalar)) => Ok(with_scalar(op, vector, scalar, false)),
        (Plan::Scalar(scalar), Plan::Vector(vector)) => Ok(with_scalar(op, vector, scalar, true)),
        (Plan::Vector(left), Plan::Vector(right)) => {
            let matching = matching(&modifier);
            let (left, right) = (Box::new(left), Box::new(right));
            Ok(Plan::Vector(Vector::Match { op, matching, left, right }))
        }
        (Plan::Rows(_) | Plan::Text(_), other) | (other, _) => {
            Err(mistyped("scalar or instant vector", &other))
        }
    }
}

fn with_scalar(op: Operator, vector: Vector, scalar: Scalar, scalar_first: bool) -> Plan {
    Plan::Vector(Vector::WithScalar { op, vector: Box::new(vector), scalar, scalar_first })
}

fn set(op: SetOperator, modifier: &BinModifier, left: Plan, right: Plan) -> Result<Plan, Error> {
    match (left, right) {
        (Plan::Vector(left), Plan::Vector(right)) => Ok(Plan::Vector(Vector::Set {
            op,
            on: names(modifier),
            left: Box::new(left),
            right: Box::new(right),
        })),
        (Plan::Vector(_), other) | (other, _) => Err(mistyped("instant vector", &other)),
    }
}

fn set_operator(op: TokenType) -> Option<SetOperator> {
    match op.id() {
        T_LAND => Some(SetOperator::And),
        T_LOR => Some(SetOperator::Or),
        T_LUNLESS => Some(SetOperator::Unless),
        _ => None,
    }
}

fn operator(op: TokenType, as_bool: bool) -> Result<Operator, Error> {
    let relation = |relation| Ok(Operator::Compare(Compare { relation, as_bool }));
    match op.id() {
        T_ADD => Ok(Operator::Math(Math::Add)),
        T_SUB => Ok(Operator::Math(Math::Subtract)),
        T_MUL => Ok(Operator::Math(Math::Multiply)),
        T_DIV => Ok(Operator::Math(Math::Divide)),
        T_MOD => Ok(Operator::Math(Math::Modulo)),
        T_POW => Ok(Operator::Math(Math::Power)),
        T_ATAN2 => Ok(Operator::Math(Math::Atan2)),
        T_EQLC => relation(Relation::Equal),
        T_NEQ => relation(Relation::NotEqual),
        T_GTR => relation(Relation::Greater),
        T_LSS => relation(Relation::Less),
        T_GTE => relation(Relation::GreaterOrEqual),
        T_LTE => relation(Relation::LessOrEqual),
        _ => Err(Error::unsupported(
            format!("operator {op}"),
            "+ - * / % ^ atan2 == != > < >= <= and or unless",
        )),
    }
}

fn names(modifier: &BinModifier) -> Names {
    match &modifier.matching {
        Some(LabelModifier::Include(names)) => Names::Only(names.labels.clone()),
        Some(LabelModifier::Exclude(names)) => Names::Without(names.labels.clone()),
        None => Names::Without(Vec::new()),
    }
}

fn matching(modifier: &BinModifier) -> Matching {
    let grouped =
        |many, include: &TreeLabels| Cardinality::Grouped { many, include: include.labels.clone() };
    let cardinality = match &modifier.card {
        TreeCardinality::ManyToOne(include) => grouped(Side::Left, include),
        TreeCardinality::OneToMany(include) => grouped(Side::Right, include),
        TreeCardinality::OneToOne | TreeCardinality::ManyToMany => Cardinality::OneToOne,
    };
    Matching { on: names(modifier), cardinality }
}
