//! Finding series: keys by the labels in them, once for all instances; then where these have them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::columns::Series;
use super::instance::Instance;
use super::keys::{Key, Keys};
use super::roster::Roster;
use super::state::{NO_ROW, State};
use super::{Store, lock, read};
use crate::parallel::in_pieces;
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
        let search = Search { keys: &self.keys, matchers, known: Mutex::default() };
        let instances = self.candidates(matchers);
        let mut pieces = in_pieces(instances.len(), PIECE, |range| {
            let mut seeker = Seeker::of(&search);
            instances[range].iter().for_each(|instance| instance.select(&mut seeker));
            seeker.found
        });
        // Mostly there is one.
        if pieces.len() > 1 {
            pieces.into_iter().flatten().collect()
        } else {
            pieces.pop().unwrap_or_default()
        }
    }

    /// How many series are looked at to find those that satisfy every matcher, where few instances can have
    /// such and that is known at once.
    pub fn looks_at(&self, matchers: &[Matcher]) -> Option<usize> {
        let ids = self.directory.known_candidates(matchers)?;
        if ids.len() > FEW {
            return None;
        }
        let instances = ids.iter().filter_map(|id| self.instance(*id));
        Some(instances.map(|instance| lock(&instance.state).series_count).sum())
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

    fn select(&self, seeker: &mut Seeker<'_>) {
        let state = lock(&self.state);
        // A label of the instance covers the same label of any series, so it decides for all at once.
        seeker.undecided.clear();
        for matcher in seeker.search.matchers {
            match state.labels.get(matcher.name()) {
                Some(value) if !matcher.accepts(value) => return,
                value => seeker.undecided.push(value.is_none()),
            }
        }
        let (undecided, matching) = seeker.matching();
        let place = seeker.housed(state.names.roster(), &matching);
        for &(index, key) in &seeker.housed[place].places {
            let (series, labels) = (state.series_at(index), &matching.keys[key].1);
            seeker.found.extend(series.map(|series| self.info_of(&state, series, labels)));
        }
        seeker.last = Some((undecided, matching));
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

/// A look-up in a roster costs as much as a look at so many of its columns.
const LOOK_UPS_ARE_DEARER: usize = 4;

/// Rosters that a thread knows at once: members of a fleet have one, or one for each of their sites.
const MOST_ROSTERS: usize = 16;

/// So many instances are a look at each.
const FEW: usize = 4;

/// Instances that one thread looks at before it asks for more: some 300 us of work.
const PIECE: usize = 256;

/// What has been found out for one selection.
struct Search<'a> {
    keys: &'a Keys,
    matchers: &'a [Matcher],
    /// By which matchers the labels of an instance leave to its series. Held while keys are matched: who
    /// else is here mostly waits for the same.
    known: Mutex<HashMap<Vec<bool>, Arc<Matching>>>,
}

/// One thread's part of a selection.
struct Seeker<'a> {
    search: &'a Search<'a>,
    /// Matchers that the instance at hand leaves to its series.
    undecided: Vec<bool>,
    /// What it last came to: most instances leave the same.
    last: Option<(Vec<bool>, Arc<Matching>)>,
    /// What was found in the rosters of other instances, which mostly are this one's, too.
    housed: Vec<Housed>,
    found: Vec<SeriesInfo>,
}

/// Where the series of some keys are in all instances of one roster.
struct Housed {
    roster: Arc<Roster>,
    matching: Arc<Matching>,
    /// Columns in order, each with the place of its key.
    places: Vec<(usize, usize)>,
}

/// The keys that satisfy some matchers.
struct Matching {
    /// In order of address.
    keys: Vec<(Arc<Key>, Labels)>,
}

impl Search<'_> {
    fn matching(&self, undecided: &[bool]) -> Arc<Matching> {
        let mut known = lock(&self.known);
        if let Some(matching) = known.get(undecided) {
            return Arc::clone(matching);
        }
        let open = self.matchers.iter().zip(undecided);
        let open: Vec<&Matcher> = open.filter_map(|(m, &is_open)| is_open.then_some(m)).collect();
        let found = Arc::new(Matching::of(self.keys.matching(&open)));
        known.insert(undecided.to_vec(), Arc::clone(&found));
        found
    }
}

impl<'a> Seeker<'a> {
    fn of(search: &'a Search<'a>) -> Self {
        let (housed, found) = (Vec::new(), Vec::new());
        Self { search, undecided: Vec::new(), last: None, housed, found }
    }

    /// Taken from `last`, and to be put back: a count of who holds it would go from thread to thread.
    fn matching(&mut self) -> (Vec<bool>, Arc<Matching>) {
        match self.last.take() {
            Some((undecided, matching)) if undecided == self.undecided => (undecided, matching),
            _ => (self.undecided.clone(), self.search.matching(&self.undecided)),
        }
    }

    /// The place of what is known of a roster, looked for if need be.
    fn housed(&mut self, roster: &Arc<Roster>, matching: &Arc<Matching>) -> usize {
        let is_same = |housed: &Housed| {
            Arc::ptr_eq(&housed.roster, roster) && Arc::ptr_eq(&housed.matching, matching)
        };
        if let Some(place) = self.housed.iter().position(is_same) {
            return place;
        }
        if self.housed.len() >= MOST_ROSTERS {
            self.housed.clear();
        }
        let places = matching.places(roster);
        let (roster, matching) = (Arc::clone(roster), Arc::clone(matching));
        self.housed.push(Housed { roster, matching, places });
        self.housed.len() - 1
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

    /// Columns whose series have one of these keys, in order, each with the place of the key.
    fn places(&self, roster: &Roster) -> Vec<(usize, usize)> {
        if self.keys.len() > roster.column_count() / LOOK_UPS_ARE_DEARER {
            let columns = 0..roster.column_count();
            let place = |column: usize| Some((column, self.place(roster.key(column)?)?));
            return columns.filter_map(place).collect();
        }
        let keys = self.keys.iter().enumerate();
        let column =
            |(place, (key, _)): (usize, &(Arc<Key>, Labels))| Some((roster.find(key)?, place));
        let mut places: Vec<_> = keys.filter_map(column).collect();
        places.sort_unstable();
        places
    }

    /// The place of a key that matches.
    fn place(&self, key: &Arc<Key>) -> Option<usize> {
        let address = Arc::as_ptr(key);
        self.keys.binary_search_by(|(known, _)| Arc::as_ptr(known).cmp(&address)).ok()
    }
}
