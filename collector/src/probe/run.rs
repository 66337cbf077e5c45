//! The turns of probes: each target by itself, spread over the time between, a bounded number at once.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use rrd::{Clock, Kind, NAME, Step, Timestamp};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{Probe, ROOM, Report, Value};
use crate::intake::{Intake, Look, LookSample};

/// The job of all targets.
const JOB: &str = "probe";
/// A turn is late by up to this share of the time between two, so that targets of one name server or one
/// line are not asked in the same instant for ever.
const JITTER_SHARE: u32 = 20;
const JITTER_MAX: Duration = Duration::from_secs(1);

/// The door and the clock.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) intake: Intake,
    pub(super) clock: Arc<dyn Clock>,
}

/// The running probes. Dropped, they end.
#[derive(Default)]
pub(super) struct Running {
    _tasks: JoinSet<()>,
}

impl Running {
    /// Starts these. Their turns follow from the time of day and their names, not from this moment.
    pub(super) fn start(probes: Vec<Probe>, parts: &Parts) -> Self {
        let mut tasks = JoinSet::new();
        for probe in probes {
            tasks.spawn(turns(probe, parts.clone()));
        }
        Self { _tasks: tasks }
    }
}

async fn turns(probe: Probe, parts: Parts) {
    let mut last = Told::default();
    loop {
        sleep(until_turn(&probe, parts.clock.wall())).await;
        let room = ROOM.acquire().await.expect("nobody closes it");
        let at = parts.clock.wall();
        let report = probe.run().await;
        drop(room);
        last.tell(&probe, &report);
        if report.values().is_empty() {
            continue;
        }
        let stored = parts.intake.store_local(look(&probe, at, &report)).await;
        match stored {
            Ok(stored) if stored.refused == 0 => last.is_refused = false,
            Ok(stored) => {
                let first = stored.shown.first();
                last.refused(&probe, first.map(|one| one.message.as_str()));
            }
            Err(denial) => last.refused(&probe, Some(&denial.to_string())),
        }
    }
}

/// What the log has of a target; a state that lasts is not repeated.
#[derive(Default)]
struct Told {
    is_troubled: bool,
    is_refused: bool,
}

impl Told {
    fn tell(&mut self, probe: &Probe, report: &Report) {
        let was_troubled = std::mem::replace(&mut self.is_troubled, report.trouble.is_some());
        match &report.trouble {
            Some(why) if was_troubled => debug!(probe = probe.name, why, "fails"),
            Some(why) => warn!(probe = probe.name, why, "fails"),
            None if was_troubled => info!(probe = probe.name, "succeeds again"),
            None => {}
        }
    }

    fn refused(&mut self, probe: &Probe, why: Option<&str>) {
        if !std::mem::replace(&mut self.is_refused, true) {
            warn!(probe = probe.name, why, "what a probe found is not taken");
        }
    }
}

/// What a probe found, as samples of its target.
fn look(probe: &Probe, at: Timestamp, report: &Report) -> Look {
    let sample = |value: &Value| {
        let mut labels = probe.labels.clone();
        labels.push((NAME.to_owned(), value.metric.to_owned()));
        labels.extend(value.phase.map(|phase| ("phase".to_owned(), phase.to_owned())));
        LookSample { labels, kind: Kind::Gauge, at, value: value.number }
    };
    let samples = report.values().iter().map(sample).collect();
    Look { job: JOB.to_owned(), instance: probe.name.clone(), samples }
}

/// Time until the next turn of a probe: at its own place in the time between, and a little later.
fn until_turn(probe: &Probe, now: Timestamp) -> Duration {
    let every_ms = u64::try_from(probe.every.as_millis()).unwrap_or(u64::MAX).max(1);
    let step = Step::from_millis(every_ms).expect("above zero");
    let mut hasher = DefaultHasher::new();
    probe.name.hash(&mut hasher);
    let place = i64::try_from(hasher.finish() % every_ms).unwrap_or(0);
    let mut turn = now.floor(step).plus_millis(place);
    if turn <= now {
        turn = turn + step;
    }
    let wait = Duration::from_millis(u64::try_from(turn.millis_since(now)).unwrap_or(0));
    let jitter_max = (probe.every / JITTER_SHARE).min(JITTER_MAX);
    let share = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
    wait + jitter_max.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::settings::parse;

    #[test]
    fn turns_are_spread_and_come_once_in_the_time_between() {
        let text: String = (0..100)
            .map(|n| format!("[[icmp]]\nhost = \"192.0.2.{n}\"\n"))
            .collect::<Vec<_>>()
            .concat();
        let probes = parse(&text).unwrap();
        let now = Timestamp::from_secs(1_790_000_000);
        let mut quarters = [0; 4];
        for probe in &probes {
            let first = until_turn(probe, now);
            assert!(first <= Duration::from_secs(61), "{first:?}");
            quarters[usize::try_from(first.as_secs() / 15).unwrap().min(3)] += 1;
            // From just behind its place the next one is the next round's.
            let late = now.plus_millis(i64::try_from(first.as_millis()).unwrap() + 1);
            let second = until_turn(probe, late);
            assert!((57..=61).contains(&second.as_secs()), "{second:?}");
        }
        assert!(quarters.iter().all(|count| (10..=45).contains(count)), "{quarters:?}");
    }
}
