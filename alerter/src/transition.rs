//! A transition: one change of one alert's state, with ids that replay gives again.

use std::fmt;

use bincode::{Decode, Encode};
use rrd::{Labels, Timestamp};
use sha2::{Digest, Sha256};

use crate::letter::reading_text;

/// What an alert is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum State {
    /// Nothing wrong.
    #[default]
    Ok,
    /// No data where there was some: neither right nor wrong.
    Unknown,
    /// Will be unusable.
    Warning,
    /// Is unusable.
    Critical,
}

impl State {
    /// The two levels that are brought to people.
    pub const fn is_alarm(self) -> bool {
        matches!(self, Self::Warning | Self::Critical)
    }
}

/// In capitals, as subjects and payloads have it.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
            Self::Unknown => "UNKNOWN",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        })
    }
}

/// Why a state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reason {
    /// A value passed a threshold, out or back.
    Threshold,
    /// Data stopped coming, and the rule says what that means.
    NoData,
    /// The rule was removed: closed, not recovered.
    RuleRemoved,
    /// The series stayed away without ever having alarmed: forgotten, not recovered.
    Forgotten,
    /// The instance was withdrawn: closed, not recovered.
    Withdrawn,
}

/// In small letters, as payloads have it.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Threshold => "threshold",
            Self::NoData => "no_data",
            Self::RuleRemoved => "rule_removed",
            Self::Forgotten => "forgotten",
            Self::Withdrawn => "withdrawn",
        })
    }
}

/// Names one incident: from the first breach until all is well. Follows from its rule, its labels
/// and the moment of the first breach, so that replay names it alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct IncidentId(pub u128);

/// Names one transition: its incident and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct TransitionId(pub u128);

impl IncidentId {
    /// The incident of `rule` on the series `labels` whose first breach was at `since`.
    pub fn of(rule: &str, labels: &Labels, since: Timestamp) -> Self {
        let mut hash = Sha256::new();
        // A zero byte cannot be in a rule's name, so that name and key never run into each other.
        hash.update(rule.as_bytes());
        hash.update([0]);
        hash.update(labels.to_key());
        hash.update(since.as_millis().to_le_bytes());
        Self(first_half(&hash.finalize().into()))
    }
}

impl TransitionId {
    /// The `sequence`-th transition of `incident`, from 1.
    pub fn of(incident: IncidentId, sequence: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(incident.0.to_le_bytes());
        hash.update(sequence.to_le_bytes());
        Self(first_half(&hash.finalize().into()))
    }
}

fn first_half(digest: &[u8; 32]) -> u128 {
    let (half, _) = digest.split_first_chunk::<16>().expect("a digest has 32 bytes");
    u128::from_le_bytes(*half)
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inc_{:032x}", self.0)
    }
}

impl fmt::Display for TransitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{:032x}", self.0)
    }
}

/// One change of one alert's state. Complete in itself: a letter or a payload needs nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// Stable over replay, retries and restarts; receivers drop repeats by it.
    pub id: TransitionId,
    /// What it belongs to: one mail thread, one ordered stream.
    pub incident: IncidentId,
    /// Place within the incident, from 1 without gaps.
    pub sequence: u32,
    /// The rule's name.
    pub rule: String,
    /// The series' labels, with the rule's own laid over them.
    pub labels: Labels,
    /// State before.
    pub from: State,
    /// State after.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// When, in the journal's time.
    pub at: Timestamp,
    /// The value judged; `None` when there was none.
    pub value: Option<f64>,
    /// The unit of the value as the rule gives it, perhaps empty.
    pub unit: String,
    /// The condition that was met, as written (`> 95`); when all is well, the one that cleared.
    pub threshold: String,
    /// When the breach that led to this state began; for OK, when the incident did.
    pub since: Timestamp,
    /// The rule's own sentence about it, perhaps empty.
    pub summary: String,
    /// Whether people are to be told: the incident is, or has been, an alarm.
    pub notify: bool,
}

impl Transition {
    /// Who it is about: the label `instance`, else the series' labels, else the rule.
    pub fn subject(&self) -> String {
        match self.labels.get("instance") {
            Some(instance) => instance.to_owned(),
            None if self.labels.is_empty() => "fleet".to_owned(),
            None => self.labels.to_string(),
        }
    }

    /// The value with its unit, as a person reads it: `97 %`, or `no data`.
    pub fn reading(&self) -> String {
        reading_text(self.value, &self.unit)
    }

    /// One line, state first: `[CRITICAL] web-1: cpu busy 97 % (> 95)`.
    pub fn title(&self) -> String {
        let (subject, rule) = (self.subject(), &self.rule);
        let said = match (self.to, self.reason) {
            (State::Ok, Reason::Threshold) => format!("{} again", self.reading()),
            (State::Ok, reason) => format!("closed ({reason})"),
            (State::Unknown, _) => "no data".to_owned(),
            _ => format!("{} ({})", self.reading(), self.threshold),
        };
        format!("[{}] {subject}: {rule} {said}", self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_rule_labels_and_first_breach_alone() {
        let web = Labels::from_pairs([("instance", "web-1")]).unwrap();
        let other = Labels::from_pairs([("instance", "web-2")]).unwrap();
        let at = Timestamp::from_secs(60);
        let id = IncidentId::of("cpu", &web, at);
        assert_eq!(id, IncidentId::of("cpu", &web, at));
        assert_ne!(id, IncidentId::of("cpu", &other, at));
        assert_ne!(id, IncidentId::of("cpu2", &web, at));
        assert_ne!(id, IncidentId::of("cpu", &web, Timestamp::from_secs(61)));
        assert_ne!(TransitionId::of(id, 1), TransitionId::of(id, 2));
    }

    /// Receivers keep these ids for days: another release must form the same ones.
    #[test]
    fn the_form_of_an_id_is_fixed() {
        let web = Labels::from_pairs([("instance", "web-1")]).unwrap();
        let incident = IncidentId::of("cpu", &web, Timestamp::from_secs(60));
        assert_eq!(incident.to_string(), "inc_9a6934d49743dd4534a25288dd200152");
        assert_eq!(
            TransitionId::of(incident, 1).to_string(),
            "evt_49c9907fe30ef86f264e33fa8e0d721a"
        );
    }
}
