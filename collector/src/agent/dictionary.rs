//! The dictionary of an agent's life: small numbers for series, and which of them the server knows.

use std::collections::HashMap;

use rrd::{Kind, NAME};

use super::reading::{Reading, Readings};
use crate::native;

/// Series of one agent's life. Mounts and interfaces that come and go make new ones; this many is
/// ten grants, and beyond it new series are given up and counted.
const ENTRIES_MAX: usize = 20_000;

/// Numbers for series, given out in the order they are first seen.
#[derive(Default)]
pub(super) struct Dictionary {
    ids: HashMap<Box<str>, HashMap<Box<str>, u32>>,
    entries: Vec<native::Entry>,
    /// By id: the server answered 200 to a push that held the entry.
    known: Vec<bool>,
}

impl Dictionary {
    /// The number of a reading's series; `None` when it is new and the dictionary is full.
    pub(super) fn id(&mut self, reading: &Reading<'_>) -> Option<u32> {
        let series = self.ids.get(reading.metric);
        if let Some(id) = series.and_then(|series| series.get(reading.key())) {
            return Some(*id);
        }
        if self.entries.len() >= ENTRIES_MAX {
            return None;
        }
        let id = u32::try_from(self.entries.len()).ok()?;
        let name = (NAME.to_owned(), reading.metric.to_owned());
        let labels = reading.labels().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let labels = std::iter::once(name).chain(labels).collect();
        self.entries.push(native::Entry { id, kind: reading.kind as u8, labels });
        self.known.push(false);
        let series = self.ids.entry(reading.metric.into()).or_default();
        series.insert(reading.key().into(), id);
        Some(id)
    }

    /// The number of a series that an earlier life has named, or that is named anew.
    pub(super) fn adopt(&mut self, entry: &native::Entry) -> Option<u32> {
        let (metric, labels) = match entry.labels.split_first() {
            Some(((name, metric), labels)) if name == NAME => (metric.as_str(), labels),
            _ => return None,
        };
        let labels: Vec<(&str, &str)> =
            labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut one = Readings::default();
        one.add(metric, &labels, Kind::from_number(entry.kind).unwrap_or(Kind::Unknown), 0.0);
        let reading = one.iter().next()?;
        self.id(&reading)
    }

    /// What a number stands for.
    pub(super) fn entry(&self, id: u32) -> Option<&native::Entry> {
        self.entries.get(index(id))
    }

    /// The entries among these readings that the server does not know, each once.
    pub(super) fn unknown_in(&self, readings: &[native::Reading]) -> Vec<native::Entry> {
        let ids = readings.iter().flat_map(|reading| reading.values.iter().map(|(id, _)| *id));
        let mut unknown: Vec<u32> = ids.filter(|id| !self.is_known(*id)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown.into_iter().filter_map(|id| self.entries.get(index(id)).cloned()).collect()
    }

    fn is_known(&self, id: u32) -> bool {
        self.known.get(index(id)).copied().unwrap_or(false)
    }

    /// The server has these entries.
    pub(super) fn acknowledge(&mut self, ids: &[u32]) {
        for id in ids {
            if let Some(known) = self.known.get_mut(index(*id)) {
                *known = true;
            }
        }
    }

    /// The server has no entry at all: it began anew, or another one answers.
    pub(super) fn forget(&mut self) {
        self.known.fill(false);
    }
}

fn index(id: u32) -> usize {
    usize::try_from(id).expect("ids count entries, which a usize counts as well")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids_of(dictionary: &mut Dictionary, devices: &[&str]) -> Vec<u32> {
        let mut readings = Readings::default();
        for device in devices {
            readings.total("node_disk_read_bytes_total", &[("device", device)], 1.0);
        }
        readings.iter().filter_map(|reading| dictionary.id(&reading)).collect()
    }

    fn reading_of(ids: &[u32]) -> native::Reading {
        native::Reading { at_ms: 0, values: ids.iter().map(|id| (*id, 1.0)).collect() }
    }

    #[test]
    fn a_series_keeps_its_number() {
        let mut dictionary = Dictionary::default();
        assert_eq!(ids_of(&mut dictionary, &["sda", "sdb"]), [0, 1]);
        assert_eq!(ids_of(&mut dictionary, &["sdb", "sdc", "sda"]), [1, 2, 0]);
    }

    #[test]
    fn entries_are_unknown_until_acknowledged_and_after_forgetting() {
        let mut dictionary = Dictionary::default();
        let ids = ids_of(&mut dictionary, &["sda", "sdb"]);
        let readings = [reading_of(&ids), reading_of(&ids)];
        assert_eq!(dictionary.unknown_in(&readings).len(), 2);
        dictionary.acknowledge(&[0]);
        let unknown = dictionary.unknown_in(&readings);
        assert_eq!(unknown.len(), 1);
        let labels = [(NAME, "node_disk_read_bytes_total"), ("device", "sdb")];
        assert_eq!(unknown[0].labels, labels.map(|(n, v)| (n.to_owned(), v.to_owned())));
        dictionary.acknowledge(&[1]);
        assert!(dictionary.unknown_in(&readings).is_empty());
        dictionary.forget();
        assert_eq!(dictionary.unknown_in(&readings).len(), 2);
    }

    #[test]
    fn a_full_dictionary_takes_no_new_series() {
        let mut dictionary = Dictionary::default();
        let names: Vec<String> = (0..=ENTRIES_MAX).map(|n| format!("sd{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(ids_of(&mut dictionary, &names).len(), ENTRIES_MAX);
        assert_eq!(ids_of(&mut dictionary, &["sd0"]), [0], "known series go on");
    }
}
