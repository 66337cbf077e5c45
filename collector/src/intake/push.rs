//! Pushes of our own agents: numbered batches of readings over a session's dictionary.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use rrd::{Batch, Kind, NewSeries, Sample, SampleFrame, Timestamp};

use super::clones::Arrival;
use super::fair::Sender;
use super::session::{Known, Order, Refused, Session};
use super::{Denial, Inner, Intake, UNAVAILABLE, aside};
use crate::accounting::{Reason, Tally, Way};
use crate::auth::Caller;
use crate::foreign::time_message;
use crate::limits::{Window, checked_series};
use crate::native::{
    Entry, PUSH_CONTENT_TYPE, PUSH_ENTRY_LIMIT, PUSH_SAMPLE_LIMIT, PUSH_SIZE_LIMIT, Position, Push,
    PushAnswer,
};
use crate::refusals::Refusals;
use crate::registry::{Instance, Source};

/// How long a refused series is left alone: space and grants change by hand.
const RETRY_REFUSED: Duration = Duration::from_mins(10);
/// When labels are wrong: time does not heal that.
const NEVER: Duration = Duration::MAX;

pub(super) async fn post(
    State(intake): State<Intake>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PushAnswer>, Denial> {
    let inner = intake.0;
    let Caller::Instance(instance) = inner.caller(&headers)? else {
        return Err(Denial::forbidden("this needs the credential of an instance"));
    };
    let sender = Sender::from(&*instance);
    inner.admit(sender)?;
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type != Some(PUSH_CONTENT_TYPE) {
        return Err(Denial::unsupported(format!("a push is {PUSH_CONTENT_TYPE}")));
    }
    let (_held, body) = inner.room.body(&headers, body, PUSH_SIZE_LIMIT).await?;
    let bytes = body.len();
    // Who hangs up while it works pays as well.
    inner.charge(sender, 0, bytes);
    let store = inner.parts.store.clone();
    let mut session = inner.sessions.turn(instance.id, || store.last_batch(instance.id)).await;
    let (id, this) = (instance.id, inner.clone());
    let leave = inner.leave(sender, bytes).await?;
    let taken = aside(move || {
        let _leave = leave;
        let taken = this.push(&instance, &body, &mut session)?;
        this.charge(sender, taken.samples + taken.refusals.samples(), 0);
        Ok(taken)
    })
    .await?;
    if taken.seq > 0 {
        inner.accepted(taken.seq).await?;
    }
    let now = inner.parts.clock.wall();
    inner.parts.registry.saw([id], now);
    let accepted = Position { log_epoch: inner.parts.journal.epoch(), seq: taken.seq };
    let durable = Position { seq: inner.parts.journal.stats().committed, ..accepted }.min(accepted);
    Ok(Json(PushAnswer {
        accepted,
        durable,
        samples: taken.samples,
        server_ms: now.as_millis(),
        refused_samples: taken.refusals.samples(),
        refused: taken.refusals.into_shown(),
    }))
}

/// A batch that stands in the journal.
struct Taken {
    /// Its frame; 0 when an earlier process appended it.
    seq: u64,
    samples: u64,
    refusals: Refusals,
}

impl Inner {
    /// Takes a push, up to its append.
    fn push(
        &self,
        instance: &Instance,
        body: &[u8],
        session: &mut Session,
    ) -> Result<Taken, Denial> {
        let push = Push::decode(body).map_err(|error| Denial::bad(error.to_string()))?;
        check(&push, instance)?;
        if self.parts.store.is_unavailable(instance.id) {
            return Err(Denial::later("store", UNAVAILABLE));
        }
        self.is_one(instance, &push, session)?;
        match session.order(push.incarnation, push.number, push.floor) {
            Order::Gap { resend_from } => return Err(Denial::gap(resend_from)),
            Order::Repeat { seq } => {
                return Ok(Taken { seq, samples: 0, refusals: Refusals::default() });
            }
            Order::Next => session.enter(push.incarnation),
        }
        let mut entries = session.to_retry(self.parts.clock.monotonic());
        entries.extend_from_slice(&push.dictionary);
        if !entries.is_empty() {
            self.learn(instance, &entries, &first_readings(&push), session)?;
        }
        let (samples, refusals) = self.read(instance, &push, session)?;
        if samples.is_empty() {
            refusals.stored_nothing()?;
        }
        self.commit(instance, &push, samples, refusals, session)
    }

    /// Turns away the newer of two processes that take turns with one credential.
    fn is_one(
        &self,
        instance: &Instance,
        push: &Push,
        session: &mut Session,
    ) -> Result<(), Denial> {
        let arrival = session.arrives(push.incarnation, self.parts.clock.monotonic());
        if let Arrival::Conflict { .. } = arrival {
            tracing::warn!(instance = %instance.id, name = instance.name, "two machines use one credential");
            let seen = "two machines send with its credential; the newer was told to make a key of its own";
            self.tell_conflict(instance, seen);
        }
        match arrival {
            Arrival::Fine | Arrival::Conflict { is_newer: false } => Ok(()),
            Arrival::TurnedAway | Arrival::Conflict { is_newer: true } => {
                let message = "another machine sends with this credential; make a new key and enrol \
                               with it";
                Err(Denial::identity_conflict(message, instance.lifecycle.state))
            }
        }
    }

    fn commit(
        &self,
        instance: &Instance,
        push: &Push,
        samples: Vec<Sample>,
        refusals: Refusals,
        session: &mut Session,
    ) -> Result<Taken, Denial> {
        let count = u64::try_from(samples.len()).expect("limited");
        let mut tally = Tally::of(way(instance));
        tally.received(Some(instance.id), count);
        refusals.tally(&mut tally);
        let batch =
            Batch { incarnation: push.incarnation, boot_id: push.boot_id, number: push.number };
        // A batch without a sample is appended too: its number must last, or the next one would be
        // a gap.
        let frame = SampleFrame { instance: instance.id, batch, samples };
        let seq = self.append(&[frame], &tally)?.expect("a frame was given");
        session.took(push.number, seq);
        Ok(Taken { seq, samples: count, refusals })
    }

    /// Learns dictionary entries: a column for each, or why there is none.
    fn learn(
        &self,
        instance: &Instance,
        entries: &[Entry],
        readings: &HashMap<u32, f64>,
        session: &mut Session,
    ) -> Result<(), Denial> {
        let retry_at = self.parts.clock.monotonic() + RETRY_REFUSED;
        let mut wanted: Vec<(&Entry, NewSeries)> = Vec::new();
        for entry in entries {
            match new_series(entry, readings.get(&entry.id).copied()) {
                Ok(series) => wanted.push((entry, self.as_operator_says(instance, series))),
                Err((reason, message)) => {
                    session.learn(entry.id, refused(entry, reason, message, NEVER));
                }
            }
        }
        let series: Vec<NewSeries> = wanted.iter().map(|(_, series)| series.clone()).collect();
        for ((entry, _), granted) in wanted.iter().zip(self.columns(instance, &series)?) {
            let known = match granted {
                Ok(column) => Known::Column(column),
                Err((reason, message)) => refused(entry, reason, message, retry_at),
            };
            session.learn(entry.id, known);
        }
        Ok(())
    }

    /// The samples of a push by column, and what was refused of them.
    fn read(
        &self,
        instance: &Instance,
        push: &Push,
        session: &Session,
    ) -> Result<(Vec<Sample>, Refusals), Denial> {
        let keep_ms = Self::keep_ms(self.policy(instance));
        let window = Window::at(self.parts.clock.wall(), keep_ms);
        let mut samples = Vec::with_capacity(sample_count(push));
        let mut refusals = Refusals::default();
        let who = Some(instance.id);
        for reading in &push.readings {
            let at = Timestamp::from_millis(reading.at_ms);
            if let Some(reason) = window.refuses(at) {
                let count = u64::try_from(reading.values.len()).expect("limited");
                let shown = || format!("all at {at}");
                refusals.add(who, reason, count, shown, time_message(reason));
                continue;
            }
            for (id, value) in &reading.values {
                match session.known(*id).ok_or_else(Denial::dictionary)? {
                    Known::Column(column) => {
                        let value = if value.is_nan() { f64::NAN } else { *value };
                        samples.push(Sample { column: *column, at, value });
                    }
                    Known::Refused(refused) => {
                        let shown = || refused.series.clone();
                        refusals.add(who, refused.reason, 1, shown, &refused.message);
                    }
                }
            }
        }
        Ok((samples, refusals))
    }
}

/// An agent's samples stand under the token it enrolled with.
fn way(instance: &Instance) -> Way {
    match &instance.source {
        Source::Enrolled(token) => Way::native(*token),
        Source::Relay(space) => Way::native(space.relay),
    }
}

fn check(push: &Push, instance: &Instance) -> Result<(), Denial> {
    if push.instance != instance.id.0 {
        return Err(Denial::forbidden("the credential belongs to another instance than the push"));
    }
    if push.number == 0 || push.floor == 0 || push.floor > push.number {
        return Err(Denial::bad(
            "batches are numbered from 1, and the floor is not above the number",
        ));
    }
    let over = |what: &str, limit: usize| {
        Err(Denial::bad(format!("a push holds at most {limit} {what}; send them in two")))
    };
    if sample_count(push) > PUSH_SAMPLE_LIMIT {
        return over("samples", PUSH_SAMPLE_LIMIT);
    }
    if push.dictionary.len() > PUSH_ENTRY_LIMIT {
        return over("dictionary entries", PUSH_ENTRY_LIMIT);
    }
    let limit = u32::try_from(PUSH_ENTRY_LIMIT).expect("a small constant");
    if push.dictionary.iter().any(|entry| entry.id >= limit) {
        return Err(Denial::bad(format!("dictionary ids are below {limit}")));
    }
    Ok(())
}

fn sample_count(push: &Push) -> usize {
    push.readings.iter().map(|reading| reading.values.len()).sum()
}

/// The first reading of each series in a push.
fn first_readings(push: &Push) -> HashMap<u32, f64> {
    let mut first = HashMap::new();
    for (id, value) in push.readings.iter().flat_map(|reading| &reading.values) {
        first.entry(*id).or_insert(*value);
    }
    first
}

fn new_series(entry: &Entry, first_reading: Option<f64>) -> Result<NewSeries, (Reason, String)> {
    let pairs: Vec<(&str, &str)> =
        entry.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let labels = checked_series(&pairs)?;
    let kind = Kind::from_number(entry.kind).unwrap_or(Kind::Unknown);
    Ok(NewSeries { labels, kind, first_reading })
}

fn refused(entry: &Entry, reason: Reason, message: String, retry_at: Duration) -> Known {
    let series = entry.labels.iter().take(4).map(|(name, value)| {
        let cut = |text: &str| text.chars().take(64).collect::<String>();
        format!("{}={:?}", cut(name), cut(value))
    });
    let series = format!("{{{}}}", series.collect::<Vec<_>>().join(","));
    let entry = (retry_at < NEVER).then(|| entry.clone());
    Known::Refused(Box::new(Refused { entry, series, reason, message, retry_at }))
}
