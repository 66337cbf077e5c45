//! Instances that a relay names: enrolled when their first sample comes, within limits.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rrd::{InstanceId, Labels, Timestamp};

use crate::accounting::Reason;
use crate::foreign::{Sorted, Stranger};
use crate::intake::enroll::random_id;
use crate::intake::{Denial, Inner};
use crate::lifecycle::Act;
use crate::limits::{INSTANCE_LIMIT, RELAY_INSTANCE_LIMIT};
use crate::registry::{Change, Instance, Namespace, Source, TokenId};

/// What an instance is called whose sender gave neither `instance` nor `job`.
const NAMELESS: &str = "unnamed";

type Refusal = (Reason, String);
type Admitted = Result<Arc<Instance>, Refusal>;

impl Inner {
    /// The strangers of `sorted` by their instance, which is enrolled where it was not yet; samples
    /// of instances that may not send are refused.
    pub(super) async fn admitted(
        &self,
        relay: Option<TokenId>,
        sorted: &mut Sorted,
    ) -> Result<Vec<(Arc<Instance>, Vec<Stranger>)>, Denial> {
        let spaces = by_space(sorted.strangers.drain(..));
        let mut signs: BTreeMap<Namespace, Option<Timestamp>> = spaces
            .iter()
            .map(|(space, strangers)| {
                let samples = strangers.iter().flat_map(|one| one.samples.iter());
                (space.clone(), newest_known(samples.map(|(at, value)| (*at, *value))))
            })
            .collect();
        let withdrawn = self.withdrawn(sorted);
        for (space, (_, sign)) in &withdrawn {
            let held = signs.entry(space.clone()).or_default();
            *held = (*held).max(*sign);
        }
        let mut admitted = self.instances_of(relay, &signs).await?;
        for (space, (id, _)) in withdrawn {
            if let Some(Err((reason, message))) = admitted.get(&space) {
                let count = u64::try_from(sorted.groups.take(id).len()).expect("limited");
                let shown = || format!("all of {}", space.instance);
                sorted.refusals.add(Some(id), *reason, count, shown, message);
            } else if self.parts.store.info(id).is_none() {
                // Reclaimed since its columns were looked up: nothing would take these samples.
                self.cache.forget(id);
                let message = "an instance is back whose archive was reclaimed; send it again";
                return Err(Denial::later("busy", message));
            }
        }
        let mut placed = Vec::new();
        for (space, strangers) in spaces {
            match admitted.remove(&space).expect("every space was asked for") {
                Ok(instance) => placed.push((instance, strangers)),
                Err((reason, message)) => refuse(sorted, reason, &message, &strangers),
            }
        }
        Ok(placed)
    }

    /// Instances with samples of known columns that were withdrawn, and the newest known value
    /// among these.
    fn withdrawn(
        &self,
        sorted: &mut Sorted,
    ) -> BTreeMap<Namespace, (InstanceId, Option<Timestamp>)> {
        let mut withdrawn = BTreeMap::new();
        for instance in self.parts.registry.inactive_of(sorted.groups.instances()) {
            if let Source::Relay(space) = &instance.source {
                let id = instance.id;
                let samples = sorted.groups.of(id).iter().map(|sample| (sample.at, sample.value));
                withdrawn.insert(space.clone(), (id, newest_known(samples)));
            }
        }
        withdrawn
    }

    /// The active instance of each namespace. New ones and those that show life again become so in
    /// one change.
    async fn instances_of(
        &self,
        relay: Option<TokenId>,
        signs: &BTreeMap<Namespace, Option<Timestamp>>,
    ) -> Result<BTreeMap<Namespace, Admitted>, Denial> {
        let registry = &self.parts.registry;
        let active = |space: &Namespace| registry.relayed(space).filter(|one| one.is_active());
        let mut admitted: BTreeMap<Namespace, Admitted> = BTreeMap::new();
        if signs.keys().all(|space| active(space).is_some()) {
            let all = signs.keys().filter_map(|space| Some((space.clone(), Ok(active(space)?))));
            return Ok(all.collect());
        }
        let mut turn = self.turn().await?;
        let forced = relay.and_then(|id| registry.token(id)).map(|token| token.labels.clone());
        let mut wishes = Wishes {
            inner: self,
            relay,
            forced: forced.unwrap_or_default(),
            taken: HashSet::new(),
            new: 0,
        };
        let mut changes = Vec::new();
        for (space, sign) in signs {
            let instance = match registry.relayed(space) {
                Some(held) if held.is_active() => Ok(held),
                Some(held) => wishes.revived(&held, space, *sign)?.map(Arc::new),
                None => wishes.enrolled(space, None)?.map(Arc::new),
            };
            if let Ok(instance) = &instance
                && active(space).is_none()
            {
                changes.push(Change::Instance((**instance).clone()));
            }
            admitted.insert(space.clone(), instance);
        }
        self.change(&mut turn, &changes).await?;
        Ok(admitted)
    }
}

/// Instances about to be made, so that two of one request do not take the same name.
struct Wishes<'a> {
    inner: &'a Inner,
    relay: Option<TokenId>,
    forced: Labels,
    taken: HashSet<(String, String)>,
    new: usize,
}

impl Wishes<'_> {
    fn enrolled(
        &mut self,
        space: &Namespace,
        predecessor: Option<InstanceId>,
    ) -> Result<Result<Instance, Refusal>, Denial> {
        let registry = &self.inner.parts.registry;
        let full = registry.instance_count() + self.new >= INSTANCE_LIMIT
            || registry.relayed_count(self.relay) + self.new >= RELAY_INSTANCE_LIMIT;
        if full {
            let message = "no more instances can be named under this token; withdraw some";
            return Ok(Err((Reason::InstanceLimit, message.to_owned())));
        }
        self.new += 1;
        let (name, labels) = self.named(space);
        let token = self.relay.and_then(|id| registry.token(id));
        let now = self.inner.parts.clock.wall();
        Ok(Ok(Instance {
            name,
            labels,
            terms: token.as_ref().map(|token| token.terms).unwrap_or_default(),
            series_quota: token.and_then(|token| token.series_quota),
            predecessor,
            ..Instance::relayed(random_id()?, space.clone(), now)
        }))
    }

    /// A gone instance that sends values from after its end is back; markers and stragglers are not
    /// life. One that was reclaimed is another one from then on.
    fn revived(
        &mut self,
        held: &Instance,
        space: &Namespace,
        sign: Option<Timestamp>,
    ) -> Result<Result<Instance, Refusal>, Denial> {
        let is_life = match (&held.lifecycle.end, sign) {
            (Some(end), Some(sign)) => sign > end.at && !held.lifecycle.is_revoked(),
            _ => false,
        };
        if !is_life {
            return Ok(Err((Reason::Withdrawn, "the instance was withdrawn".to_owned())));
        }
        match self.inner.moved(held, Act::Sends) {
            Ok(Some(back)) => {
                let (name, labels) = self.named(space);
                Ok(Ok(Instance { name, labels, hint: None, ..back }))
            }
            _ => self.enrolled(space, Some(held.id)),
        }
    }

    /// The name and labels of an instance: what its sender calls it, made unique, under what its
    /// token forces.
    fn named(&mut self, space: &Namespace) -> (String, Labels) {
        let labels = Labels::default()
            .with("job", &space.job)
            .with("instance", &space.instance)
            .overlaid(&self.forced);
        let job = labels.get("job").unwrap_or_default();
        let wanted = labels.get("instance").unwrap_or(if job.is_empty() { NAMELESS } else { job });
        let name = self.inner.parts.registry.free_name(job, wanted, &self.taken);
        self.taken.insert((job.to_owned(), name.clone()));
        let labels = if name == wanted { labels.clone() } else { labels.with("instance", &name) };
        (name, labels)
    }
}

/// Strangers by what their sender calls their instance. Series of one come in a row.
fn by_space(strangers: impl Iterator<Item = Stranger>) -> BTreeMap<Namespace, Vec<Stranger>> {
    let mut spaces: BTreeMap<Namespace, Vec<Stranger>> = BTreeMap::new();
    let mut strangers = strangers.peekable();
    while let Some(first) = strangers.next() {
        let space = Arc::clone(&first.space);
        let row = spaces.entry((*space).clone()).or_default();
        row.push(first);
        while let Some(next) = strangers.next_if(|next| Arc::ptr_eq(&next.space, &space)) {
            row.push(next);
        }
    }
    spaces
}

fn refuse(sorted: &mut Sorted, reason: Reason, message: &str, strangers: &[Stranger]) {
    for stranger in strangers {
        let count = u64::try_from(stranger.samples.len()).expect("limited");
        let shown = || stranger.labels.to_string();
        sorted.refusals.add(None, reason, count, shown, message);
    }
}

fn newest_known(samples: impl Iterator<Item = (Timestamp, f64)>) -> Option<Timestamp> {
    samples.filter(|(_, value)| !value.is_nan()).map(|(at, _)| at).max()
}
