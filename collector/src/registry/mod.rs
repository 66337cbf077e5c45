//! The registry: which instances and tokens there are.
//!
//! It changes by journal frames only, which the worker applies in order; who wants a change appends
//! a frame and waits until it is applied. Every frame holds a whole record, so that replay is
//! idempotent.

mod instance;
mod record;
mod token;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rrd::{InstanceId, Labels, Timestamp};

pub use instance::{Instance, Lifecycle, Namespace, Source};
pub(crate) use record::Change;
use record::Record;
pub use token::{Token, TokenId, TokenIdError, TokenKind};

use crate::codec::{self, CodecError, FrameKind};
use crate::foreign::relabel::Rules;

/// The kind of journal frame that carries a change of the registry.
pub const FRAME_REGISTRY: u8 = 16;

/// Instances and tokens, and when each instance was last heard of.
#[derive(Debug, Default)]
pub struct Registry {
    state: RwLock<State>,
    seen: Mutex<HashMap<InstanceId, Timestamp>>,
}

#[derive(Debug, Default)]
struct State {
    seq: u64,
    instances: BTreeMap<InstanceId, Arc<Instance>>,
    tokens: BTreeMap<TokenId, Arc<Token>>,
    rules: BTreeMap<Option<TokenId>, Arc<Rules>>,
    // Both indices follow from `instances`; names are those of active ones, by job.
    names: HashMap<(String, String), InstanceId>,
    spaces: HashMap<Namespace, InstanceId>,
    relayed: HashMap<Option<TokenId>, usize>,
}

impl Registry {
    /// Applies the changes in frame `seq` and answers the instances they made or changed, as they
    /// now are. Only the worker calls this; frames it has seen change nothing.
    pub fn apply(&self, seq: u64, body: &[u8]) -> Result<Vec<Arc<Instance>>, CodecError> {
        let changes = Change::decode_all(body)?;
        let mut state = self.write();
        if seq <= state.seq {
            return Ok(Vec::new());
        }
        state.seq = seq;
        Ok(changes.into_iter().filter_map(|change| state.put(change)).collect())
    }

    /// All records as bytes, for a checkpoint round at the frame last applied.
    pub fn snapshot(&self) -> Vec<u8> {
        let state = self.read();
        let instances = state.instances.values().map(|one| Change::Instance((**one).clone()));
        let tokens = state.tokens.values().map(|one| Change::Token((**one).clone()));
        let rules = state.rules.iter().map(|(id, rules)| Change::Rules(*id, rules.clone()));
        let count = state.instances.len() + state.tokens.len() + state.rules.len();
        let count = u64::try_from(count).expect("a count of records in memory");
        let mut bytes =
            codec::encode(FrameKind::RegistryRecord, &Record::Head { seq: state.seq, count });
        for change in instances.chain(tokens).chain(rules) {
            bytes.extend(codec::encode(FrameKind::RegistryRecord, &change.record()));
        }
        bytes
    }

    /// A registry as [`Registry::snapshot`] saved it. Errors when a byte of it is damaged or
    /// missing.
    pub fn restore(bytes: &[u8]) -> Result<Self, CodecError> {
        let (head, mut rest) = codec::split::<Record>(FrameKind::RegistryRecord, bytes)?;
        let Record::Head { seq, count } = head else {
            return Err(CodecError::Body("a registry snapshot starts with its head".to_owned()));
        };
        let mut state = State { seq, ..State::default() };
        for _ in 0..count {
            let (record, tail) = codec::split::<Record>(FrameKind::RegistryRecord, rest)?;
            state.put(record.change()?);
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(CodecError::Trailing(rest.len()));
        }
        Ok(Self { state: RwLock::new(state), seen: Mutex::default() })
    }

    /// Every instance, in order of id.
    pub fn instances(&self) -> Vec<Arc<Instance>> {
        self.read().instances.values().cloned().collect()
    }

    /// The instance `id`.
    pub fn instance(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.read().instances.get(&id).cloned()
    }

    /// The body of the frame ([`FRAME_REGISTRY`]) that enrols these instances, for a journal that no
    /// server has open.
    pub fn enrolment(instances: &[Instance]) -> Vec<u8> {
        let changes: Vec<Change> = instances.iter().cloned().map(Change::Instance).collect();
        Change::encode_all(&changes)
    }

    /// The active instance called `name` in `job`.
    pub fn named(&self, job: &str, name: &str) -> Option<Arc<Instance>> {
        let state = self.read();
        let id = state.names.get(&(job.to_owned(), name.to_owned()))?;
        state.instances.get(id).cloned()
    }

    /// The labels that tell an instance from all active ones: its name, and its job where another
    /// instance has the same name.
    pub fn telling_labels(&self, instance: &Instance) -> Labels {
        let state = self.read();
        let mut others = state
            .names
            .iter()
            .filter(|((_, name), id)| *name == instance.name && **id != instance.id);
        let is_shared = others.next().is_some();
        instance.labels.filtered(|label| label == "instance" || (label == "job" && is_shared))
    }

    /// Every token, in order of id.
    pub fn tokens(&self) -> Vec<Arc<Token>> {
        self.read().tokens.values().cloned().collect()
    }

    /// The token `id`.
    pub fn token(&self, id: TokenId) -> Option<Arc<Token>> {
        self.read().tokens.get(&id).cloned()
    }

    /// The rules of a relay's series (`None`: the admin token's).
    pub(crate) fn rules(&self, relay: Option<TokenId>) -> Option<Arc<Rules>> {
        self.read().rules.get(&relay).cloned()
    }

    /// When samples of `id` last arrived since the server started.
    pub fn last_seen(&self, id: InstanceId) -> Option<Timestamp> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// The frame up to which it holds.
    pub fn applied_seq(&self) -> u64 {
        self.read().seq
    }

    pub(crate) fn saw(&self, ids: impl IntoIterator<Item = InstanceId>, now: Timestamp) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            seen.insert(id, now);
        }
    }

    /// The instance that a relay calls so, whatever its state.
    pub(crate) fn relayed(&self, space: &Namespace) -> Option<Arc<Instance>> {
        let state = self.read();
        state.instances.get(state.spaces.get(space)?).cloned()
    }

    /// How many instances a relay has named.
    pub(crate) fn relayed_count(&self, relay: Option<TokenId>) -> usize {
        self.read().relayed.get(&relay).copied().unwrap_or_default()
    }

    pub(crate) fn instance_count(&self) -> usize {
        self.read().instances.len()
    }

    pub(crate) fn token_count(&self) -> usize {
        self.read().tokens.len()
    }

    /// `wanted`, or `wanted-2`, `wanted-3`… when active instances of `job`, or `taken`, have it
    /// already.
    pub(crate) fn free_name(
        &self,
        job: &str,
        wanted: &str,
        taken: &HashSet<(String, String)>,
    ) -> String {
        let state = self.read();
        let named = |number: u64| match number {
            1 => wanted.to_owned(),
            _ => format!("{wanted}-{number}"),
        };
        let is_free = |number: u64| {
            let key = (job.to_owned(), named(number));
            !state.names.contains_key(&key) && !taken.contains(&key)
        };
        if is_free(1) {
            return named(1);
        }
        // A relay may send ten thousand of one name: the end of the taken numbers is closed in on.
        let (mut used, mut free) = (1, 2);
        while !is_free(free) {
            (used, free) = (free, free * 2);
        }
        while free - used > 1 {
            let middle = used.midpoint(free);
            if is_free(middle) { free = middle } else { used = middle }
        }
        named(free)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // A change is one insertion after everything that can fail, so that a panic leaves no half
        // of one.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes one change; answers the instance it made or changed.
    fn put(&mut self, change: Change) -> Option<Arc<Instance>> {
        match change {
            Change::Token(token) => {
                self.tokens.insert(token.id, Arc::new(token));
                None
            }
            Change::Forget(id) => {
                self.tokens.remove(&id);
                self.rules.remove(&Some(id));
                None
            }
            Change::Rules(relay, rules) => {
                if rules.written().is_empty() {
                    self.rules.remove(&relay);
                } else {
                    self.rules.insert(relay, rules);
                }
                None
            }
            Change::Instance(instance) => {
                let instance = Arc::new(instance);
                self.put_instance(&instance);
                Some(instance)
            }
        }
    }

    fn put_instance(&mut self, instance: &Arc<Instance>) {
        if let Some(old) = self.instances.insert(instance.id, instance.clone()) {
            let key = (old.job().to_owned(), old.name.clone());
            if self.names.get(&key) == Some(&old.id) {
                self.names.remove(&key);
            }
        }
        if instance.is_active() {
            self.names.insert((instance.job().to_owned(), instance.name.clone()), instance.id);
        }
        if let Source::Relay(space) = &instance.source
            && self.spaces.insert(space.clone(), instance.id).is_none()
        {
            *self.relayed.entry(space.relay).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests;
