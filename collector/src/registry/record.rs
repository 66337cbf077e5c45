//! Records of the registry, as the journal and snapshots hold them.

use std::sync::Arc;

use bincode::{Decode, Encode};
use rrd::{InstanceId, Labels, Timestamp};

use super::{Instance, Lifecycle, Namespace, Source, Token, TokenId, TokenKind};
use crate::codec::{self, CodecError, FrameKind};
use crate::foreign::relabel::Rules;
use crate::native::Facts;
use crate::secret::Digest;

/// A change of the registry: the whole record as it is afterwards, so that applying it twice is
/// applying it once.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Instance(Instance),
    Token(Token),
    /// A token that ended long ago.
    Forget(TokenId),
    /// The rules of a relay (`None`: the admin token), in the place of those it had.
    Rules(Option<TokenId>, Arc<Rules>),
}

impl Change {
    /// The body of the journal frame that makes all of `changes`, or none.
    pub(crate) fn encode_all(changes: &[Self]) -> Vec<u8> {
        let records: Vec<Record> = changes.iter().map(Self::record).collect();
        codec::encode(FrameKind::RegistryChange, &records)
    }

    pub(crate) fn decode_all(body: &[u8]) -> Result<Vec<Self>, CodecError> {
        let records: Vec<Record> = codec::decode(FrameKind::RegistryChange, body)?;
        records.into_iter().map(Record::change).collect()
    }

    pub(crate) fn record(&self) -> Record {
        match self {
            Self::Instance(instance) => Record::Instance(instance.into()),
            Self::Token(token) => Record::Token(token.into()),
            Self::Forget(id) => Record::Forget { token: id.0 },
            Self::Rules(relay, rules) => {
                Record::Rules { relay: relay.map(|id| id.0), json: rules.written().text() }
            }
        }
    }
}

/// One record of a snapshot. New variants go to the end; a changed structure becomes a new variant.
#[derive(Encode, Decode)]
pub(crate) enum Record {
    /// First in a snapshot: the frame up to which it holds, and how many records follow.
    Head {
        seq: u64,
        count: u64,
    },
    Instance(InstanceV1),
    Token(TokenV1),
    Forget {
        token: u64,
    },
    Rules {
        relay: Option<u64>,
        json: String,
    },
}

impl Record {
    pub(crate) fn change(self) -> Result<Change, CodecError> {
        match self {
            Self::Head { .. } => Err(CodecError::Body("a head is not a change".to_owned())),
            Self::Instance(record) => record.instance().map(Change::Instance),
            Self::Token(record) => record.token().map(Change::Token),
            Self::Forget { token } => Ok(Change::Forget(TokenId(token))),
            Self::Rules { relay, json } => {
                let written = serde_json::from_str(&json).map_err(|error| error.to_string());
                let rules = written.and_then(Rules::compile).map_err(CodecError::Body)?;
                Ok(Change::Rules(relay.map(TokenId), Arc::new(rules)))
            }
        }
    }
}

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
enum SourceV1 {
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

impl From<&Instance> for InstanceV1 {
    fn from(instance: &Instance) -> Self {
        Self {
            id: instance.id.0,
            name: instance.name.clone(),
            labels: pairs(&instance.labels),
            source: match &instance.source {
                Source::Enrolled(token) => SourceV1::Enrolled { token: token.map(|id| id.0) },
                Source::Relay(space) => SourceV1::Relay {
                    token: space.relay.map(|id| id.0),
                    job: space.job.clone(),
                    instance: space.instance.clone(),
                },
            },
            lifecycle: match &instance.lifecycle {
                Lifecycle::Active => LifecycleV1::Active,
                Lifecycle::Withdrawn { at, evidence } => {
                    LifecycleV1::Withdrawn { at_ms: at.as_millis(), evidence: evidence.clone() }
                }
            },
            enrolled_ms: instance.enrolled_at.as_millis(),
            boot_id: instance.boot_id,
            facts: instance.facts.clone(),
            digest: instance.digest.as_ref().map(Digest::bytes),
        }
    }
}

impl InstanceV1 {
    fn instance(self) -> Result<Instance, CodecError> {
        Ok(Instance {
            id: InstanceId(self.id),
            name: self.name,
            labels: labels(self.labels)?,
            source: match self.source {
                SourceV1::Enrolled { token } => Source::Enrolled(token.map(TokenId)),
                SourceV1::Relay { token, job, instance } => {
                    Source::Relay(Namespace { relay: token.map(TokenId), job, instance })
                }
            },
            lifecycle: match self.lifecycle {
                LifecycleV1::Active => Lifecycle::Active,
                LifecycleV1::Withdrawn { at_ms, evidence } => {
                    Lifecycle::Withdrawn { at: Timestamp::from_millis(at_ms), evidence }
                }
            },
            enrolled_at: Timestamp::from_millis(self.enrolled_ms),
            boot_id: self.boot_id,
            facts: self.facts,
            digest: self.digest.map(Digest::from_bytes),
        })
    }
}

impl From<&Token> for TokenV1 {
    fn from(token: &Token) -> Self {
        Self {
            id: token.id.0,
            relay: token.kind == TokenKind::Relay,
            name: token.name.clone(),
            labels: pairs(&token.labels),
            expires_ms: token.expires_at.map(Timestamp::as_millis),
            uses_left: token.uses_left,
            created_ms: token.created_at.as_millis(),
            revoked: token.revoked,
            digest: token.digest.bytes(),
        }
    }
}

impl TokenV1 {
    fn token(self) -> Result<Token, CodecError> {
        Ok(Token {
            id: TokenId(self.id),
            kind: if self.relay { TokenKind::Relay } else { TokenKind::Join },
            name: self.name,
            labels: labels(self.labels)?,
            expires_at: self.expires_ms.map(Timestamp::from_millis),
            uses_left: self.uses_left,
            created_at: Timestamp::from_millis(self.created_ms),
            revoked: self.revoked,
            digest: Digest::from_bytes(self.digest),
        })
    }
}

fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn labels(pairs: Vec<(String, String)>) -> Result<Labels, CodecError> {
    Labels::from_pairs(pairs).map_err(|error| CodecError::Body(error.to_string()))
}
