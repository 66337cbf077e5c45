//! Finding series: keys by the labels in them, once for all instances; then where these have them.

use std::collections::HashMap;
use std::sync::Arc;

use super::columns::Series;
use super::instance::Instance;
use super::keys::{Key, Keys};
use super::state::{NO_ROW, State};
use super::{Store, lock, read};
use crate::{ArchiveSpec, InstanceId, Kind, Labels, Matcher, Policy, SeriesRef, Timestamp};

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
        let mut search = Search { keys: &self.keys, matchers, known: HashMap::new() };
        let mut found = Vec::new();
        let mut undecided = Vec::with_capacity(matchers.len());
        for instance in self.candidates(matchers) {
            instance.select(&mut search, &mut undecided, &mut found);
        }
        found
    }

    /// All instances that can have a series for these matchers, and maybe others, in order of id.
    fn candidates(&self, matchers: &[Matcher]) -> Vec<Arc<Instance>> {
        let Some(ids) = self.directory.candidates(matchers, || self.all()) else {
            return self.all();
        };
        let instances = read(&self.instances);
        ids.iter().filter_map(|id| instances.get(id).map(Arc::clone)).collect()
    }
}

impl Instance {
    fn info(&self) -> Option<InstanceInfo> {
        let file_len = self.file_len();
        let state = lock(&self.state);
        let newest = match state.newest_row {
            NO_ROW => Timestamp::MIN,
            row => Timestamp::row_end(row, state.form.policy.step()),
        };
        (state.is_granted && !state.is_removed).then(|| InstanceInfo {
            id: self.id,
            labels: state.labels.clone(),
            series_count: state.series_count,
            newest,
            file_len,
            policy: state.form.policy.clone(),
        })
    }

    fn select(
        &self,
        search: &mut Search<'_>,
        undecided: &mut Vec<bool>,
        found: &mut Vec<SeriesInfo>,
    ) {
        let state = lock(&self.state);
        // A label of the instance covers the same label of any series, so it decides for all at once.
        undecided.clear();
        for matcher in search.matchers {
            match state.labels.get(matcher.name()) {
                Some(value) if !matcher.accepts(value) => return,
                value => undecided.push(value.is_none()),
            }
        }
        let matching = search.matching(undecided);
        for (index, labels) in self.places(&state, matching) {
            found.extend(state.series_at(index).map(|series| self.info_of(&state, series, labels)));
        }
    }

    /// Columns whose series have one of these keys, in order, and the labels of the key.
    fn places<'a>(&self, state: &State, matching: &'a Matching) -> Vec<(usize, &'a Labels)> {
        if matching.keys.len() > state.columns.len() / LOOK_UPS_ARE_DEARER {
            let all = state.all_series();
            let labels = all.map(|series| (series.index, matching.labels(series.key)));
            return labels.filter_map(|(index, labels)| Some((index, labels?))).collect();
        }
        let index = read(&self.index);
        let place = |(key, labels): &'a (Arc<Key>, Labels)| {
            let column = index.column(key)?;
            // The index is ahead of the worker: a grant may not have been applied yet.
            Some((state.series(column)?.index, labels))
        };
        let mut places: Vec<_> = matching.keys.iter().filter_map(place).collect();
        places.sort_unstable_by_key(|(index, _)| *index);
        places
    }

    fn info_of(&self, state: &State, series: Series<'_>, labels: &Labels) -> SeriesInfo {
        let heartbeat_ms = series.class.definition.heartbeat_ms;
        SeriesInfo {
            series: SeriesRef { instance: self.id, column: series.column() },
            labels: labels.overlaid(&state.labels),
            kind: series.class.definition.kind,
            archives: Arc::clone(&state.form.archives),
            newest: series.newest(state.form.policy.step()),
            visible_ms: (!series.head.is_ended()).then_some(heartbeat_ms),
            birth: series.birth,
        }
    }
}

/// A look-up in an instance's index costs as much as a look at so many of its series.
const LOOK_UPS_ARE_DEARER: usize = 4;

/// What has been found out for one selection.
struct Search<'a> {
    keys: &'a Keys,
    matchers: &'a [Matcher],
    /// By which matchers the labels of an instance leave to its series: most leave the same.
    known: HashMap<Vec<bool>, Matching>,
}

/// The keys that satisfy some matchers.
struct Matching {
    /// In order of address.
    keys: Vec<(Arc<Key>, Labels)>,
}

impl Search<'_> {
    fn matching(&mut self, undecided: &[bool]) -> &Matching {
        if !self.known.contains_key(undecided) {
            let open = self.matchers.iter().zip(undecided);
            let open: Vec<&Matcher> =
                open.filter_map(|(m, &is_open)| is_open.then_some(m)).collect();
            let found = Matching::of(self.keys.matching(&open));
            self.known.insert(undecided.to_vec(), found);
        }
        &self.known[undecided]
    }
}

impl Matching {
    fn of(keys: Vec<Arc<Key>>) -> Self {
        let labelled = keys.into_iter().filter_map(|key| {
            let labels = Labels::from_key(key.bytes()).ok()?;
            Some((key, labels))
        });
        let mut keys: Vec<_> = labelled.collect();
        keys.sort_unstable_by_key(|(key, _)| Arc::as_ptr(key));
        Self { keys }
    }

    /// The labels of a key that matches.
    fn labels(&self, key: &Arc<Key>) -> Option<&Labels> {
        let address = Arc::as_ptr(key);
        let place = self.keys.binary_search_by(|(known, _)| Arc::as_ptr(known).cmp(&address));
        Some(&self.keys[place.ok()?].1)
    }
}
