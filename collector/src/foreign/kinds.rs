//! Kinds of series: by the operator's word, the wire, what a sender said about the family, else by
//! the metric's name.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};

use rrd::{Kind, Labels, Matcher};

use super::family::FamilyKind;
use crate::limits::LABEL_VALUE_LIMIT;
use crate::registry::TokenId;

/// Families remembered at most, of all relays: a busy Prometheus knows some thousands.
const FAMILY_LIMIT: usize = 100_000;

/// How the kind of a series was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Somebody said so: the operator, the wire or the family's metadata.
    Told(Kind),
    /// By its name, or not at all.
    Guessed(Kind),
}

impl Found {
    pub(crate) const fn kind(self) -> Kind {
        let (Self::Told(kind) | Self::Guessed(kind)) = self;
        kind
    }
}

/// Matchers of the operator's and the kind of what satisfies all of them.
pub(crate) type KindRule = (Vec<Matcher>, Kind);

/// What the operator said: the first rule that matches decides.
#[derive(Debug, Default)]
pub(crate) struct OperatorKinds(RwLock<Vec<KindRule>>);

impl OperatorKinds {
    pub(crate) fn set(&self, rules: Vec<KindRule>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// The kind of a series whose labels, those of its instance included, `labels` gives when there
    /// is a rule to ask.
    pub(crate) fn kind(&self, labels: impl FnOnce() -> Labels) -> Option<Kind> {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if rules.is_empty() {
            return None;
        }
        let labels = labels();
        let matches = |rule: &&KindRule| rule.0.iter().all(|matcher| matcher.matches(&labels));
        rules.iter().find(matches).map(|(_, kind)| *kind)
    }
}

/// What senders said about families: metadata come in requests of their own.
#[derive(Debug, Default)]
pub(crate) struct Families {
    known: Mutex<HashMap<Option<TokenId>, OfRelay>>,
}

type OfRelay = HashMap<Box<str>, FamilyKind>;

impl Families {
    /// Remembers what `relay` said; true when some of it was new. Beyond the limit new families are
    /// left to the rules of names.
    pub(crate) fn learn(&self, relay: Option<TokenId>, told: Vec<(String, FamilyKind)>) -> bool {
        let mut is_new = false;
        if told.is_empty() {
            return is_new;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = FAMILY_LIMIT.saturating_sub(known.values().map(HashMap::len).sum());
        let families = known.entry(relay).or_default();
        for (name, kind) in told {
            if name.len() > LABEL_VALUE_LIMIT {
                continue;
            }
            if let Some(held) = families.get_mut(name.as_str()) {
                is_new |= *held != kind;
                *held = kind;
            } else if room > 0 {
                families.insert(name.into_boxed_str(), kind);
                room -= 1;
                is_new = true;
            }
        }
        is_new
    }

    /// What `relay` said about `metric`.
    pub(crate) fn told(&self, relay: Option<TokenId>, metric: &str) -> Option<Kind> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let families = known.get(&relay)?;
        told(metric, |name| families.get(name).copied())
    }

    /// The kind of a series of `relay`; `sibling` tells whether a metric with the same other labels
    /// came along.
    pub(crate) fn kind(
        &self,
        relay: Option<TokenId>,
        labels: &Labels,
        sibling: impl Fn(&str) -> bool,
    ) -> Found {
        let metric = labels.metric().unwrap_or_default();
        match self.told(relay, metric) {
            Some(kind) => Found::Told(kind),
            None => Found::Guessed(by_name(metric, labels, sibling)),
        }
    }
}

/// What may stand behind the name of a family that metadata speak of.
pub(crate) const SUFFIXES: [&str; 5] = ["_bucket", "_count", "_sum", "_total", "_created"];

/// What the family of `metric` says about it.
fn told(metric: &str, family: impl Fn(&str) -> Option<FamilyKind>) -> Option<Kind> {
    if let Some(told) = family(metric) {
        return told.kind("");
    }
    SUFFIXES.iter().find_map(|suffix| family(metric.strip_suffix(suffix)?)?.kind(suffix))
}

/// What a name suggests where nobody said anything.
pub(crate) fn by_name(metric: &str, labels: &Labels, sibling: impl Fn(&str) -> bool) -> Kind {
    let counts = match metric.rsplit_once('_') {
        Some((_, "total")) => true,
        Some((_, "bucket")) => labels.get("le").is_some(),
        Some((family, "count")) => sibling(&format!("{family}_sum")),
        Some((family, "sum")) => sibling(&format!("{family}_count")),
        _ => false,
    };
    if counts { Kind::Total } else { Kind::Unknown }
}

#[cfg(test)]
mod tests {
    use rrd::NAME;

    use super::*;

    #[test]
    fn names_decide_where_nobody_said_anything() {
        let families = Families::default();
        for (metric, label, sibling, kind) in [
            ("requests_total", "", "", Kind::Total),
            ("latency_bucket", "le", "", Kind::Total),
            ("latency_bucket", "", "", Kind::Unknown),
            ("latency_count", "", "latency_sum", Kind::Total),
            ("latency_sum", "", "latency_count", Kind::Total),
            ("users_count", "", "", Kind::Unknown),
            ("temperature", "", "", Kind::Unknown),
            ("total", "", "", Kind::Unknown),
        ] {
            let pairs = [(NAME, metric), (if label.is_empty() { "x" } else { label }, "1")];
            let labels = Labels::from_pairs(pairs).unwrap();
            let found = families.kind(None, &labels, |name| name == sibling);
            assert_eq!(found, Found::Guessed(kind), "{metric}");
        }
    }

    #[test]
    fn the_operators_first_match_decides() {
        let operator = OperatorKinds::default();
        let rule = |name: &str, value: &str, kind| {
            (vec![Matcher::new(name, rrd::MatchOp::Regex, value).unwrap()], kind)
        };
        let labels = || Labels::default().with(NAME, "hits").with("job", "web");
        assert_eq!(operator.kind(|| panic!("there is no rule")), None);
        operator.set(vec![
            rule("job", "db", Kind::Gauge),
            rule(NAME, "hit.*", Kind::Total),
            rule("job", "web", Kind::Gauge),
        ]);
        assert_eq!(operator.kind(labels), Some(Kind::Total));
        assert_eq!(operator.kind(|| labels().with(NAME, "level").with("job", "x")), None);
    }

    #[test]
    fn what_the_sender_said_wins_over_the_name() {
        let families = Families::default();
        let relay = Some(TokenId(1));
        let told = [
            ("odd_total", FamilyKind::Gauge),
            ("hits", FamilyKind::Counter),
            ("lat", FamilyKind::Histogram),
            ("rpc", FamilyKind::Summary),
            ("build", FamilyKind::Info),
        ];
        let told = told.map(|(name, kind)| (name.to_owned(), kind)).to_vec();
        assert!(families.learn(relay, told.clone()));
        assert!(!families.learn(relay, told), "nothing of it is new");
        for (metric, kind) in [
            ("odd_total", Kind::Gauge),
            ("hits", Kind::Total),
            ("hits_total", Kind::Total),
            ("hits_created", Kind::Gauge),
            ("lat_bucket", Kind::Total),
            ("lat_count", Kind::Total),
            ("lat_sum", Kind::Total),
            ("rpc", Kind::Gauge),
            ("rpc_sum", Kind::Total),
            ("build", Kind::Gauge),
        ] {
            let labels = Labels::from_pairs([(NAME, metric)]).unwrap();
            let found = families.kind(relay, &labels, |_| false);
            assert_eq!(found, Found::Told(kind), "{metric}");
        }
        let labels = Labels::from_pairs([(NAME, "odd_total")]).unwrap();
        let found = families.kind(None, &labels, |_| false);
        assert_eq!(found, Found::Guessed(Kind::Total), "another relay");
    }
}
