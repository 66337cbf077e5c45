//! Requests of many instances' samples, in whatever protocol: sorted, instances named, columns
//! granted, appended, acknowledged.

mod kinds;
mod relayed;
mod unpack;

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use rrd::{Batch, InstanceId, NewSeries, Sample, SampleFrame};

use super::admission::Held;
use super::fair::Sender;
use super::grants::Granted;
use super::{Denial, Inner, UNAVAILABLE, aside, to_the_end};
use crate::accounting::{Reason, Tally, Way};
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
            Caller::Admin => self.admitted_relay(None),
            Caller::Relay(token) => self.admitted_relay(Some(token.id)),
            _ => Err(Denial::forbidden("this needs a relay token")),
        }
    }

    fn admitted_relay(&self, relay: Option<TokenId>) -> Result<Option<TokenId>, Denial> {
        self.admit(Sender::Relay(relay))?;
        Ok(relay)
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
        let (sender, bytes) = (Sender::Relay(origin.relay), held.body_len());
        self.charge(sender, 0, bytes);
        let leave = self.leave(sender, bytes).await?;
        let (leave, held, mut sorted) = aside(move || {
            let keep_ms = Self::keep_ms(&this.parts.foreign_policy);
            let window = Window::at(this.parts.clock.wall(), keep_ms);
            let rules = this.rules_of(origin);
            let sorter = Sorter::new(&this.cache, origin, window).under(rules);
            let sorted = read(&this, &mut held, sorter)?;
            Ok((leave, held, sorted))
        })
        .await?;
        let families = std::mem::take(&mut sorted.families);
        if self.families.learn(origin.relay, families) {
            let dropped = to_the_end(self.clone().put_right(origin.relay)).await?;
            if sorted.groups.has_any(&dropped) {
                let message = "series of this request begin anew as another kind; send it again";
                return Err(Denial::later("busy", message));
            }
        }
        let left_out = std::mem::take(&mut sorted.left_out);
        if !left_out.is_empty() {
            self.cache.put(left_out.into_iter().map(|key| (key, Place::LEFT_OUT)));
        }
        let this = self.clone();
        let taken = to_the_end(async move {
            let taken = take(this.clone(), origin, sorted).await;
            drop(leave);
            // Here, so that who hangs up meanwhile pays as well.
            if let Ok(taken) = &taken {
                this.charge(sender, taken.samples + taken.refusals.samples(), 0);
            }
            taken
        })
        .await?;
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
    /// Samples that stand in the journal, or that the operator's own rules leave out: their sender
    /// has done all it can.
    pub(super) samples: u64,
    /// What does not, and why.
    pub(super) refusals: Refusals,
    /// Exemplars left out.
    pub(super) exemplars: u64,
}

/// Names instances, grants columns and appends.
async fn take(inner: Arc<Inner>, origin: Origin, mut sorted: Sorted) -> Result<Taken, Denial> {
    let strangers = inner.admitted(origin.relay, &mut sorted).await?;
    if strangers.is_empty() {
        return inner.commit_groups(origin, sorted);
    }
    aside(move || {
        inner.place(origin.relay, strangers, &mut sorted)?;
        inner.commit_groups(origin, sorted)
    })
    .await
}

impl Inner {
    /// Gives strangers their columns; from now on their label bytes are known.
    fn place(
        &self,
        relay: Option<TokenId>,
        strangers: Vec<(Arc<Instance>, Vec<Stranger>)>,
        sorted: &mut Sorted,
    ) -> Result<(), Denial> {
        let kinds = strangers.iter().map(|(instance, all)| self.kinds(relay, instance, all));
        let kinds: Vec<_> = kinds.collect();
        let wanted: Vec<(&Instance, &[NewSeries])> = strangers
            .iter()
            .zip(&kinds)
            .map(|((instance, _), (series, _))| (&**instance, &**series))
            .collect();
        let columns = self.columns_of_all(&wanted)?;
        for (((instance, strangers), (series, guessed)), granted) in
            strangers.into_iter().zip(&kinds).zip(columns)
        {
            self.guesses.note(relay, self.guesses_of(&instance, (series, guessed), &granted));
            self.know(instance.id, strangers.into_iter().zip(granted), sorted);
        }
        Ok(())
    }

    /// Remembers where strangers of one instance live, and sorts their samples.
    fn know(
        &self,
        instance: InstanceId,
        strangers: impl ExactSizeIterator<Item = (Stranger, Granted)>,
        sorted: &mut Sorted,
    ) {
        let mut known = Vec::with_capacity(strangers.len());
        for (stranger, granted) in strangers {
            match granted {
                Ok(column) => {
                    let sample = |(at, value)| Sample { column, at, value };
                    sorted.groups.of(instance).extend(stranger.samples.into_iter().map(sample));
                    known.push((stranger.key, Place { instance, column }));
                }
                Err((reason, message)) => {
                    let count = u64::try_from(stranger.samples.len()).expect("limited");
                    let shown = || stranger.labels.to_string();
                    sorted.refusals.add(Some(instance), reason, count, shown, &message);
                }
            }
        }
        self.cache.put(known);
    }

    fn commit_groups(&self, origin: Origin, sorted: Sorted) -> Result<Taken, Denial> {
        let Sorted { groups, mut refusals, exemplars, .. } = sorted;
        let mut tally = Tally::of(Way::from(origin));
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
        Ok(Taken { seq, samples: samples + refusals.left_out(), refusals, exemplars })
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
