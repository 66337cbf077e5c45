//! The evaluation of a plan: every node once, for all moments together.

use rrd::{Labels, Step};

use crate::aggregate::aggregate;
use crate::answer::{Answer, Line, Point, Resolution, Value};
use crate::archive::Stretch;
use crate::columns::{Cell, Column, nameless};
use crate::functions::{clamp, round};
use crate::moments::Moments;
use crate::plan::{Plan, Scalar, Vector};
use crate::{Error, Limits, Read, matching, sets};

/// Warnings kept for one answer; a thousandth reader would not help.
const WARNINGS: usize = 20;

/// One evaluation: what it reads, what it was asked, and what it has spent.
pub(crate) struct Run<'a> {
    pub(crate) read: &'a dyn Read,
    pub(crate) moments: Moments,
    pub(crate) limits: &'a Limits,
    /// The widest rows to be preferred, when coarse rows are asked for.
    pub(crate) widest: Option<Step>,
    points: u64,
    warnings: Vec<String>,
    resolutions: Vec<Resolution>,
}

impl<'a> Run<'a> {
    pub(crate) fn of(read: &'a dyn Read, moments: Moments, limits: &'a Limits) -> Self {
        let (warnings, resolutions) = (Vec::new(), Vec::new());
        Self { read, moments, limits, widest: None, points: 0, warnings, resolutions }
    }

    /// The answer for one moment.
    pub(crate) fn instant(mut self, plan: &Plan) -> Result<Answer, Error> {
        let at = self.moments.first();
        let value = match plan {
            Plan::Text(text) => Value::Text(text.clone()),
            Plan::Scalar(scalar) => Value::Scalar { at, value: self.scalar(scalar)?[0] },
            Plan::Rows(selector, window) => {
                let lines = self.rows(selector, *window)?;
                self.check_answer(lines.iter().map(|line| line.points.len()).sum())?;
                Value::Matrix(lines)
            }
            Plan::Vector(vector) => Value::Vector(
                self.vector(vector)?
                    .into_iter()
                    .filter_map(|column| {
                        let value = column.cells[0].get()?;
                        Some(Point { labels: column.labels, at, value })
                    })
                    .collect(),
            ),
        };
        Ok(self.answer(value))
    }

    /// The answer for a range of moments.
    pub(crate) fn range(mut self, plan: &Plan) -> Result<Answer, Error> {
        let columns = match plan {
            Plan::Scalar(scalar) => {
                let cells = self.scalar(scalar)?.into_iter().map(Cell::of).collect();
                vec![Column { labels: Labels::default(), cells }]
            }
            Plan::Vector(vector) => self.vector(vector)?,
            Plan::Rows(..) => return Err(not_a_line("range vector")),
            Plan::Text(_) => return Err(not_a_line("string")),
        };
        self.check_answer(columns.iter().map(Column::count).sum())?;
        let mut lines: Vec<Line> =
            columns.into_iter().filter(|c| !c.is_empty()).map(|c| self.line(c)).collect();
        lines.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(self.answer(Value::Matrix(lines)))
    }

    fn answer(mut self, value: Value) -> Answer {
        self.resolutions.sort_by_key(|used| used.step);
        Answer { value, warnings: self.warnings, resolutions: self.resolutions }
    }

    fn line(&self, column: Column) -> Line {
        let points = self.moments.iter().zip(column.cells);
        let points = points.filter_map(|(at, cell)| Some((at, cell.get()?))).collect();
        Line { labels: column.labels, points }
    }

    /// Counts points against the limit.
    pub(crate) fn spend(&mut self, points: usize) -> Result<(), Error> {
        self.points = self.points.saturating_add(u64::try_from(points).unwrap_or(u64::MAX));
        if self.points > self.limits.points {
            return Err(Error::Limit(format!(
                "the query needs more than {} points; ask for fewer series, a shorter range or a longer step",
                self.limits.points
            )));
        }
        Ok(())
    }

    /// Checked before the answer is written, which takes several times its points.
    fn check_answer(&self, points: usize) -> Result<(), Error> {
        let limit = self.limits.answer;
        if u64::try_from(points).unwrap_or(u64::MAX) > limit {
            return Err(Error::Limit(format!(
                "the answer has {points} points, over the limit of {limit}; aggregate, or ask for \
                 a shorter range or a longer step"
            )));
        }
        Ok(())
    }

    pub(crate) fn warn(&mut self, warning: String) {
        if self.warnings.len() < WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(crate) fn note_use(&mut self, step: Step, moments: Moments, stretch: &Stretch) {
        let first = moments.at(stretch.moments.start);
        let last = moments.at(stretch.moments.end - 1);
        match self.resolutions.iter_mut().find(|used| used.step == step) {
            Some(used) => {
                used.first = used.first.min(first);
                used.last = used.last.max(last);
            }
            None => self.resolutions.push(Resolution { step, first, last }),
        }
    }

    fn scalar(&mut self, scalar: &Scalar) -> Result<Vec<f64>, Error> {
        self.limits.patience.check()?;
        Ok(match scalar {
            Scalar::Number(number) => vec![*number; self.moments.count()],
            Scalar::Time => self.moments.iter().map(rrd::Timestamp::as_secs_f64).collect(),
            Scalar::Negate(of) => self.scalar(of)?.into_iter().map(|value| -value).collect(),
            Scalar::Binary { op, left, right } => {
                let (left, right) = (self.scalar(left)?, self.scalar(right)?);
                let pairs = left.into_iter().zip(right);
                pairs.map(|(l, r)| op.apply(l, r, l).unwrap_or(f64::NAN)).collect()
            }
            Scalar::Only(of) => {
                let columns = self.vector(of)?;
                (0..self.moments.count()).map(|index| only(&columns, index)).collect()
            }
        })
    }

    fn vector(&mut self, vector: &Vector) -> Result<Vec<Column>, Error> {
        self.limits.patience.check()?;
        match vector {
            Vector::Select { selector, wanted } => {
                let columns = self.select(selector, *wanted)?;
                if *wanted == crate::plan::Wanted::End { nameless(columns) } else { Ok(columns) }
            }
            Vector::Over { function, selector, window } => {
                let columns = self.over(*function, selector, *window)?;
                if function.keeps_name() { Ok(columns) } else { nameless(columns) }
            }
            Vector::Of(scalar) => {
                let cells = self.scalar(scalar)?.into_iter().map(Cell::of).collect();
                Ok(vec![Column { labels: Labels::default(), cells }])
            }
            Vector::Map { function, of } => {
                let columns = self.vector(of)?;
                nameless(each(columns, |value, _| Some(function.0(value))))
            }
            Vector::Clamp { of, min, max } => self.clamp(of, min.as_ref(), max.as_ref()),
            Vector::Round { of, to } => {
                let (columns, to) = (self.vector(of)?, self.scalar(to)?);
                nameless(each(columns, |value, index| Some(round(value, to[index]))))
            }
            Vector::Stamp(of) => {
                let moments = self.moments;
                let columns = self.vector(of)?;
                nameless(each(columns, |_, index| Some(moments.at(index).as_secs_f64())))
            }
            Vector::Absent { labels, of } => Ok(vec![self.absent(labels, of)?]),
            Vector::Sort { of, descending } => {
                let mut columns = self.vector(of)?;
                if self.moments.count() == 1 {
                    sort(&mut columns, *descending);
                }
                Ok(columns)
            }
            Vector::Replace { replace, of } => replace.apply(self.vector(of)?),
            Vector::Aggregate { function, grouping, of } => {
                let columns = self.vector(of)?;
                let parameter = match function.parameter() {
                    Some(parameter) => self.scalar(parameter)?,
                    None => Vec::new(),
                };
                Ok(aggregate(function, grouping, &parameter, columns, self.moments.count()))
            }
            Vector::WithScalar { op, vector, scalar, scalar_first } => {
                let (columns, scalar) = (self.vector(vector)?, self.scalar(scalar)?);
                let columns = each(columns, |value, index| match scalar_first {
                    true => op.apply(scalar[index], value, value),
                    false => op.apply(value, scalar[index], value),
                });
                if op.drops_name() { nameless(columns) } else { Ok(columns) }
            }
            Vector::Match { op, matching, left, right } => {
                let (left, right) = (self.vector(left)?, self.vector(right)?);
                matching::matched(*op, matching, left, right, self.moments.count())
            }
            Vector::Set { op, on, left, right } => {
                let (left, right) = (self.vector(left)?, self.vector(right)?);
                sets::combined(*op, on, left, right)
            }
        }
    }

    fn clamp(
        &mut self,
        of: &Vector,
        min: Option<&Scalar>,
        max: Option<&Scalar>,
    ) -> Result<Vec<Column>, Error> {
        let columns = self.vector(of)?;
        let count = self.moments.count();
        let mut bound = |bound: Option<&Scalar>, otherwise| match bound {
            Some(scalar) => self.scalar(scalar),
            None => Ok(vec![otherwise; count]),
        };
        let (min, max) = (bound(min, f64::NEG_INFINITY)?, bound(max, f64::INFINITY)?);
        nameless(each(columns, |value, index| {
            (min[index] <= max[index] || min[index].is_nan() || max[index].is_nan())
                .then(|| clamp(value, min[index], max[index]))
        }))
    }

    fn absent(&mut self, labels: &Labels, of: &Vector) -> Result<Column, Error> {
        let columns = self.vector(of)?;
        let mut cells = vec![Cell::of(1.0); self.moments.count()];
        for column in columns {
            for (cell, found) in cells.iter_mut().zip(column.cells) {
                if found.is_present() {
                    *cell = Cell::ABSENT;
                }
            }
        }
        Ok(Column { labels: labels.clone(), cells })
    }
}

fn not_a_line(found: &str) -> Error {
    Error::Execution(format!(
        "invalid expression type {found:?} for range query, must be Scalar or instant Vector"
    ))
}

/// `columns` with every present value replaced, or dropped.
fn each(mut columns: Vec<Column>, change: impl Fn(f64, usize) -> Option<f64>) -> Vec<Column> {
    for column in &mut columns {
        for (index, cell) in column.cells.iter_mut().enumerate() {
            *cell = Cell::from(cell.get().and_then(|value| change(value, index)));
        }
    }
    columns
}

/// The value of the only column present at a moment, else NaN.
fn only(columns: &[Column], index: usize) -> f64 {
    let mut present = columns.iter().filter_map(|column| column.cells[index].get());
    match (present.next(), present.next()) {
        (Some(value), None) => value,
        _ => f64::NAN,
    }
}

/// By value, NaN and absent last whichever way.
fn sort(columns: &mut [Column], descending: bool) {
    let key = |column: &Column| column.cells[0].get().unwrap_or(f64::NAN);
    columns.sort_by(|a, b| crate::aggregate::order(key(a), key(b), descending));
}
