//! Frames between journal and worker: which way their samples came, so that what became of them is
//! entered there too.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use rrd::Verdicts;

use super::Way;

/// Verdicts that wait for their way: the worker may be faster than the request that appended, by a
/// few frames.
const EARLY_LIMIT: usize = 10_000;

/// How far a frame may lie behind the last one applied and still be waited for. They are applied in
/// order, so that what is older was dropped with its archive.
const BEHIND_LIMIT: u64 = 1_000_000;

/// The frames under way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    known: BTreeMap<u64, Way>,
    early: HashMap<u64, Verdicts>,
}

impl Flights {
    /// Notes that frames `seqs` came by `way`; answers the verdicts that are there already.
    pub(super) fn depart(&mut self, seqs: Range<u64>, way: Way) -> Vec<Verdicts> {
        let mut landed = Vec::new();
        for seq in seqs {
            match self.early.remove(&seq) {
                Some(verdicts) => landed.push(verdicts),
                None => drop(self.known.insert(seq, way)),
            }
        }
        landed
    }

    /// The way of frame `seq`, which the worker has applied; `None` while nobody has told it.
    pub(super) fn land(&mut self, seq: u64, verdicts: &Verdicts) -> Option<Way> {
        while self.known.first_key_value().is_some_and(|(at, _)| at + BEHIND_LIMIT < seq) {
            self.known.pop_first();
        }
        let way = self.known.remove(&seq);
        if way.is_none() {
            if self.early.len() >= EARLY_LIMIT {
                self.early.clear();
            }
            self.early.insert(seq, *verdicts);
        }
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::TokenId;

    #[test]
    fn verdicts_find_their_way_whoever_is_faster() {
        let mut flights = Flights::default();
        let (one, two) = (Way::native(None), Way::native(Some(TokenId(7))));
        let verdicts = Verdicts { stored: 3, ..Verdicts::default() };
        assert!(flights.depart(5..7, one).is_empty());
        assert_eq!(flights.land(5, &verdicts), Some(one));
        assert_eq!(flights.land(7, &verdicts), None);
        assert_eq!(flights.depart(7..8, two).len(), 1);
        assert_eq!(flights.land(6, &verdicts), Some(one));
        assert!(flights.known.is_empty() && flights.early.is_empty());
    }

    #[test]
    fn frames_that_never_land_are_forgotten() {
        let mut flights = Flights::default();
        flights.depart(1..2, Way::native(None));
        for seq in 0..2 * u64::try_from(EARLY_LIMIT).unwrap() {
            flights.land(BEHIND_LIMIT + 2 + seq, &Verdicts::default());
        }
        assert!(flights.known.is_empty() && flights.early.len() <= EARLY_LIMIT);
    }
}
