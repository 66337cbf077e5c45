//! Requests of many instances' samples, in whatever protocol: sorted, instances named, columns
//! granted, appended, acknowledged.

mod relayed;
mod unpack;

use std::collections::HashSet;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use rrd::{Batch, NewSeries, Sample, SampleFrame};

use super::admission::Held;
use super::{Denial, Inner, UNAVAILABLE, aside, to_the_end};
use crate::accounting::{Reason, Tally};
use crate::auth::Caller;
use crate::foreign::cache::Place;
use crate::foreign::{Origin, Sorted, Sorter, Stranger};
use crate::limits::Window;
use crate::refusals::Refusals;
use crate::registry::{Instance, TokenId};

impl Inner {
    /// The relay token that a request came with; `None` is the admin token.
    pub(super) fn relay(&self, headers: &HeaderMap) -> Result<Option<TokenId>, Denial> {
        match self.caller(headers)? {
            Caller::Admin => Ok(None),
            Caller::Relay(token) => Ok(Some(token.id)),
            _ => Err(Denial::forbidden("this needs a relay token")),
        }
    }

    /// Stores what `read` hands to its sorter, and returns once that may be acknowledged. `read` runs
    /// off the reactor; it takes room for what it unpacks into `Held`, which is held till the end.
    pub(super) async fn store(
        self: &Arc<Self>,
        origin: Origin,
        mut held: Held,
        read: impl FnOnce(&Self, &mut Held, Sorter<'_>) -> Result<Sorted, Denial> + Send + 'static,
    ) -> Result<Taken, Denial> {
        let this = self.clone();
        let (held, mut sorted) = aside(move || {
            let keep_ms = Self::keep_ms(&this.parts.foreign_policy);
            let window = Window::at(this.parts.clock.wall(), keep_ms);
            let sorter = Sorter::new(&this.cache, origin, window);
            let sorted = read(&this, &mut held, sorter)?;
            Ok((held, sorted))
        })
        .await?;
        self.families.learn(origin.relay, std::mem::take(&mut sorted.families));
        let taken = to_the_end(take(self.clone(), origin.relay, sorted)).await?;
        if let Some(seq) = taken.seq {
            self.accepted(seq).await?;
        }
        drop(held);
        Ok(taken)
    }
}

/// A request whose good samples stand in the journal.
pub(super) struct Taken {
    /// The last frame; `None` when there was nothing to store.
    seq: Option<u64>,
    /// Samples that stand in the journal.
    pub(super) samples: u64,
    /// What does not, and why.
    pub(super) refusals: Refusals,
    /// Exemplars left out.
    pub(super) exemplars: u64,
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
            let kind = stranger.kind.unwrap_or_else(|| self.families.kind(relay, &labels, sibling));
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
        Ok(Taken { seq, samples, refusals, exemplars })
    }
}

impl Taken {
    /// 204, or 400 that names what was refused of it.
    pub(super) fn answer(self) -> Result<StatusCode, Denial> {
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
