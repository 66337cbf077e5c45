//! Records of the registry, as the journal and snapshots hold them.

mod first;
mod life;
mod second;
mod third;

use std::sync::Arc;

use bincode::{Decode, Encode};

use super::{Event, Instance, JoinPolicy, Request, Token, TokenId};
use crate::codec::{self, CodecError, FrameKind};
use crate::foreign::relabel::Rules;
use first::{InstanceV1, TokenV1};
use life::EventV1;
use second::{InstanceV2, PolicyV1, RequestV1, TokenV2};
use third::{PolicyV2, PolicyV3, RequestV2};

/// A change of the registry: the whole record as it is afterwards, so that applying it twice is
/// applying it once.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Instance(Instance),
    Token(Token),
    /// A token that ended long ago.
    Forget(TokenId),
    Request(Request),
    Policy(JoinPolicy),
    /// A policy that was taken back.
    ForgetPolicy(String),
    /// Something to be told; it gets its number when it is applied.
    Event(Event),
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

    /// Bytes of it in a frame.
    pub(crate) fn size(&self) -> usize {
        codec::encode(FrameKind::RegistryRecord, &self.record()).len()
    }

    pub(crate) fn record(&self) -> Record {
        match self {
            Self::Instance(instance) => Record::InstanceV2(instance.into()),
            Self::Token(token) => Record::TokenV2(token.into()),
            Self::Forget(id) => Record::Forget { token: id.0 },
            Self::Request(request) => Record::RequestV2(request.into()),
            // An older program reads what it can know.
            Self::Policy(policy) if policy.accounts.is_empty() => Record::PolicyV2(policy.into()),
            Self::Policy(policy) => Record::PolicyV3(policy.into()),
            Self::ForgetPolicy(name) => Record::ForgetPolicy { name: name.clone() },
            Self::Event(event) => Record::Event(event.into()),
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
    InstanceV2(InstanceV2),
    TokenV2(TokenV2),
    Request(RequestV1),
    Policy(PolicyV1),
    ForgetPolicy {
        name: String,
    },
    Event(EventV1),
    Rules {
        relay: Option<u64>,
        json: String,
    },
    RequestV2(RequestV2),
    PolicyV2(PolicyV2),
    PolicyV3(PolicyV3),
}

impl Record {
    pub(crate) fn change(self) -> Result<Change, CodecError> {
        match self {
            Self::Head { .. } => Err(bad("a head is not a change")),
            Self::Instance(record) => record.instance().map(Change::Instance),
            Self::Token(record) => record.token().map(Change::Token),
            Self::Forget { token } => Ok(Change::Forget(TokenId(token))),
            Self::InstanceV2(record) => record.instance().map(Change::Instance),
            Self::TokenV2(record) => record.token().map(Change::Token),
            Self::Request(record) => record.request().map(Change::Request),
            Self::Policy(record) => record.policy().map(Change::Policy),
            Self::RequestV2(record) => record.request().map(Change::Request),
            Self::PolicyV2(record) => record.policy().map(Change::Policy),
            Self::PolicyV3(record) => record.policy().map(Change::Policy),
            Self::ForgetPolicy { name } => Ok(Change::ForgetPolicy(name)),
            Self::Event(record) => record.event().map(Change::Event),
            Self::Rules { relay, json } => {
                let written = serde_json::from_str(&json).map_err(|error| error.to_string());
                let rules = written.and_then(Rules::compile).map_err(CodecError::Body)?;
                Ok(Change::Rules(relay.map(TokenId), Arc::new(rules)))
            }
        }
    }
}

fn bad(message: impl Into<String>) -> CodecError {
    CodecError::Body(message.into())
}
