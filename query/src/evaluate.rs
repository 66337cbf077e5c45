//! The evaluation of a plan: every node once, for all moments together.

use rrd::{Labels, Step, Timestamp};

use crate::aggregate::aggregate;
use crate::answer::{Answer, Line, Point, Value};
use crate::ask::Ask;
use crate::columns::{Cell, Column, nameless};
use crate::functions::{clamp, round};
use crate::looks::Looks;
use crate::moments::Moments;
use crate::notes::Notes;
use crate::plan::{Aggregate, Plan, Ranged, Scalar, Vector};
use crate::{Error, Limits, Read, columns, matching, natural, sets};

/// One evaluation: what it reads, what it was asked, and what it has spent.
pub(crate) struct Run<'a> {
    pub(crate) read: &'a dyn Read,
    pub(crate) moments: Moments,
    /// What `@ start()` and `@ end()` mean, inside subqueries too.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) limits: &'a Limits,
    /// The widest rows to be preferred, when coarse rows are asked for.
    pub(crate) widest: Option<Step>,
    pub(crate) notes: Notes,
    /// What windows have looked at so far.
    pub(crate) looks: Looks,
    points: u64,
}

impl<'a> Run<'a> {
    pub(crate) fn of(read: &'a dyn Read, moments: Moments, limits: &'a Limits) -> Self {
        let (first, last) = (moments.first(), moments.last());
        let (notes, looks) = (Notes::default(), Looks::within(limits));
        Self { read, moments, first, last, limits, widest: None, notes, looks, points: 0 }
    }

    /// The answer for one moment.
    pub(crate) fn instant(mut self, plan: &Plan) -> Result<Answer, Error> {
        let at = self.moments.first();
        let value = match plan {
            Plan::Text(text) => Value::Text(text.clone()),
            Plan::Scalar(scalar) => Value::Scalar { at, value: self.scalar(scalar)?[0] },
            Plan::Rows(ranged) => {
                let lines = match ranged {
                    Ranged::Rows(selector, window) => self.rows(selector, *window)?,
                    Ranged::Subquery(subquery) => self.subquery_lines(subquery)?,
                };
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
            Plan::Rows(_) => return Err(not_a_line("range vector")),
            Plan::Text(_) => return Err(not_a_line("string")),
        };
        self.check_answer(columns.iter().map(Column::count).sum())?;
        let mut lines: Vec<Line> =
            columns.into_iter().filter(|c| !c.is_empty()).map(|c| self.line(c)).collect();
        lines.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(self.answer(Value::Matrix(lines)))
    }

    fn answer(mut self, value: Value) -> Answer {
        let Notes { warnings, mut resolutions } = std::mem::take(&mut self.notes);
        resolutions.sort_by_key(|used| used.step);
        Answer { value, warnings, resolutions }
    }

    fn line(&self, column: Column) -> Line {
        let mut points = Vec::with_capacity(column.count());
        let pairs = self.moments.iter().zip(column.cells);
        points.extend(pairs.filter_map(|(at, cell)| Some((at, cell.get()?))));
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

    /// Cells of all moments of the query, of which a selector with `@` asked only one.
    pub(crate) fn at_all(&self, mut cells: Vec<Cell>) -> Vec<Cell> {
        let last = cells.last().copied().unwrap_or(Cell::ABSENT);
        cells.resize(self.moments.count(), last);
        cells
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

    /// How many more columns of all moments the limit of points allows.
    pub(crate) fn columns_left(&self) -> usize {
        let points = self.limits.points.saturating_sub(self.points);
        usize::try_from(points).unwrap_or(usize::MAX) / self.moments.count()
    }

    pub(crate) fn warn(&mut self, warning: String) {
        self.notes.warn(warning);
    }

    pub(crate) fn scalar(&mut self, scalar: &Scalar) -> Result<Vec<f64>, Error> {
        self.limits.patience.check()?;
        self.spend(self.moments.count())?;
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

    pub(crate) fn vector(&mut self, vector: &Vector) -> Result<Vec<Column>, Error> {
        self.limits.patience.check()?;
        match vector {
            Vector::Select { selector, wanted } => {
                let columns = self.select(selector, *wanted)?;
                if *wanted == crate::plan::Wanted::End { nameless(columns) } else { Ok(columns) }
            }
            Vector::Over { function, parameters, of } => {
                let parameters = self.parameters(*function, parameters)?;
                let (moments, parameters) = (self.moments, parameters.as_slice());
                let ask = Ask { function: *function, parameters, moments };
                let columns = match of {
                    Ranged::Rows(selector, window) => self.over(&ask, selector, *window)?,
                    Ranged::Subquery(subquery) => self.over_subquery(&ask, subquery)?,
                };
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
            Vector::SortByLabel { of, labels, descending } => {
                let mut columns = self.vector(of)?;
                if self.moments.count() == 1 {
                    natural::sort(&mut columns, labels, *descending);
                }
                Ok(columns)
            }
            Vector::Replace { replace, of } => {
                let columns = self.vector(of)?;
                self.relabelled(columns, |column| replace.one(column))
            }
            Vector::Join { join, of } => {
                let columns = self.vector(of)?;
                self.relabelled(columns, |column| join.one(column))
            }
            Vector::Buckets { ask, of } => self.buckets(ask, of),
            Vector::Aggregate { function: Aggregate::Values(label), grouping, of } => {
                self.count_values(label, grouping, of)
            }
            Vector::Aggregate { function, grouping, of } => {
                if let Some(columns) = self.folded(function, grouping, of)? {
                    return Ok(columns);
                }
                let columns = self.vector(of)?;
                let parameter = match function.parameter() {
                    Some(parameter) => self.scalar(parameter)?,
                    None => Vec::new(),
                };
                if let Aggregate::Quantile(_) = function {
                    self.warn_of_shares(&parameter);
                }
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
                matching::matched(self, (*op, matching), left, right)
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

    /// Each column with a new label; what the labels take counts as points, so that they stay
    /// within bounds however many there are.
    fn relabelled(
        &mut self,
        columns: Vec<Column>,
        one: impl Fn(Column) -> Result<Column, Error>,
    ) -> Result<Vec<Column>, Error> {
        let mut all = Vec::with_capacity(columns.len());
        for column in columns {
            let column = one(column)?;
            let bytes: usize = column.labels.iter().map(|(_, value)| value.len()).sum();
            self.spend(bytes / size_of::<Cell>())?;
            all.push(column);
        }
        columns::joined(all, columns::SAME_LABELS)
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
