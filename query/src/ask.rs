//! A function of a window as a query asks it: with its parameters at each moment.

use crate::evaluate::Run;
use crate::moments::Moments;
use crate::plan::{At, Scalar, Shift};
use crate::read::Series;
use crate::window::{Frame, Over};
use crate::{Error, samples};

/// A function of a window, the moments it is asked for, and its parameters at each of them.
pub(crate) struct Ask<'a> {
    pub(crate) function: Over,
    pub(crate) parameters: &'a [Vec<f64>],
    pub(crate) moments: Moments,
}

impl Ask<'_> {
    pub(crate) fn name(&self) -> &'static str {
        self.function.name()
    }

    /// True when averages in place of samples change the answer's meaning.
    pub(crate) const fn looks_between_rows(&self) -> bool {
        self.function.looks_between_rows()
    }

    /// True when a counter's rates cannot answer, but its readings.
    pub(crate) fn wants_readings(&self, series: &Series) -> bool {
        series.kind.is_counter() && !self.function.knows_counters()
    }

    /// `shifted`, one for each asked moment: a window that `@` holds still may yet be asked with
    /// another parameter each time.
    pub(crate) fn moments(&self, shifted: Moments) -> Moments {
        if self.parameters.is_empty() { shifted } else { shifted.repeated(self.moments.count()) }
    }

    /// The answer at moment `index`; `room` is used again from window to window.
    pub(crate) fn apply(
        &self,
        frame: &Frame<'_>,
        index: usize,
        room: &mut Vec<f64>,
    ) -> Option<f64> {
        let parameter =
            |number: usize| self.parameters.get(number).map_or(f64::NAN, |all| all[index]);
        match self.function {
            Over::Quantile => samples::quantile_of(frame, parameter(0), room),
            Over::Predict => samples::predicted(frame, self.moments.at(index), parameter(0)),
            Over::Smooth => samples::smoothed(frame, parameter(0), parameter(1)),
            Over::MedianDeviation => samples::median_deviation(frame, room),
            function => function.apply(frame),
        }
    }
}

impl Run<'_> {
    /// The parameters of a function of a window at each moment. Errors when one is out of its
    /// range, as far as Prometheus does.
    pub(crate) fn parameters(
        &mut self,
        function: Over,
        parameters: &[Scalar],
    ) -> Result<Vec<Vec<f64>>, Error> {
        let mut all = Vec::with_capacity(parameters.len());
        for (number, parameter) in parameters.iter().enumerate() {
            let values = self.scalar(parameter)?;
            match function {
                Over::Smooth => check_weights(number, &values)?,
                Over::Quantile => self.warn_of_shares(&values),
                _ => {}
            }
            all.push(values);
        }
        Ok(all)
    }

    /// Warns of shares that no quantile has.
    pub(crate) fn warn_of_shares(&mut self, shares: &[f64]) {
        if let Some(share) = shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
            self.warn(format!("quantile value should be between 0 and 1, got {share}"));
        }
    }

    /// The asked moments after `@` and `offset`.
    pub(crate) fn shifted(&self, shift: Shift) -> Moments {
        let moments = match shift.at {
            None => self.moments,
            Some(At::Moment(at)) => Moments::one(at),
            Some(At::Start) => Moments::one(self.first),
            Some(At::End) => Moments::one(self.last),
        };
        moments.earlier(shift.offset_ms)
    }
}

fn check_weights(number: usize, values: &[f64]) -> Result<(), Error> {
    let (name, short) = if number == 0 { ("smoothing", "sf") } else { ("trend", "tf") };
    match values.iter().find(|value| !(**value > 0.0 && **value < 1.0)) {
        None => Ok(()),
        Some(value) => Err(Error::Execution(format!(
            "invalid {name} factor {value}; expected is 0 < {short} < 1"
        ))),
    }
}
