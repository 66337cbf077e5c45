//! What is left of series whose columns others took: two of each metric, `other:METRIC:avg` and
//! `other:METRIC:count`, with the label `series="__other__"`.
//!
//! They are what a role has of its members ([`super::rolled`]), in the archive of the instance itself. Of a
//! counter, whose rows are rates, they are called `other:METRIC:rate_avg` and `other:METRIC:rate_count`.
//! As for a role, the round that adds them writes the file anew beside the old one: whichever of both
//! counts has all rows, be they under the old name or added up.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use super::fold::{Leaving, Legacy};
use super::former::Former;
use super::instance::Instance;
use super::rolled::{Of, Pair};
use super::state::State;
use crate::{GrantFrame, Kind, Labels, NAME};

/// Frames of one instance whose series go into others between two rounds: each is looked at for every row
/// of these.
const MOST_FOLDS: usize = 256;
/// From here on a round is asked for.
const MANY_FOLDS: usize = MOST_FOLDS / 2;

const LABEL: &str = "series";
const VALUE: &str = "__other__";
const PREFIX: &str = "other:";

/// The two series that take what this one kept; `None` for one without a name.
pub(super) fn others(labels: &Labels, kind: Kind) -> Option<Pair> {
    let metric = labels.metric()?;
    let rate = if kind.is_counter() { "rate_" } else { "" };
    let named = |of, what: &str| {
        let name = format!("{PREFIX}{metric}:{rate}{what}");
        (of, Labels::default().with(NAME, &name).with(LABEL, VALUE))
    };
    Some([named(Of::Average, "avg"), named(Of::Count, "count")])
}

/// True of the key of a series that keeps what others left. Told from its bytes, since it is asked of all
/// series at once: the name comes first, behind a length of two bytes like all that follows.
pub(super) fn is_other(key: &[u8]) -> bool {
    let name = key.get(2..).and_then(|key| key.strip_prefix(NAME.as_bytes()));
    let metric = name.and_then(|key| key.get(2..));
    metric.is_some_and(|key| key.starts_with(PREFIX.as_bytes()) && key.ends_with(VALUE.as_bytes()))
}

/// Series whose columns a grant gives to others, before it does.
pub(super) struct Going {
    /// The instance as it was.
    before: Arc<Instance>,
    former: Arc<Former>,
    of_now: Arc<Former>,
    series: Vec<Leaving>,
}

impl Going {
    /// `None` where all columns are free, or there is no place for what was in them.
    pub(super) fn of(instance: &Instance, state: &mut State, frame: &GrantFrame) -> Option<Self> {
        let going = frame.series.iter().filter_map(|granted| {
            let series = state.series_at(granted.column.index as usize)?;
            let is_going = series.head.generation < granted.column.generation;
            if is_going { state.as_leaving(&series) } else { None }
        });
        let mut series: Vec<_> = going.collect();
        if !series.is_empty() {
            let granted = frame.series.iter().map(|granted| granted.labels.to_key());
            let there: HashSet<Vec<u8>> =
                granted.chain(state.all_series().map(|one| one.key.bytes().to_vec())).collect();
            let has_place = |(_, labels): &(Of, Labels)| there.contains(&labels.to_key());
            series.retain(|one| {
                others(&one.labels, one.kind).is_some_and(|others| others.iter().all(has_place))
            });
        }
        // While archives change nothing is granted so.
        let is_changing = state.former.as_ref().is_some_and(|former| former.folds().is_empty());
        if series.is_empty() || is_changing {
            return None;
        }
        let layout = instance.layout();
        let of_now = match state.former.clone() {
            Some(former) => former,
            None => state.begin_folding(Arc::clone(&layout)),
        };
        let columns = series.iter().map(|series| series.column.index);
        let former = Arc::new(of_now.with_later(state, Arc::clone(&layout), columns));
        let dir = instance.path.parent().unwrap_or(Path::new("."));
        let form = Arc::clone(&state.form);
        let as_it_was = State { former: Some(Arc::clone(&former)), ..State::of(Arc::clone(&form)) };
        let before = Arc::new(Instance {
            path: instance.path.clone(),
            layout: RwLock::new(layout),
            state: Mutex::new(as_it_was),
            ..Instance::new(instance.id, dir, form, Arc::default())
        });
        Some(Self { before, former, of_now, series })
    }

    /// Adds what they kept to the others of their metrics, which have their columns by now.
    pub(super) fn fold(self, state: &mut State, seq: u64) {
        let Self { before, former, of_now, series } = self;
        let legacy =
            Legacy { member: &before, is_own: true, former: &former, series, named: others };
        state.add_fold(seq, &of_now, legacy);
        let step = state.form.policy.step();
        state.look_for_newest(step);
    }
}

impl State {
    fn folds(&self) -> usize {
        self.former.as_ref().map_or(0, |former| former.folds().len())
    }

    /// No more series may go into others before a round.
    pub(super) fn has_most_folds(&self) -> bool {
        self.folds() >= MOST_FOLDS
    }

    pub(super) fn has_many_folds(&self) -> bool {
        self.folds() >= MANY_FOLDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_left_is_named_as_recording_rules_are_and_known_again_by_its_bytes() {
        let labels = Labels::from_pairs([(NAME, "load"), ("device", "a")]).unwrap();
        for (kind, names) in [
            (Kind::Gauge, ["other:load:avg", "other:load:count"]),
            (Kind::Total, ["other:load:rate_avg", "other:load:rate_count"]),
        ] {
            let found = others(&labels, kind).unwrap().map(|(_, labels)| labels);
            assert_eq!(found.each_ref().map(|labels| labels.metric().unwrap()), names);
            for labels in found {
                assert_eq!((labels.get(LABEL), labels.len()), (Some(VALUE), 2));
                assert!(is_other(&labels.to_key()), "{labels}");
            }
        }
        assert!(!is_other(&labels.to_key()) && !is_other(&[]));
        assert_eq!(others(&Labels::default(), Kind::Gauge), None);
    }
}
