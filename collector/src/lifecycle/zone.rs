//! Zones: whether so many instances fall silent at once that the fault is the network's, or ours.

use std::collections::BTreeMap;

use rrd::Timestamp;

/// Share of a zone, in percent, that falls silent at once by a fault of the zone.
const FAULT_PERCENT: usize = 30;
/// Fewer silent ones are no fault of the zone, however small it is.
const FAULT_COUNT_MIN: usize = 5;
/// What fell silent within this time did so at once: three looks of an agent that looks once a minute.
const AT_ONCE_MS: i64 = 180_000;
/// A fault that lasts longer is not waited for: people have been told, and the dead must not stay
/// undecided for ever.
const FAULT_MS_MAX: i64 = 3_600_000;
/// How long the end of a fault is remembered: longer than the timers that began anew with it.
const HEALED_MS: i64 = 7 * 86_400_000;

/// One instance of a zone, which reports or has fallen silent.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The zone; empty when nobody said.
    pub zone: &'a str,
    /// Since when it is silent, if it is.
    pub silent_since: Option<Timestamp>,
}

/// A fault of a zone that began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The zone.
    pub zone: String,
    /// True: it began. False: it is over.
    pub has_begun: bool,
    /// How many are silent.
    pub silent: usize,
    /// Of how many.
    pub of: usize,
}

/// What is known of the zones so far.
#[derive(Debug, Default)]
pub struct Zones {
    faults: BTreeMap<String, Timestamp>,
    healed: BTreeMap<String, Timestamp>,
}

#[derive(Default)]
struct Count {
    of: usize,
    silent: usize,
    at_once: usize,
}

impl Count {
    const fn is_share(&self, silent: usize) -> bool {
        silent * 100 >= self.of * FAULT_PERCENT
    }
}

impl Zones {
    /// Looks at every member at `now`; answers what began and what is over.
    pub fn look<'a>(
        &mut self,
        members: impl IntoIterator<Item = Member<'a>>,
        now: Timestamp,
    ) -> Vec<Fault> {
        let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
        for member in members {
            let count = counts.entry(member.zone).or_default();
            count.of += 1;
            if let Some(since) = member.silent_since {
                count.silent += 1;
                count.at_once += usize::from(now.millis_since(since) <= AT_ONCE_MS);
            }
        }
        let mut changed = self.over(&counts, now);
        for (zone, count) in counts {
            let is_fault = count.at_once >= FAULT_COUNT_MIN && count.is_share(count.at_once);
            // A fault that was given up does not begin anew with those who fell silent in it.
            let is_old =
                self.healed.get(zone).is_some_and(|at| now.millis_since(*at) <= AT_ONCE_MS);
            if is_fault && !is_old && !self.faults.contains_key(zone) {
                self.faults.insert(zone.to_owned(), now);
                changed.push(fault(zone, true, &count));
            }
        }
        self.healed.retain(|_, at| now.millis_since(*at) <= HEALED_MS);
        changed
    }

    /// True while a fault stops the timers of a zone.
    pub fn is_frozen(&self, zone: &str) -> bool {
        self.faults.contains_key(zone)
    }

    /// When the last fault of a zone was over: from then on timers run anew.
    pub fn healed_at(&self, zone: &str) -> Option<Timestamp> {
        self.healed.get(zone).copied()
    }

    fn over(&mut self, counts: &BTreeMap<&str, Count>, now: Timestamp) -> Vec<Fault> {
        let nobody = Count::default();
        let is_over = |zone: &String, began: &Timestamp| {
            let count = counts.get(zone.as_str()).unwrap_or(&nobody);
            count.silent == 0
                || !count.is_share(count.silent)
                || now.millis_since(*began) >= FAULT_MS_MAX
        };
        let ended: Vec<String> = self
            .faults
            .iter()
            .filter(|(zone, began)| is_over(zone, began))
            .map(|(zone, _)| zone.clone())
            .collect();
        let mut changed = Vec::with_capacity(ended.len());
        for zone in ended {
            self.faults.remove(&zone);
            changed.push(fault(&zone, false, counts.get(zone.as_str()).unwrap_or(&nobody)));
            self.healed.insert(zone, now);
        }
        changed
    }
}

fn fault(zone: &str, has_begun: bool, count: &Count) -> Fault {
    Fault { zone: zone.to_owned(), has_begun, silent: count.silent, of: count.of }
}
