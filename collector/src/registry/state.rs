//! The registry's inside: records, what is found by them, and the bounds of what is kept of the past.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use rrd::{InstanceId, Timestamp};

use super::{
    Change, Event, Instance, JoinPolicy, Namespace, Request, RequestId, Source, Token, TokenId,
    What,
};
use crate::foreign::relabel::Rules;
use crate::identity::PublicKey;
use crate::lifecycle;

/// Events kept: a day of a large fleet, and two megabytes in every snapshot.
const EVENT_LIMIT: usize = 4_000;
/// Requests kept, decided ones included.
const REQUEST_LIMIT: usize = 4_000;
/// How long a decided request is kept: a policy is tried on the last week.
const REQUEST_KEEP_MS: i64 = 7 * 86_400_000;
/// Lines kept of instances that are reclaimed or never sent: who has been here in the last months.
const TOMBSTONE_LIMIT: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) seq: u64,
    pub(super) instances: BTreeMap<InstanceId, Arc<Instance>>,
    pub(super) tokens: BTreeMap<TokenId, Arc<Token>>,
    pub(super) rules: BTreeMap<Option<TokenId>, Arc<Rules>>,
    /// By the time they came.
    pub(super) requests: BTreeMap<(Timestamp, RequestId), Arc<Request>>,
    pub(super) policies: BTreeMap<String, Arc<JoinPolicy>>,
    pub(super) events: VecDeque<Arc<Event>>,
    // The rest follows from these; names are those of active instances, by job.
    pub(super) names: HashMap<(String, String), InstanceId>,
    pub(super) spaces: HashMap<Namespace, InstanceId>,
    pub(super) relayed: HashMap<Option<TokenId>, usize>,
    pub(super) keys: HashMap<PublicKey, InstanceId>,
    pub(super) request_keys: HashMap<RequestId, (Timestamp, RequestId)>,
    /// Instances of which a line is left, by since when.
    pub(super) tombstones: BTreeSet<(Timestamp, InstanceId)>,
}

impl State {
    /// How many records a snapshot has.
    pub(super) fn count(&self) -> usize {
        self.instances.len()
            + self.tokens.len()
            + self.rules.len()
            + self.requests.len()
            + self.policies.len()
            + self.events.len()
    }

    /// Hands over every record.
    pub(super) fn each(&self, mut take: impl FnMut(Change)) {
        // In the order of their lives, so that what is found by a key is found as it was.
        let mut instances: Vec<&Arc<Instance>> = self.instances.values().collect();
        instances.sort_by_key(|one| (one.enrolled_at, one.id));
        for one in &instances {
            take(Change::Instance((***one).clone()));
        }
        for one in self.tokens.values() {
            take(Change::Token((**one).clone()));
        }
        for (id, rules) in &self.rules {
            take(Change::Rules(*id, rules.clone()));
        }
        for one in self.requests.values() {
            take(Change::Request((**one).clone()));
        }
        for one in self.policies.values() {
            take(Change::Policy((**one).clone()));
        }
        for one in &self.events {
            take(Change::Event((**one).clone()));
        }
    }

    /// Takes one record of a snapshot: what it tells was told before.
    pub(super) fn restore(&mut self, change: Change) {
        match change {
            Change::Event(event) => self.events.push_back(Arc::new(event)),
            Change::Instance(instance) => self.put_instance(&Arc::new(instance)),
            change => drop(self.put(change)),
        }
    }

    /// Takes one change; answers the instance it made or changed.
    pub(super) fn put(&mut self, change: Change) -> Option<Arc<Instance>> {
        match change {
            Change::Token(token) => drop(self.tokens.insert(token.id, Arc::new(token))),
            Change::Forget(id) => {
                self.tokens.remove(&id);
                self.rules.remove(&Some(id));
            }
            Change::Rules(relay, rules) if rules.written().is_empty() => {
                drop(self.rules.remove(&relay));
            }
            Change::Rules(relay, rules) => drop(self.rules.insert(relay, rules)),
            Change::Request(request) => self.put_request(request),
            Change::Policy(policy) => {
                drop(self.policies.insert(policy.name.clone(), Arc::new(policy)));
            }
            Change::ForgetPolicy(name) => drop(self.policies.remove(&name)),
            Change::Event(event) => self.tell(event),
            Change::Instance(instance) => {
                let instance = Arc::new(instance);
                let former = self.instances.get(&instance.id).map(|one| one.lifecycle.state);
                self.tell_move(&instance, former);
                self.put_instance(&instance);
                return Some(instance);
            }
        }
        None
    }

    fn tell_move(&mut self, instance: &Instance, from: Option<lifecycle::State>) {
        let life = &instance.lifecycle;
        if from == Some(life.state) {
            return;
        }
        self.tell(Event {
            number: 0,
            at: life.since,
            what: What::Moved { from, to: life.state },
            instance: Some(instance.id),
            name: instance.name.clone(),
            evidence: life.evidence.clone(),
        });
    }

    fn tell(&mut self, event: Event) {
        let number = self.events.back().map_or(0, |last| last.number) + 1;
        self.events.push_back(Arc::new(Event { number, ..event }));
        if self.events.len() > EVENT_LIMIT {
            self.events.pop_front();
        }
    }

    fn put_request(&mut self, request: Request) {
        let key = (request.at, request.id);
        self.request_keys.insert(request.id, key);
        self.requests.insert(key, Arc::new(request));
        let oldest =
            self.requests.keys().next_back().map(|(at, _)| at.plus_millis(-REQUEST_KEEP_MS));
        let is_over = |(at, _): &(Timestamp, RequestId), count: usize| {
            count > REQUEST_LIMIT || oldest.is_some_and(|oldest| *at < oldest)
        };
        if self.requests.keys().next().is_none_or(|first| !is_over(first, self.requests.len())) {
            return;
        }
        // Those that wait are bounded where they are taken, and end by themselves.
        let decided: Vec<_> = self
            .requests
            .iter()
            .filter(|(_, one)| one.lifecycle.state != lifecycle::State::Pending)
            .map(|(key, _)| *key)
            .collect();
        for key in decided {
            if !is_over(&key, self.requests.len()) {
                break;
            }
            self.requests.remove(&key);
            self.request_keys.remove(&key.1);
        }
    }

    fn put_instance(&mut self, instance: &Arc<Instance>) {
        if let Some(old) = self.instances.insert(instance.id, instance.clone()) {
            let key = (old.job().to_owned(), old.name.clone());
            if self.names.get(&key) == Some(&old.id) {
                self.names.remove(&key);
            }
            self.tombstones.remove(&(old.lifecycle.since, old.id));
        }
        if instance.is_active() {
            self.names.insert((instance.job().to_owned(), instance.name.clone()), instance.id);
        }
        if let Some(key) = instance.key {
            self.keep_key(key, instance);
        }
        if let Source::Relay(space) = &instance.source {
            self.keep_space(space, instance);
        }
        if instance.lifecycle.state.is_tombstone() {
            self.tombstones.insert((instance.lifecycle.since, instance.id));
            self.forget_tombstones();
        }
    }

    /// A key is found as the newest instance it had: an earlier one that is changed stays behind.
    fn keep_key(&mut self, key: PublicKey, instance: &Instance) {
        let newest = self.keys.get(&key).and_then(|id| self.instances.get(id));
        if newest.is_none_or(|newest| newest.enrolled_at <= instance.enrolled_at) {
            self.keys.insert(key, instance.id);
        }
    }

    fn keep_space(&mut self, space: &Namespace, instance: &Instance) {
        match self.spaces.get(space).and_then(|id| self.instances.get(id)) {
            Some(newest) if newest.enrolled_at > instance.enrolled_at => {}
            Some(_) => drop(self.spaces.insert(space.clone(), instance.id)),
            None => {
                self.spaces.insert(space.clone(), instance.id);
                *self.relayed.entry(space.relay).or_default() += 1;
            }
        }
    }

    fn forget_tombstones(&mut self) {
        while self.tombstones.len() > TOMBSTONE_LIMIT
            && let Some((_, id)) = self.tombstones.pop_first()
            && let Some(old) = self.instances.remove(&id)
        {
            if let Some(key) = old.key
                && self.keys.get(&key) == Some(&id)
            {
                self.keys.remove(&key);
            }
            if let Source::Relay(space) = &old.source
                && self.spaces.get(space) == Some(&id)
            {
                self.spaces.remove(space);
                if let Some(count) = self.relayed.get_mut(&space.relay) {
                    *count = count.saturating_sub(1);
                }
            }
        }
    }
}
