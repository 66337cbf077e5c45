//! Readings: what one look at the machine found, in buffers that are used again for the next look.

use std::ops::Range;

use rrd::Kind;

/// One reading: a series' name, labels and kind, and its value at the moment of the look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reading<'a> {
    /// Metric name, as `node_exporter` has it where it has one.
    pub(crate) metric: &'a str,
    /// The series' key: its label names and values, each ended by a zero byte.
    key: &'a str,
    /// How readings become a rate.
    pub(crate) kind: Kind,
    /// The value, in base units (seconds, bytes, ratio 0 to 1).
    pub(crate) value: f64,
}

impl<'a> Reading<'a> {
    /// Label names and values in the order they were given.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut parts = self.key.split_terminator('\0');
        std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
    }

    /// The bytes that tell this series' labels from those of its metric's other series.
    pub(crate) fn key(&self) -> &'a str {
        self.key
    }
}

/// A growing list of readings. Cleared and filled again at every step, so that a steady agent
/// allocates nothing to look.
#[derive(Debug, Default)]
pub(crate) struct Readings {
    /// Metric names and keys, one after the other.
    texts: String,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    metric: Range<usize>,
    key: Range<usize>,
    kind: Kind,
    value: f64,
}

impl Readings {
    /// Forgets all readings and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.texts.clear();
        self.entries.clear();
    }

    /// How many readings there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there is none, for tests.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds the level of something.
    pub(crate) fn gauge(&mut self, metric: &str, labels: &[(&str, &str)], value: f64) {
        self.add(metric, labels, Kind::Gauge, value);
    }

    /// Adds a count that only rises while the machine is up.
    pub(crate) fn total(&mut self, metric: &str, labels: &[(&str, &str)], value: f64) {
        self.add(metric, labels, Kind::Total, value);
    }

    /// Adds a reading of any kind. One whose texts hold a zero byte, which ends texts in a key, is
    /// left out.
    pub(crate) fn add(&mut self, metric: &str, labels: &[(&str, &str)], kind: Kind, value: f64) {
        let texts = || labels.iter().flat_map(|(name, value)| [*name, *value]);
        if texts().chain([metric]).any(|text| text.as_bytes().contains(&0)) {
            return;
        }
        let metric = self.keep(metric);
        let start = self.texts.len();
        for text in texts() {
            self.texts.push_str(text);
            self.texts.push('\0');
        }
        self.entries.push(Entry { metric, key: start..self.texts.len(), kind, value });
    }

    /// Adds all that others found.
    pub(crate) fn append(&mut self, others: &Self) {
        for reading in others.iter() {
            let labels: Vec<(&str, &str)> = reading.labels().collect();
            self.add(reading.metric, &labels, reading.kind, reading.value);
        }
    }

    fn keep(&mut self, text: &str) -> Range<usize> {
        let start = self.texts.len();
        self.texts.push_str(text);
        start..self.texts.len()
    }

    fn text(&self, range: &Range<usize>) -> &str {
        self.texts.get(range.clone()).unwrap_or_default()
    }

    /// Changes the values of one metric's series: `change` is given a series' key and its value.
    pub(crate) fn adjust(&mut self, metric: &str, mut change: impl FnMut(&str, f64) -> f64) {
        for entry in &mut self.entries {
            let text = |range: &Range<usize>| self.texts.get(range.clone()).unwrap_or_default();
            if text(&entry.metric) == metric {
                entry.value = change(text(&entry.key), entry.value);
            }
        }
    }

    /// The readings in the order they were added.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Reading<'_>> {
        self.entries.iter().map(|entry| Reading {
            metric: self.text(&entry.metric),
            key: self.text(&entry.key),
            kind: entry.kind,
            value: entry.value,
        })
    }

    /// The value of the series written so, for tests.
    #[cfg(test)]
    pub(crate) fn value(&self, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.iter()
            .find(|r| r.metric == metric && r.labels().eq(labels.iter().copied()))
            .map(|r| r.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_come_back_in_order_with_their_labels() {
        let mut readings = Readings::default();
        readings.gauge("node_load1", &[], 0.5);
        readings.total("node_disk_read_bytes_total", &[("device", "vda")], 7.0);
        let seen: Vec<_> =
            readings.iter().map(|r| (r.metric, r.labels().collect::<Vec<_>>(), r.value)).collect();
        let disk = ("node_disk_read_bytes_total", vec![("device", "vda")], 7.0);
        assert_eq!(seen, [("node_load1", vec![], 0.5), disk]);
        readings.clear();
        assert!(readings.is_empty());
    }

    #[test]
    fn a_text_with_a_zero_byte_is_left_out() {
        let mut readings = Readings::default();
        readings.gauge("x", &[("a", "1\0b")], 1.0);
        readings.gauge("x\0", &[], 1.0);
        assert!(readings.is_empty());
    }

    #[test]
    fn an_empty_label_value_does_not_shift_the_labels_after_it() {
        let mut readings = Readings::default();
        readings.gauge("x", &[("a", ""), ("b", "2")], 1.0);
        assert_eq!(readings.value("x", &[("a", ""), ("b", "2")]), Some(1.0));
    }
}
