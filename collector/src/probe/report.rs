//! A report: what a probe found, as values with the names of `blackbox_exporter`.

use std::time::Duration;

use super::Trouble;

/// What one probe found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    values: Vec<Value>,
    /// Why the target did not answer as it should, for the log.
    pub(crate) trouble: Option<String>,
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Value {
    pub(crate) metric: &'static str,
    /// The part of the way that a time is of.
    pub(crate) phase: Option<&'static str>,
    pub(crate) number: f64,
}

impl Report {
    /// Nothing, since this machine does not let us ask.
    pub(super) fn impossible(why: String) -> Self {
        Self { values: Vec::new(), trouble: Some(why) }
    }

    /// Sets a value.
    pub(super) fn set(&mut self, metric: &'static str, value: f64) {
        self.slot(metric, None).number = value;
    }

    /// Adds to the time of a phase; one that is gone through twice took both times.
    pub(super) fn took(&mut self, metric: &'static str, phase: &'static str, time: Duration) {
        self.slot(metric, Some(phase)).number += time.as_secs_f64();
    }

    fn slot(&mut self, metric: &'static str, phase: Option<&'static str>) -> &mut Value {
        let is_it = |held: &Value| held.metric == metric && held.phase == phase;
        let at = self.values.iter().position(is_it).unwrap_or_else(|| {
            self.values.push(Value { metric, phase, number: 0.0 });
            self.values.len() - 1
        });
        &mut self.values[at]
    }

    pub(super) fn end(&mut self, took: Duration, trouble: Option<Trouble>) {
        self.set("probe_success", f64::from(u8::from(trouble.is_none())));
        self.set("probe_duration_seconds", took.as_secs_f64());
        self.trouble = trouble.map(|trouble| match trouble {
            Trouble::Failed(why) | Trouble::Impossible(why) => why,
        });
    }

    /// All values.
    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }

    /// One of them, for tests.
    #[cfg(test)]
    pub(crate) fn value(&self, metric: &str, phase: Option<&str>) -> Option<f64> {
        let is_it = |held: &&Value| held.metric == metric && held.phase == phase;
        self.values.iter().find(is_it).map(|held| held.number)
    }
}
