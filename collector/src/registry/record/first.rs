//! Records as earlier versions wrote them: read, and written no more.

use bincode::{Decode, Encode};
use rrd::{InstanceId, Labels, Timestamp};

use crate::codec::CodecError;
use crate::lifecycle::{Evidence, Lifecycle, Move, State, Terms, Who};
use crate::native::Facts;
use crate::registry::instance::Credential;
use crate::registry::{Approval, Instance, Namespace, Source, Token, TokenId, TokenKind};
use crate::secret::Digest;

#[derive(Encode, Decode)]
pub(crate) struct InstanceV1 {
    id: u128,
    name: String,
    labels: Vec<(String, String)>,
    source: SourceV1,
    lifecycle: LifecycleV1,
    enrolled_ms: i64,
    boot_id: u128,
    facts: Facts,
    digest: Option<[u8; 32]>,
}

#[derive(Encode, Decode)]
pub(super) enum SourceV1 {
    Enrolled { token: Option<u64> },
    Relay { token: Option<u64>, job: String, instance: String },
}

#[derive(Encode, Decode)]
enum LifecycleV1 {
    Active,
    Withdrawn { at_ms: i64, evidence: String },
}

#[derive(Encode, Decode)]
pub(crate) struct TokenV1 {
    id: u64,
    relay: bool,
    name: String,
    labels: Vec<(String, String)>,
    expires_ms: Option<i64>,
    uses_left: Option<u32>,
    created_ms: i64,
    revoked: bool,
    digest: [u8; 32],
}

impl InstanceV1 {
    pub(super) fn instance(self) -> Result<Instance, CodecError> {
        let enrolled_at = Timestamp::from_millis(self.enrolled_ms);
        let came = Evidence::of(Who::Collector, "it was enrolled by an earlier version");
        let active = Lifecycle::begun(State::Active, came, enrolled_at);
        let source = self.source.source();
        Ok(Instance {
            id: InstanceId(self.id),
            name: self.name,
            labels: labels(self.labels)?,
            source,
            lifecycle: match self.lifecycle {
                LifecycleV1::Active => active,
                LifecycleV1::Withdrawn { at_ms, evidence } => {
                    let gone = Move::to(State::Withdrawn, Who::Operator, evidence);
                    active.moved(gone, Timestamp::from_millis(at_ms))
                }
            },
            enrolled_at,
            boot_id: self.boot_id,
            facts: self.facts,
            terms: Terms::default(),
            key: None,
            series_quota: None,
            predecessor: None,
            hint: None,
            credential: self
                .digest
                .map(|digest| Credential { digest: Digest::from_bytes(digest), expires_at: None }),
            former_credential: None,
        })
    }
}

impl SourceV1 {
    pub(super) fn of(source: &Source) -> Self {
        match source {
            Source::Enrolled(token) => Self::Enrolled { token: token.map(|id| id.0) },
            Source::Relay(space) => Self::Relay {
                token: space.relay.map(|id| id.0),
                job: space.job.clone(),
                instance: space.instance.clone(),
            },
        }
    }

    pub(super) fn source(self) -> Source {
        match self {
            Self::Enrolled { token } => Source::Enrolled(token.map(TokenId)),
            Self::Relay { token, job, instance } => {
                Source::Relay(Namespace { relay: token.map(TokenId), job, instance })
            }
        }
    }
}

impl TokenV1 {
    pub(super) fn token(self) -> Result<Token, CodecError> {
        Ok(Token {
            id: TokenId(self.id),
            kind: if self.relay { TokenKind::Relay } else { TokenKind::Join },
            name: self.name,
            labels: labels(self.labels)?,
            allowed_label_keys: None,
            networks: Vec::new(),
            terms: Terms::default(),
            series_quota: None,
            approval: Approval::Auto,
            expires_at: self.expires_ms.map(Timestamp::from_millis),
            uses_left: self.uses_left,
            created_at: Timestamp::from_millis(self.created_ms),
            revoked: self.revoked,
            digest: Digest::from_bytes(self.digest),
        })
    }
}

pub(super) fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub(super) fn labels(pairs: Vec<(String, String)>) -> Result<Labels, CodecError> {
    Labels::from_pairs(pairs).map_err(|error| super::bad(error.to_string()))
}
