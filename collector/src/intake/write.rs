//! Prometheus remote write 1.0: one request of many instances' samples.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};
use rrd::{Batch, NewSeries, Sample, SampleFrame};

use super::{Denial, Inner, Intake, UNAVAILABLE, aside, to_the_end};
use crate::accounting::{Reason, Tally};
use crate::auth::Caller;
use crate::limits::{WRITE_BODY_LIMIT, WRITE_DECODED_LIMIT, Window};
use crate::refusals::Refusals;
use crate::registry::{Instance, TokenId};
use crate::remote_write::cache::Place;
use crate::remote_write::{Sorted, Stranger, decompress, sort};

mod relayed;

pub(super) async fn post(
    State(intake): State<Intake>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    let inner = intake.0;
    let relay = match inner.caller(&headers)? {
        Caller::Admin => None,
        Caller::Relay(token) => Some(token.id),
        _ => return Err(Denial::forbidden("this needs a relay token")),
    };
    check_type(&headers)?;
    let (mut held, body) = inner.room.body(&headers, body, WRITE_BODY_LIMIT).await?;
    let this = inner.clone();
    let (held, mut sorted) = aside(move || {
        let claimed = snap::raw::decompress_len(&body).unwrap_or_default();
        this.room.add(&mut held, claimed.min(WRITE_DECODED_LIMIT))?;
        let keep_ms = Inner::keep_ms(&this.parts.foreign_policy);
        let window = Window::at(this.parts.clock.wall(), keep_ms);
        let sorted = decompress(&body)
            .and_then(|bytes| sort(&bytes, &this.cache, relay, window))
            .map_err(|error| Denial::bad(error.to_string()))?;
        Ok((held, sorted))
    })
    .await?;
    inner.families.learn(relay, std::mem::take(&mut sorted.families));
    let taken = to_the_end(take(inner.clone(), relay, sorted)).await?;
    if let Some(seq) = taken.seq {
        inner.accepted(seq).await?;
    }
    drop(held);
    taken.answer()
}

/// A request whose good samples stand in the journal.
struct Taken {
    /// The last frame; `None` when there was nothing to store.
    seq: Option<u64>,
    samples: u64,
    refusals: Refusals,
}

/// Names instances, grants columns and appends.
async fn take(
    inner: Arc<Inner>,
    relay: Option<TokenId>,
    mut sorted: Sorted,
) -> Result<Taken, Denial> {
    let strangers = inner.admitted(relay, &mut sorted).await?;
    if strangers.is_empty() {
        return inner.commit_groups(sorted);
    }
    aside(move || {
        for (instance, strangers) in strangers {
            inner.place(relay, &instance, strangers, &mut sorted)?;
        }
        inner.commit_groups(sorted)
    })
    .await
}

impl Inner {
    /// Gives strangers of one instance their columns; from now on their label bytes are known.
    fn place(
        &self,
        relay: Option<TokenId>,
        instance: &Instance,
        strangers: Vec<Stranger>,
        sorted: &mut Sorted,
    ) -> Result<(), Denial> {
        let series = self.kinds(relay, &strangers);
        let granted = self.columns(instance, &series)?;
        for (stranger, granted) in strangers.into_iter().zip(granted) {
            match granted {
                Ok(column) => {
                    let sample = |(at, value)| Sample { column, at, value };
                    sorted.groups.of(instance.id).extend(stranger.samples.into_iter().map(sample));
                    self.cache.put(stranger.key, Place { instance: instance.id, column });
                }
                Err((reason, message)) => {
                    let count = u64::try_from(stranger.samples.len()).expect("limited");
                    let shown = || stranger.labels.to_string();
                    sorted.refusals.add(Some(instance.id), reason, count, shown, &message);
                }
            }
        }
        Ok(())
    }

    fn kinds(&self, relay: Option<TokenId>, strangers: &[Stranger]) -> Vec<NewSeries> {
        // Only names of histograms and summaries ask for siblings, so only those are kept to be
        // found.
        let with_sibling = |stranger: &&Stranger| {
            let metric = stranger.labels.metric().unwrap_or_default();
            metric.ends_with("_count") || metric.ends_with("_sum")
        };
        let siblings: HashSet<Vec<u8>> =
            strangers.iter().filter(with_sibling).map(|one| one.labels.to_key()).collect();
        let series = |stranger: &Stranger| {
            let labels = stranger.labels.clone();
            let sibling = |name: &str| siblings.contains(&labels.with(rrd::NAME, name).to_key());
            let kind = self.families.kind(relay, &labels, sibling);
            NewSeries {
                labels,
                kind,
                first_reading: stranger.samples.first().map(|(_, value)| *value),
            }
        };
        strangers.iter().map(series).collect()
    }

    fn commit_groups(&self, sorted: Sorted) -> Result<Taken, Denial> {
        let Sorted { groups, mut refusals, exemplars, .. } = sorted;
        let mut tally = Tally::default();
        tally.exemplars(exemplars);
        let mut samples = 0;
        let mut frames = Vec::new();
        for (instance, group) in groups.into_parts() {
            let count = u64::try_from(group.len()).expect("limited");
            if self.parts.store.is_unavailable(instance) {
                let shown = || format!("all of instance {instance}");
                refusals.add(Some(instance), Reason::Store, count, shown, UNAVAILABLE);
                continue;
            }
            tally.received(Some(instance), count);
            samples += count;
            frames.push(SampleFrame { instance, batch: Batch::default(), samples: group });
        }
        refusals.tally(&mut tally);
        if frames.is_empty() {
            refusals.stored_nothing()?;
        }
        let seq = self.append(&frames, &tally)?;
        let now = self.parts.clock.wall();
        self.parts.registry.saw(frames.iter().map(|frame| frame.instance), now);
        Ok(Taken { seq, samples, refusals })
    }
}

impl Taken {
    fn answer(self) -> Result<StatusCode, Denial> {
        if self.refusals.is_empty() {
            return Ok(StatusCode::NO_CONTENT);
        }
        let (stored, refused) = (self.samples, self.refusals.samples());
        let shown = self.refusals.into_shown();
        let first = shown.first().map(|one| format!("; first: {}: {}", one.series, one.message));
        let first = first.unwrap_or_default();
        let message = format!("{stored} samples stored, {refused} refused{first}");
        Err(Denial::partial(message, shown))
    }
}

/// Checked before the body is looked at: a request of another protocol may decode as an empty one
/// of this.
fn check_type(headers: &HeaderMap) -> Result<(), Denial> {
    let header = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        let first = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(first)
    };
    if header(CONTENT_ENCODING).is_none_or(|encoding| !encoding.eq_ignore_ascii_case("snappy")) {
        return Err(Denial::unsupported("Content-Encoding: remote write sends snappy"));
    }
    let content_type = header(CONTENT_TYPE).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    let protobuf =
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-protobuf"));
    let v1 = parts.all(|part| match part.split_once('=') {
        Some((name, proto)) if name.trim().eq_ignore_ascii_case("proto") => {
            proto.trim() == "prometheus.WriteRequest"
        }
        _ => true,
    });
    if protobuf && v1 {
        return Ok(());
    }
    Err(Denial::unsupported("Content-Type: application/x-protobuf of remote write 1.0 is taken"))
}
