//! The registry: which instances and tokens there are.
//!
//! It changes by journal frames only, which the worker applies in order; who wants a change appends
//! a frame and waits until it is applied. Every frame holds a whole record, so that replay is
//! idempotent.

mod account;
mod event;
pub(crate) mod instance;
mod record;
mod request;
mod state;
mod token;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rrd::{InstanceId, Labels, Timestamp};

pub use crate::lifecycle::{Lifecycle, State};
pub use account::{Account, AccountError};
pub use event::{Event, What};
pub use instance::{Instance, Namespace, Source};
pub(crate) use record::Change;
use record::Record;
pub use request::{JoinPolicy, Request, RequestId};
use state::State as Inside;
pub use token::{Approval, Token, TokenId, TokenIdError, TokenKind};

use crate::codec::{self, CodecError, FrameKind};
use crate::foreign::relabel::Rules;
use crate::identity::PublicKey;

/// The kind of journal frame that carries a change of the registry.
pub const FRAME_REGISTRY: u8 = 16;

/// Instances, tokens, requests, policies and events, and when each instance was last heard of.
#[derive(Debug, Default)]
pub struct Registry {
    state: RwLock<Inside>,
    seen: Mutex<HashMap<InstanceId, Seen>>,
}

/// When an instance was heard, and how far apart its last batches came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its last batch.
    pub at: Timestamp,
    gaps_ms: [u64; 2],
}

impl Seen {
    /// The usual time between its batches; `None` before three have come.
    pub fn gap_ms(&self) -> Option<u64> {
        let [one, two] = self.gaps_ms;
        (one > 0 && two > 0).then_some(one.min(two))
    }

    fn again(&mut self, now: Timestamp) {
        // Two requests of one moment are one batch in two parts.
        if let Ok(gap_ms @ 1..) = u64::try_from(now.millis_since(self.at)) {
            self.gaps_ms = [self.gaps_ms[1], gap_ms];
            self.at = now;
        }
    }
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
        let count = u64::try_from(state.count()).expect("a count of records in memory");
        let head = Record::Head { seq: state.seq, count };
        let mut bytes = codec::encode(FrameKind::RegistryRecord, &head);
        state.each(|change| {
            bytes.extend(codec::encode(FrameKind::RegistryRecord, &change.record()));
        });
        bytes
    }

    /// A registry as [`Registry::snapshot`] saved it. Errors when a byte of it is damaged or
    /// missing.
    pub fn restore(bytes: &[u8]) -> Result<Self, CodecError> {
        let (head, mut rest) = codec::split::<Record>(FrameKind::RegistryRecord, bytes)?;
        let Record::Head { seq, count } = head else {
            return Err(CodecError::Body("a registry snapshot starts with its head".to_owned()));
        };
        let mut state = Inside { seq, ..Inside::default() };
        for _ in 0..count {
            let (record, tail) = codec::split::<Record>(FrameKind::RegistryRecord, rest)?;
            state.restore(record.change()?);
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

    /// The instance that a machine with this key is, or was last.
    pub fn keyed(&self, key: &PublicKey) -> Option<Arc<Instance>> {
        let state = self.read();
        state.instances.get(state.keys.get(key)?).cloned()
    }

    /// Requests to be enrolled of the last days, oldest first; a bounded list.
    pub fn requests(&self) -> Vec<Arc<Request>> {
        self.read().requests.values().cloned().collect()
    }

    /// The request `id`.
    pub fn request(&self, id: RequestId) -> Option<Arc<Request>> {
        let state = self.read();
        state.requests.get(state.request_keys.get(&id)?).cloned()
    }

    /// Join policies, in order of name.
    pub fn policies(&self) -> Vec<Arc<JoinPolicy>> {
        self.read().policies.values().cloned().collect()
    }

    /// At most `limit` events after number `after`, oldest first. Old ones are forgotten.
    pub fn events(&self, after: u64, limit: usize) -> Vec<Arc<Event>> {
        let state = self.read();
        let begin = state.events.partition_point(|event| event.number <= after);
        state.events.iter().skip(begin).take(limit).cloned().collect()
    }

    /// The number of the newest event; 0 before the first.
    pub fn last_event(&self) -> u64 {
        self.read().events.back().map_or(0, |event| event.number)
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
        self.seen(id).map(|seen| seen.at)
    }

    /// As [`Registry::last_seen`], with how far apart the last batches came.
    pub fn seen(&self, id: InstanceId) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// The frame up to which it holds.
    pub fn applied_seq(&self) -> u64 {
        self.read().seq
    }

    pub(crate) fn saw(&self, ids: impl IntoIterator<Item = InstanceId>, now: Timestamp) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            seen.entry(id)
                .and_modify(|seen| seen.again(now))
                .or_insert(Seen { at: now, gaps_ms: [0; 2] });
        }
    }

    /// The instance that a relay calls so, whatever its state.
    pub(crate) fn relayed(&self, space: &Namespace) -> Option<Arc<Instance>> {
        let state = self.read();
        state.instances.get(state.spaces.get(space)?).cloned()
    }

    /// Those of the instances `ids` that are not active.
    pub(crate) fn inactive_of(&self, ids: impl Iterator<Item = InstanceId>) -> Vec<Arc<Instance>> {
        let state = self.read();
        let inactive = |id| state.instances.get(&id).filter(|one| !one.is_active()).cloned();
        ids.filter_map(inactive).collect()
    }

    /// How many instances a relay has named.
    pub(crate) fn relayed_count(&self, relay: Option<TokenId>) -> usize {
        self.read().relayed.get(&relay).copied().unwrap_or_default()
    }

    /// How many instances there are, but for those of which only a line is left.
    pub(crate) fn instance_count(&self) -> usize {
        let state = self.read();
        state.instances.len() - state.tombstones.len()
    }

    /// Forgets when those were heard of which nothing is left.
    pub(crate) fn forget_seen(&self, is_gone: impl Fn(InstanceId) -> bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|id, _| !is_gone(*id));
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

    fn read(&self) -> RwLockReadGuard<'_, Inside> {
        // A change is one insertion after everything that can fail, so that a panic leaves no half
        // of one.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inside> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
