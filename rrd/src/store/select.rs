//! Finding series: by instance first, then by the labels in their keys.

use std::sync::Arc;

use super::instance::Instance;
use super::state::{Series, State};
use super::{Store, lock};
use crate::{
    ArchiveSpec, Column, InstanceId, Kind, Labels, Matcher, Policy, SeriesRef, Step, Timestamp,
};

/// An instance as pages show it.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceInfo {
    /// Which one.
    pub id: InstanceId,
    /// Its labels.
    pub labels: Labels,
    /// Series it has.
    pub series_count: usize,
    /// END of its newest closed finest row; [`Timestamp::MIN`] when none has closed.
    pub newest: Timestamp,
    /// Bytes of its file, which grow with series and never with time.
    pub file_len: u64,
    /// The rows it keeps.
    pub policy: Policy,
}

/// A series as a query sees it.
#[derive(Clone, Debug)]
pub struct SeriesInfo {
    /// Where it lives.
    pub series: SeriesRef,
    /// Its labels, with those of its instance laid over them.
    pub labels: Labels,
    /// How its readings became rates.
    pub kind: Kind,
    /// Its archives, finest first.
    pub archives: Arc<[ArchiveSpec]>,
    /// END of its newest closed finest row; [`Timestamp::MIN`] when none has closed.
    pub newest: Timestamp,
    /// How long after `newest` it is still seen; `None` when a marker ended it.
    pub visible_ms: Option<u64>,
    /// The boundary before its first reading; [`Timestamp::MIN`] when there was none.
    pub birth: Timestamp,
}

impl Store {
    /// The instance `id`; `None` when it has no series.
    pub fn info(&self, id: InstanceId) -> Option<InstanceInfo> {
        self.instance(id)?.info()
    }

    /// All instances with a series, in order of id.
    pub fn instances(&self) -> Vec<InstanceInfo> {
        self.all().iter().filter_map(|instance| instance.info()).collect()
    }

    /// The series that satisfy every matcher, in order of instance and column.
    pub fn select(&self, matchers: &[Matcher]) -> Vec<SeriesInfo> {
        let mut found = Vec::new();
        for instance in self.all() {
            instance.select(matchers, &mut found);
        }
        found
    }
}

impl Instance {
    fn info(&self) -> Option<InstanceInfo> {
        let file_len = self.file_len();
        let state = lock(&self.state);
        let series = state.columns.iter().flatten();
        let newest = series.clone().map(|series| newest(series, state.form.policy.step())).max();
        (state.is_granted && !state.is_removed).then(|| InstanceInfo {
            id: self.id,
            labels: state.labels.clone(),
            series_count: series.count(),
            newest: newest.unwrap_or(Timestamp::MIN),
            file_len,
            policy: state.form.policy.clone(),
        })
    }

    fn select(&self, matchers: &[Matcher], found: &mut Vec<SeriesInfo>) {
        let state = lock(&self.state);
        // A label of the instance covers the same label of any series, so it decides for all at once.
        let decides = |matcher: &&Matcher| state.labels.get(matcher.name()).is_some();
        if !matchers.iter().filter(decides).all(|matcher| matcher.matches(&state.labels)) {
            return;
        }
        let open: Vec<_> = matchers.iter().filter(|matcher| !decides(matcher)).collect();
        for (index, series) in (0..).zip(&state.columns) {
            let Some(series) = series else { continue };
            if open.iter().all(|matcher| matcher.accepts(key_label(&series.key, matcher.name()))) {
                found.extend(self.series_info(&state, index, series));
            }
        }
    }

    fn series_info(&self, state: &State, index: u32, series: &Series) -> Option<SeriesInfo> {
        let labels = Labels::from_key(&series.key).ok()?;
        let column = Column { index, generation: series.generation };
        Some(SeriesInfo {
            series: SeriesRef { instance: self.id, column },
            labels: labels.overlaid(&state.labels),
            kind: series.definition.kind,
            archives: Arc::clone(&state.form.archives),
            newest: newest(series, state.form.policy.step()),
            visible_ms: (!series.open.is_ended()).then_some(series.definition.heartbeat_ms),
            birth: series.open.birth,
        })
    }
}

fn newest(series: &Series, step: Step) -> Timestamp {
    if series.open.is_unborn() || series.open.opened(step) <= series.open.birth {
        return Timestamp::MIN;
    }
    series.open.opened(step)
}

/// The value of a label in a key, read in place: most series are looked at and not wanted.
fn key_label<'a>(key: &'a [u8], name: &str) -> &'a str {
    let mut texts = KeyTexts(key);
    while let (Some(known), Some(value)) = (texts.next(), texts.next()) {
        if known == name.as_bytes() {
            return std::str::from_utf8(value).unwrap_or_default();
        }
    }
    ""
}

/// The texts of a key: each behind its length.
struct KeyTexts<'a>(&'a [u8]);

impl<'a> Iterator for KeyTexts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk::<2>()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        self.0 = rest;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_found_in_a_key_without_decoding_it() {
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]).unwrap();
        let key = labels.to_key();
        for (name, value) in [("__name__", "up"), ("job", "node"), ("zone", ""), ("up", "")] {
            assert_eq!(key_label(&key, name), value, "{name}");
        }
        assert_eq!(key_label(&key[..key.len() - 1], "job"), "");
    }
}
