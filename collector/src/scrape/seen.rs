//! The series of a target's last page, so that those that vanish can be ended.

use std::collections::HashSet;
use std::ops::Range;

use crate::exposition::{Sample, Series};

/// Texts of series, one after the other in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    texts: String,
    ends: Vec<usize>,
}

impl Seen {
    /// The series that were there and are not in `samples`.
    pub(crate) fn vanished(&self, samples: &[Sample<'_>]) -> Vec<Series<'_>> {
        // Nearly every page has the series of the last one in the same order.
        if self.texts().eq(samples.iter().map(|sample| sample.series.text())) {
            return Vec::new();
        }
        let here: HashSet<&str> = samples.iter().map(|sample| sample.series.text()).collect();
        let gone = self.texts().filter(|text| !here.contains(text));
        // Their texts were series when they were read.
        gone.filter_map(|text| Series::read(text).ok()).collect()
    }

    /// Remembers a page in place of the last one.
    pub(crate) fn remember(&mut self, samples: &[Sample<'_>]) {
        if let Some(next) = self.next(samples) {
            *self = next;
        }
    }

    /// What to remember in place of the last page; `None` where that is the same.
    pub(crate) fn next(&self, samples: &[Sample<'_>]) -> Option<Self> {
        if self.texts().eq(samples.iter().map(|sample| sample.series.text())) {
            return None;
        }
        let mut next = Self::default();
        for sample in samples {
            next.texts.push_str(sample.series.text());
            next.ends.push(next.texts.len());
        }
        Some(next)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(&self.ends).map(|(start, end)| Range { start, end: *end });
        ranges.map(|range| self.texts.get(range).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Format, read};

    #[test]
    fn series_that_are_gone_are_named_once() {
        let mut seen = Seen::default();
        for (page, gone) in [
            ("a 1\nb{c=\"d\"} 2\n", &[][..]),
            ("a 3\nb{c=\"d\"} 4\n", &[]),
            ("e 1\na 3\n", &["b{c=\"d\"}"]),
            ("a 3\n", &["e"]),
            ("", &["a"]),
            ("", &[]),
            ("a 1\n", &[]),
        ] {
            let page = read(page.as_bytes(), Format::Text, 100).unwrap();
            let vanished = seen.vanished(&page.samples);
            assert_eq!(vanished.iter().map(Series::text).collect::<Vec<_>>(), gone);
            seen.remember(&page.samples);
        }
    }
}
