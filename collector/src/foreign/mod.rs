//! Series of senders of other makes: from whatever a protocol calls them to samples of known columns
//! and series not seen before.
//!
//! A protocol hands every series it reads to a [`Sorter`]: bytes that stand for its labels, the
//! labels themselves only if asked for, its samples, and the kind if the wire tells it. Labels `job`
//! and `instance` name the instance; all others stay with the series.

pub(crate) mod cache;
pub(crate) mod family;
mod groups;
pub(crate) mod guesses;
pub(crate) mod kinds;
pub(crate) mod relabel;
pub(crate) mod spelling;

use std::fmt::Write as _;
use std::sync::Arc;

use rrd::{InstanceId, Kind, Labels, Sample, Timestamp};

use crate::accounting::Reason;
use crate::limits::{Window, checked_series};
use crate::refusals::Refusals;
use crate::registry::{Namespace, TokenId};
use cache::{Keys, Place, Reader, SeriesCache, SeriesKey};
use family::FamilyKind;
pub(crate) use groups::Groups;
use relabel::Rules;
use spelling::Pairs;

/// How a series came. Two protocols may use the same bytes for two series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    RemoteWrite = 0,
    RemoteWrite2 = 1,
    Otlp = 2,
    Influx = 3,
    Graphite = 4,
    Collectd = 5,
    Zabbix = 6,
    Beat = 10,
    Scrape = 16,
    Pushgateway = 17,
    /// What the server found itself.
    Local = 18,
}

/// Who sends, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) protocol: Protocol,
    /// The relay token (`None`: the admin token).
    pub(crate) relay: Option<TokenId>,
}

/// The labels of a series as a protocol has them; read only where the series is not known yet, or
/// something is wrong with it.
pub(crate) trait Named {
    /// All labels, `__name__`, `job` and `instance` included, within the limits.
    fn labels(&self) -> Result<Labels, (Reason, String)>;

    /// The series for a person, whatever is wrong with it; cut where it gets long.
    fn shown(&self) -> String;
}

/// A request, sorted into what is known and what is not.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// Samples of known columns, by instance.
    pub(crate) groups: Groups,
    /// Series whose label bytes were not seen before.
    pub(crate) strangers: Vec<Stranger>,
    /// What the sender said about families.
    pub(crate) families: Vec<(String, FamilyKind)>,
    pub(crate) refusals: Refusals,
    pub(crate) exemplars: u64,
    /// Series that the operator's rules leave out, not seen before.
    pub(crate) left_out: Vec<SeriesKey>,
}

/// A series whose label bytes were not seen before.
#[derive(Debug)]
pub(crate) struct Stranger {
    pub(crate) key: SeriesKey,
    /// The same for neighbours of one instance.
    pub(crate) space: Arc<Namespace>,
    /// Labels without `job` and `instance`.
    pub(crate) labels: Labels,
    /// What the wire tells; without it what is known of the family, or the name, decides.
    pub(crate) kind: Option<Kind>,
    pub(crate) samples: Vec<(Timestamp, f64)>,
}

/// Sorts the series of one request. Changes nothing outside itself.
pub(crate) struct Sorter<'a> {
    reader: Reader<'a>,
    keys: Keys,
    relay: Option<TokenId>,
    window: Window,
    rules: Vec<Arc<Rules>>,
    pub(crate) sorted: Sorted,
}

impl<'a> Sorter<'a> {
    pub(crate) fn new(cache: &'a SeriesCache, origin: Origin, window: Window) -> Self {
        let (keys, relay) = (cache.keys(origin), origin.relay);
        let rules = Vec::new();
        Self { reader: cache.reader(), keys, relay, window, rules, sorted: Sorted::default() }
    }

    /// The same under the operator's rules. Series known under others are strangers.
    pub(crate) fn under(mut self, rules: Vec<Arc<Rules>>) -> Self {
        self.keys = rules.iter().fold(self.keys, |keys, rules| keys.under(rules.edition()));
        self.rules = rules;
        self
    }

    /// Takes a series. Equal `key` bytes are equal labels. Samples out of the window are refused.
    pub(crate) fn series(
        &mut self,
        key: &[u8],
        name: &impl Named,
        (samples, kind): (&[(Timestamp, f64)], Option<Kind>),
    ) {
        let key = self.keys.of(key);
        match self.reader.get(key) {
            Some(Place::LEFT_OUT) => return self.sorted.refusals.leave_out(samples.len()),
            Some(place) => return self.known(place, name, samples),
            None => {}
        }
        self.reader.rest();
        self.stranger(key, name, (samples, kind));
    }

    /// Lets go of the table of known series, before anything that takes longer than a look.
    pub(crate) fn rest(&mut self) {
        self.reader.rest();
    }

    /// Refuses `count` samples of a series.
    pub(crate) fn refuse(&mut self, reason: Reason, count: u64, name: &impl Named, message: &str) {
        if count > 0 {
            self.sorted.refusals.add(None, reason, count, || name.shown(), message);
        }
    }

    #[inline]
    fn known(&mut self, place: Place, name: &impl Named, samples: &[(Timestamp, f64)]) {
        let group = self.sorted.groups.of(place.instance);
        let mut refused = [0_u64; 2];
        for (at, value) in samples {
            match self.window.refuses(*at) {
                None => group.push(Sample { column: place.column, at: *at, value: *value }),
                Some(Reason::Future) => refused[0] += 1,
                Some(_) => refused[1] += 1,
            }
        }
        self.refuse_times(Some(place.instance), refused, name);
    }

    fn stranger(
        &mut self,
        key: SeriesKey,
        name: &impl Named,
        (samples, kind): (&[(Timestamp, f64)], Option<Kind>),
    ) {
        let count = u64::try_from(samples.len()).expect("limited");
        let labels = match name.labels() {
            Ok(labels) => labels,
            Err((reason, message)) => return self.refuse(reason, count, name, &message),
        };
        let labels = match self.rules.iter().try_fold(Some(labels), |labels, rules| {
            labels.map_or(Ok(None), |labels| rules.apply(&labels))
        }) {
            Ok(Some(labels)) => labels,
            Ok(None) => {
                self.sorted.left_out.push(key);
                return self.sorted.refusals.leave_out(samples.len());
            }
            Err((reason, message)) => return self.refuse(reason, count, name, &message),
        };
        let mut refused = [0_u64; 2];
        let keep = |sample: &&(Timestamp, f64)| match self.window.refuses(sample.0) {
            None => true,
            Some(reason) => {
                refused[usize::from(reason != Reason::Future)] += 1;
                false
            }
        };
        let samples: Vec<_> = samples.iter().filter(keep).copied().collect();
        self.refuse_times(None, refused, name);
        if samples.is_empty() {
            return;
        }
        let space = self.space(&labels);
        let labels = labels.filtered(|name| name != "job" && name != "instance");
        self.sorted.strangers.push(Stranger { key, space, labels, kind, samples });
    }

    /// What the sender calls the instance of a series.
    fn space(&self, labels: &Labels) -> Arc<Namespace> {
        let label = |name: &str| labels.get(name).unwrap_or_default();
        let (job, instance) = (label("job"), label("instance"));
        let last = self.sorted.strangers.last().map(|stranger| &stranger.space);
        match last.filter(|last| last.job == job && last.instance == instance) {
            Some(last) => Arc::clone(last),
            None => Arc::new(Namespace {
                relay: self.relay,
                job: job.to_owned(),
                instance: instance.to_owned(),
            }),
        }
    }

    #[inline]
    fn refuse_times(&mut self, instance: Option<InstanceId>, counts: [u64; 2], name: &impl Named) {
        // As with nearly every series.
        if counts == [0; 2] {
            return;
        }
        for (reason, count) in [Reason::Future, Reason::TooOld].into_iter().zip(counts) {
            if count > 0 {
                let message = time_message(reason);
                self.sorted.refusals.add(instance, reason, count, || name.shown(), message);
            }
        }
    }
}

/// Labels as pairs of names and values, in any order.
impl Named for &[(&str, &str)] {
    fn labels(&self) -> Result<Labels, (Reason, String)> {
        checked_series(self)
    }

    fn shown(&self) -> String {
        shown_pairs(self.iter().copied())
    }
}

/// A piece of a request that could not be read, for a person.
pub(crate) struct Unread<'a>(pub(crate) &'a [u8]);

impl Named for Unread<'_> {
    fn labels(&self) -> Result<Labels, (Reason, String)> {
        Err((Reason::Malformed, "it cannot be read".to_owned()))
    }

    fn shown(&self) -> String {
        const LONGEST: usize = 100;
        let start = &self.0[..self.0.len().min(4 * LONGEST)];
        let text = String::from_utf8_lossy(start);
        text.chars().take(LONGEST).flat_map(char::escape_debug).collect()
    }
}

/// Labels of pairs that a protocol's reader made, within the limits.
pub(crate) fn checked_pairs(pairs: &Pairs) -> Result<Labels, (Reason, String)> {
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    checked_series(&pairs)
}

/// What a person is told about a sample at a moment that is not taken.
pub(crate) const fn time_message(reason: Reason) -> &'static str {
    match reason {
        Reason::Future => {
            "the sample is more than 10 minutes in the future; set the sender's clock"
        }
        _ => {
            "the sample is older than every archive of the instance; set the sender's clock, or keep longer"
        }
    }
}

/// Labels for a person, as PromQL writes them; cut where it gets long.
pub(crate) fn shown_pairs<N: AsRef<str>, V: AsRef<str>>(
    pairs: impl Iterator<Item = (N, V)>,
) -> String {
    const LONGEST: usize = 200;
    let cut = |text: &str| text.chars().take(LONGEST).collect::<String>();
    let mut text = String::from("{");
    for (name, value) in pairs {
        if text.len() < LONGEST {
            let (name, value) = (cut(name.as_ref()), cut(value.as_ref()));
            write!(text, "{name}={value:?},").expect("a string takes what is written to it");
        }
    }
    format!("{}}}", text.trim_end_matches(','))
}
