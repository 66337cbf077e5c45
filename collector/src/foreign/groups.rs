//! Samples by instance, as a request of many instances' samples becomes frames.

use std::collections::{HashMap, HashSet};

use rrd::{Column, InstanceId, Sample};

/// Samples by instance, in the order instances were met.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    members: Vec<(InstanceId, Vec<Sample>)>,
    index: HashMap<InstanceId, usize>,
    last: usize,
}

impl Groups {
    /// The samples of `instance`. Series of one target come in a row, so the last one is tried
    /// first.
    pub(crate) fn of(&mut self, instance: InstanceId) -> &mut Vec<Sample> {
        if self.members.get(self.last).is_none_or(|(id, _)| *id != instance) {
            self.last = *self.index.entry(instance).or_insert_with(|| {
                // Targets of one kind have as many series.
                let like = self.members.last().map_or(0, |(_, samples)| samples.len());
                self.members.push((instance, Vec::with_capacity(like)));
                self.members.len() - 1
            });
        }
        &mut self.members[self.last].1
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = InstanceId> {
        self.members.iter().map(|(id, _)| *id)
    }

    /// True when there is a sample of one of these columns.
    pub(crate) fn has_any(&self, columns: &HashSet<(InstanceId, Column)>) -> bool {
        let has = |(id, samples): &(InstanceId, Vec<Sample>)| {
            samples.iter().any(|sample| columns.contains(&(*id, sample.column)))
        };
        !columns.is_empty() && self.members.iter().any(has)
    }

    /// Takes an instance's samples out.
    pub(crate) fn take(&mut self, instance: InstanceId) -> Vec<Sample> {
        std::mem::take(self.of(instance))
    }

    pub(crate) fn into_parts(self) -> impl Iterator<Item = (InstanceId, Vec<Sample>)> {
        self.members.into_iter().filter(|(_, samples)| !samples.is_empty())
    }
}
