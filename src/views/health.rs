//! The program's own state: ready or not, facts for the page, counters for Prometheus.

mod metrics;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use collector::accounting::{Counts, Reason, Way};
use collector::listen::Tls;
use collector::{Accounting, Registry};
use journal::Journal;
use rrd::{Clock, Store, Timestamp};
use web::views::{Fact, FactGroup, FactValue, HealthView, Level};

use crate::scrub::Scrubbed;

/// A fill from which the journal needs a look: a round should have begun at five eighths.
const FULL: f64 = 0.9;
/// A share of the disk limit from which it needs a look: new series come in blocks.
const NEAR_LIMIT: f64 = 0.9;
/// Senders that are named whose samples are refused.
const SENDERS_SHOWN: usize = 10;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// A wall clock this far from the journal's time is an alarm.
const WALL_OFF_MS: i64 = 120_000;

/// What the worker tells about itself.
#[derive(Default)]
pub(crate) struct Pulse {
    pub(crate) ready: AtomicBool,
    /// The last frame applied.
    pub(crate) applied: AtomicU64,
}

/// The program's own state.
pub(crate) struct Health {
    pub(crate) journal: Journal,
    pub(crate) store: Arc<Store>,
    pub(crate) accounting: Arc<Accounting>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) scrubbed: Arc<Scrubbed>,
    pub(crate) started_at: Timestamp,
    /// Most bytes of all archives.
    pub(crate) disk_limit: u64,
    pub(crate) tls: Option<Arc<Tls>>,
}

impl HealthView for Health {
    fn recovered(&self) -> bool {
        self.pulse.ready.load(Ordering::Acquire)
    }

    fn ready(&self) -> bool {
        self.recovered() && self.journal.failure().is_none()
    }

    fn facts(&self) -> Vec<FactGroup> {
        let mut groups = vec![self.program(), self.log(), self.archives(), self.samples()];
        groups.extend(self.refusals());
        groups
    }

    fn metrics(&self, out: &mut String) {
        self.write_metrics(out);
    }
}

impl Health {
    fn program(&self) -> FactGroup {
        let up = self.clock.wall().millis_since(self.started_at);
        let version = FactValue::Text(env!("CARGO_PKG_VERSION").to_owned());
        group(
            "Program",
            vec![
                fact("Version", version, Level::Ok, ""),
                fact("Running for", FactValue::Millis(up.unsigned_abs()), Level::Ok, ""),
                self.encryption(),
            ],
        )
    }

    /// Whether TLS is spoken, and with the files as they are now.
    fn encryption(&self) -> Fact {
        let text = |text: &str| FactValue::Text(text.to_owned());
        let Some(tls) = &self.tls else { return fact("TLS", text("off"), Level::Ok, "") };
        let (level, note) = certificate(tls.ends_at(), self.clock.wall());
        match tls.problem() {
            None => fact("TLS", text("on"), level, &note),
            Some(problem) => {
                let note = format!("{problem}; {note}");
                fact("TLS", text("former files"), level.max(Level::Warning), &note)
            }
        }
    }

    /// Who sends what is not taken, and why; the worst first.
    fn refusals(&self) -> Option<FactGroup> {
        let mut senders: Vec<(Way, Counts)> = self.accounting.ways();
        senders.retain(|(_, counts)| counts.refused_total() > 0);
        senders.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.refused_total()));
        let others = senders.split_off(senders.len().min(SENDERS_SHOWN));
        let mut facts: Vec<Fact> =
            senders.iter().map(|(way, counts)| self.refused_of(*way, counts)).collect();
        let rest: u64 = others.iter().map(|(_, counts)| counts.refused_total()).sum();
        if !others.is_empty() {
            let note = format!("{} senders; see /api/v1/accounting", others.len());
            facts.push(fact("Others", FactValue::Count(rest), Level::Warning, &note));
        }
        (!facts.is_empty()).then(|| group("Refused samples by sender", facts))
    }

    fn refused_of(&self, way: Way, counts: &Counts) -> Fact {
        let token = way.token.and_then(|id| self.registry.token(id));
        let name = match (way.token, token) {
            (None, _) => "this server or the admin token".to_owned(),
            (Some(_), Some(token)) if !token.name.is_empty() => token.name.clone(),
            (Some(id), _) => format!("token {id}"),
        };
        let mut reasons: Vec<_> = counts.refused.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let said = |(reason, count): (&Reason, &u64)| {
            format!("{} {}", reason.word().replace('_', " "), count)
        };
        let reasons: Vec<String> = reasons.into_iter().map(said).collect();
        let of = counts.received;
        let note = format!("{}; of {of} received", reasons.join(", "));
        let name = format!("{name} ({})", way.protocol.replace('_', " "));
        fact(&name, FactValue::Count(counts.refused_total()), Level::Warning, &note)
    }

    fn archives(&self) -> FactGroup {
        let instances = self.store.instances();
        let series: usize = instances.iter().map(|instance| instance.series_count).sum();
        let bytes = instances.iter().map(|instance| instance.file_len).sum();
        let damage = self.store.damage();
        let (level, note) = match damage.first() {
            Some(first) => (Level::Critical, first.to_string()),
            None => (Level::Ok, String::new()),
        };
        let unavailable = self.store.unavailable();
        let (apart, why) = match unavailable.first() {
            Some(first) => (Level::Critical, first.to_string()),
            None => (Level::Ok, String::new()),
        };
        let constant = "never grows with time, only with new series";
        group(
            "Archives",
            vec![
                fact("Instances", FactValue::Count(instances.len() as u64), Level::Ok, ""),
                fact("Series", FactValue::Count(series as u64), Level::Ok, ""),
                fact("On disk", FactValue::Bytes(bytes), Level::Ok, constant),
                self.limit(bytes),
                fact("Set apart", FactValue::Count(unavailable.len() as u64), apart, &why),
                fact("Damaged places", FactValue::Count(damage.len() as u64), level, &note),
                self.last_pass(),
            ],
        )
    }

    /// How much of what all archives may take is taken.
    fn limit(&self, bytes: u64) -> Fact {
        let share = float(bytes) / float(self.disk_limit.max(1));
        let (level, note) = if share > NEAR_LIMIT {
            (Level::Warning, "beyond it withdrawn instances go, then new series are refused")
        } else {
            (Level::Ok, "that all archives may take together")
        };
        fact("Disk limit", FactValue::Bytes(self.disk_limit), level, note)
    }

    /// When every tile was last compared with its checksum.
    fn last_pass(&self) -> Fact {
        let (name, note) = ("Last checked as a whole", "every tile is, once a day");
        match self.scrubbed.last_pass() {
            None => fact(name, FactValue::Text("not yet".to_owned()), Level::Ok, note),
            Some(at) => {
                let ago = self.clock.wall().millis_since(at).max(0).unsigned_abs();
                fact(name, FactValue::Millis(ago), Level::Ok, "ago; every tile is, once a day")
            }
        }
    }

    fn log(&self) -> FactGroup {
        let stats = self.journal.stats();
        let full = if stats.fill > FULL { Level::Warning } else { Level::Ok };
        let behind = stats.committed.saturating_sub(stats.applied);
        let skew = stats.ahead_of_wall_ms;
        let (off, remedy) = if skew > WALL_OFF_MS {
            (Level::Warning, "the wall clock was set back; rules judge in the journal's time")
        } else if skew < -WALL_OFF_MS {
            (Level::Warning, "the wall clock was set on; restart to take it over")
        } else {
            (Level::Ok, "")
        };
        group(
            "Journal",
            vec![
                self.syncing(),
                fact(
                    "Fill",
                    FactValue::Share(stats.fill),
                    full,
                    "a round makes room at five eighths, or every 16 minutes",
                ),
                fact("Size", FactValue::Bytes(stats.capacity_bytes), Level::Ok, "fixed"),
                fact(
                    "Syncs",
                    FactValue::Count(stats.commit_count),
                    Level::Ok,
                    "each acknowledges a group",
                ),
                fact(
                    "Worker behind",
                    FactValue::Count(behind),
                    Level::Ok,
                    "frames synced and not yet applied",
                ),
                fact(
                    "Ahead of the wall clock",
                    FactValue::Millis(skew.unsigned_abs()),
                    off,
                    remedy,
                ),
            ],
        )
    }

    /// Whether samples can be acknowledged at all.
    fn syncing(&self) -> Fact {
        let text = |text: &str| FactValue::Text(text.to_owned());
        match self.journal.failure() {
            None => fact("State", text("syncs"), Level::Ok, ""),
            Some(failed) => fact("State", text("stopped"), Level::Critical, &failed.to_string()),
        }
    }

    fn samples(&self) -> FactGroup {
        let counts = self.accounting.total();
        let mut facts = vec![
            fact("Received", FactValue::Count(counts.received), Level::Ok, "since the start"),
            fact("Stored", FactValue::Count(counts.stored), Level::Ok, ""),
            fact(
                "Duplicate",
                FactValue::Count(counts.duplicate),
                Level::Ok,
                "sent again; counted once",
            ),
            fact(
                "Late",
                FactValue::Count(counts.late),
                Level::Ok,
                "older than the series' newest reading",
            ),
        ];
        for (reason, count) in &counts.refused {
            let name = format!("Refused: {}", reason.word().replace('_', " "));
            facts.push(fact(&name, FactValue::Count(*count), Level::Warning, ""));
        }
        group("Samples", facts)
    }
}

/// Whether a certificate lasts, and how long.
fn certificate(ends_at: Option<Timestamp>, now: Timestamp) -> (Level, String) {
    let Some(ends_at) = ends_at else {
        return (Level::Warning, "nobody can say when its certificate ends".to_owned());
    };
    let left_ms = ends_at.millis_since(now);
    let days = left_ms.abs() / DAY_MS;
    let span =
        if days < 2 { format!("{} h", left_ms.abs() / HOUR_MS) } else { format!("{days} days") };
    let (level, remedy) = match left_ms {
        ..0 => return (Level::Critical, format!("its certificate ended {span} ago; renew it")),
        left if left < 3 * DAY_MS => (Level::Critical, "; renew it"),
        left if left < 14 * DAY_MS => (Level::Warning, "; renew it"),
        _ => (Level::Ok, ""),
    };
    (level, format!("its certificate ends in {span}{remedy}"))
}

fn group(title: &str, facts: Vec<Fact>) -> FactGroup {
    FactGroup { title: title.to_owned(), facts }
}

fn fact(name: &str, value: FactValue, level: Level, note: &str) -> Fact {
    Fact { name: name.to_owned(), value, level, note: note.to_owned() }
}

#[expect(clippy::cast_precision_loss, reason = "counters are read as doubles everywhere")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
