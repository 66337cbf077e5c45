//! What time alone does to an instance.

use rrd::Timestamp;

use super::{Hint, Lifecycle, Move, State, Who};

/// How long a request waits for a person.
pub const PENDING_MS: i64 = 24 * 3_600_000;
/// How long an enrolled instance may take to send its first batch.
const APPROVED_MS: i64 = 3_600_000;
/// How long a machine that said it would be back may take for it: a reboot with a file check.
const MAINTENANCE_MS: i64 = 10 * 60_000;
/// How long a gone instance stays among the others, so that people see its end.
pub const ARCHIVE_AFTER_MS: i64 = 24 * 3_600_000;
/// How long silence lasts before it is a loss, when the token says nothing else.
const LOST_MS: u64 = 5 * 60_000;
/// How long a lost ephemeral instance is waited for, when its token says nothing else.
const WITHDRAW_MS: u64 = 3_600_000;
/// Silence before two gaps between batches are known: agents may look once a minute.
const UNKNOWN_GAP_MS: u64 = 90_000;
/// A sender whose batches are this far apart is not waited for three times as long.
const LONGEST_SILENT_MS: u64 = 15 * 60_000;

/// Whether an instance is meant to come and go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permanence {
    /// It is missed when it is silent, for ever.
    #[default]
    Permanent,
    /// It is expected to go, and is let go an hour after it was lost.
    Ephemeral,
}

/// What the token says of its instances; where it is silent the defaults hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Whether they come and go.
    pub permanence: Permanence,
    /// Silence before it is noted.
    pub silent_ms: Option<u64>,
    /// From then on, before it is a loss.
    pub lost_ms: Option<u64>,
    /// From the loss on, before an ephemeral instance is let go.
    pub withdraw_ms: Option<u64>,
}

impl Terms {
    /// Silence before it is noted, of a sender that is expected every third of `usual_ms` and whose last
    /// batches came `gap_ms` apart.
    pub fn silent_ms(&self, usual_ms: u64, gap_ms: Option<u64>) -> u64 {
        self.silent_ms.unwrap_or_else(|| match gap_ms {
            None => usual_ms.max(UNKNOWN_GAP_MS),
            Some(gap_ms) => usual_ms.max(gap_ms.saturating_mul(3).min(LONGEST_SILENT_MS)),
        })
    }
}

/// What is left of an instance's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It has no archive.
    Nothing,
    /// Its archive holds known rows until this moment.
    Until(Timestamp),
    /// Its archive cannot be looked at now.
    Unknown,
}

/// What is seen of an instance at a moment.
#[derive(Clone, Debug)]
pub struct Sight<'a> {
    /// Its last batch.
    pub heard: Option<Timestamp>,
    /// Silence before it is noted.
    pub silent_ms: u64,
    /// Since when anybody listens: a collector that was down has heard nobody. Also the end of a fault
    /// that had stopped the timers.
    pub listening_since: Timestamp,
    /// A fault of its zone or of ours has stopped the timers.
    pub is_frozen: bool,
    /// The cloud's last word.
    pub hint: Option<&'a Hint>,
    /// Its rows.
    pub kept: Kept,
}

/// The move that time brings about now, if any.
pub fn due(life: &Lifecycle, terms: &Terms, sight: &Sight<'_>, now: Timestamp) -> Option<Move> {
    let heard_since = sight.heard.filter(|heard| *heard > life.since);
    let waited_ms = now.millis_since(life.since.max(sight.listening_since));
    match life.state {
        State::Approved if sight.heard.is_some_and(|heard| heard >= life.since) => {
            Some(by_itself(State::Active, "its first batch came"))
        }
        State::Approved if waited_ms >= APPROVED_MS => {
            Some(by_itself(State::Expired, "it was enrolled and sent nothing within an hour"))
        }
        State::Active => silence(life, sight, now),
        State::Silent | State::Maintenance | State::Lost if heard_since.is_some() => {
            Some(by_itself(State::Active, "it was heard again"))
        }
        State::Silent | State::Lost if gone(life, sight).is_some() => gone(life, sight),
        _ if sight.is_frozen && !life.state.is_gone() => None,
        State::Silent if waited_ms >= millis(terms.lost_ms.unwrap_or(LOST_MS)) => {
            Some(loss(life, sight))
        }
        State::Maintenance if waited_ms >= MAINTENANCE_MS => {
            let what = format!("not back within ten minutes of {}", life.evidence.what);
            Some(by_itself(State::Lost, what))
        }
        State::Lost
            if terms.permanence == Permanence::Ephemeral
                && waited_ms >= millis(terms.withdraw_ms.unwrap_or(WITHDRAW_MS)) =>
        {
            let what = "it is ephemeral by its token and was lost for long enough";
            Some(Move::to(State::Withdrawn, Who::Token, what))
        }
        State::Withdrawn | State::Terminated | State::Revoked | State::Archived => {
            decay(life, sight, now)
        }
        _ => None,
    }
}

fn silence(life: &Lifecycle, sight: &Sight<'_>, now: Timestamp) -> Option<Move> {
    let last = sight.heard.unwrap_or(life.since).max(life.since).max(sight.listening_since);
    if now.millis_since(last) < millis(sight.silent_ms) {
        return None;
    }
    let what = match sight.heard {
        Some(heard) => format!("nothing came since {heard}"),
        None => "nothing came since the collector started".to_owned(),
    };
    Some(by_itself(State::Silent, what))
}

/// Silence and a cloud that says why.
fn gone(life: &Lifecycle, sight: &Sight<'_>) -> Option<Move> {
    let hint = sight.hint.filter(|hint| hint.is_gone && hint.is_about(life.since))?;
    Some(Move::to(State::Terminated, Who::Cloud, format!("silent, and {}", hint.what)))
}

fn loss(life: &Lifecycle, sight: &Sight<'_>) -> Move {
    if let Some(hint) = sight.hint.filter(|hint| !hint.is_gone && hint.is_about(life.since)) {
        let what = format!("its agent is dead and its host is not: {}", hint.what);
        return Move::to(State::Lost, Who::Cloud, what);
    }
    by_itself(State::Lost, format!("{}, and nothing says that it is gone", life.evidence.what))
}

/// Who is gone leaves the lists, then the disk.
fn decay(life: &Lifecycle, sight: &Sight<'_>, now: Timestamp) -> Option<Move> {
    if life.state != State::Archived {
        let is_old = now.millis_since(life.since) >= ARCHIVE_AFTER_MS;
        return is_old.then(|| by_itself(State::Archived, "a day has passed since its end"));
    }
    match sight.kept {
        Kept::Nothing => Some(by_itself(State::Reclaimed, "it has no rows")),
        Kept::Until(empty_at) if empty_at <= now => {
            Some(by_itself(State::Reclaimed, "its longest archive had run empty"))
        }
        Kept::Until(_) | Kept::Unknown => None,
    }
}

fn by_itself(to: State, what: impl Into<String>) -> Move {
    Move::to(to, Who::Collector, what)
}

fn millis(span_ms: u64) -> i64 {
    i64::try_from(span_ms).unwrap_or(i64::MAX)
}
