//! Refusals of one request: all are counted, the first few are shown to the sender.

use std::collections::HashMap;

use rrd::InstanceId;

use crate::accounting::{Reason, Tally};
use crate::intake::Denial;
use crate::native::{REFUSED_SHOWN, RefusedSeries};

/// What was refused while the rest of a request was stored.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    shown: Vec<RefusedSeries>,
    counts: HashMap<(Option<InstanceId>, Reason), u64>,
    left_out: u64,
    passed_over: u64,
}

impl Refusals {
    /// Refuses `count` samples of a series; `series` is asked for its text only while there is room
    /// to show it.
    pub(crate) fn add(
        &mut self,
        instance: Option<InstanceId>,
        reason: Reason,
        count: u64,
        series: impl FnOnce() -> String,
        message: &str,
    ) {
        if self.shown.len() < REFUSED_SHOWN {
            let (reason, message) = (reason.word().to_owned(), message.to_owned());
            self.shown.push(RefusedSeries { series: series(), reason, message });
        }
        *self.counts.entry((instance, reason)).or_default() += count;
    }

    /// Counts samples of a series that the operator's rules leave out. That is no fault of the
    /// sender's, which hears nothing of it.
    pub(crate) fn leave_out(&mut self, samples: usize) {
        self.left_out += u64::try_from(samples).unwrap_or(u64::MAX);
    }

    /// Samples left out by the operator's rules.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Counts samples that are refused as a matter of course, so that nobody is told of each.
    pub(crate) fn pass_over(&mut self, reason: Reason, count: u64) {
        self.passed_over += count;
        *self.counts.entry((None, reason)).or_default() += count;
    }

    /// Samples refused that their sender should hear of.
    pub(crate) fn told(&self) -> u64 {
        self.samples() - self.passed_over
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Samples refused.
    pub(crate) fn samples(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Of a request that had nothing stored: an error when that may change with time, so that it is
    /// sent again. Where something was stored, the rest is refused for good: or new series would
    /// hold up the known ones.
    pub(crate) fn stored_nothing(&self) -> Result<(), Denial> {
        let any = |reason| self.counts.keys().any(|(_, known)| *known == reason);
        if any(Reason::DiskFull) {
            let full = |shown: &&RefusedSeries| shown.reason == Reason::DiskFull.word();
            let told = self.shown.iter().find(full).map(|shown| shown.message.as_str());
            return Err(Denial::no_space(told.unwrap_or("no space is left for new series")));
        }
        if any(Reason::Store) {
            return Err(Denial::later("store", "the store cannot take the series now"));
        }
        Ok(())
    }

    /// Enters the counts into a request's tally.
    pub(crate) fn tally(&self, tally: &mut Tally) {
        for ((instance, reason), count) in &self.counts {
            tally.refused(*instance, *reason, *count);
        }
        if self.left_out > 0 {
            tally.refused(None, Reason::Relabelled, self.left_out);
        }
    }

    pub(crate) fn into_shown(self) -> Vec<RefusedSeries> {
        self.shown
    }
}
