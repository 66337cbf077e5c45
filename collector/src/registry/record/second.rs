//! Records of instances, tokens, requests and policies as this version writes them.

use std::net::IpAddr;

use bincode::{Decode, Encode};
use rrd::{InstanceId, Timestamp};

use super::bad;
use super::first::{SourceV1, labels, pairs};
use super::life::{HintV1, LifeV2, TermsV1};
use crate::address::Network;
use crate::codec::CodecError;
use crate::identity::PublicKey;
use crate::identity::document::Attestation;
use crate::native::Facts;
use crate::registry::instance::Credential;
use crate::registry::{
    Approval, Instance, JoinPolicy, Request, RequestId, Token, TokenId, TokenKind,
};
use crate::secret::Digest;

#[derive(Encode, Decode)]
pub(crate) struct InstanceV2 {
    id: u128,
    name: String,
    labels: Vec<(String, String)>,
    source: SourceV1,
    life: LifeV2,
    enrolled_ms: i64,
    boot_id: u128,
    facts: Facts,
    terms: TermsV1,
    key: Option<[u8; 32]>,
    series_quota: Option<u32>,
    predecessor: Option<u128>,
    hint: Option<HintV1>,
    credential: Option<CredentialV1>,
    former_credential: Option<CredentialV1>,
}

#[derive(Encode, Decode)]
struct CredentialV1 {
    digest: [u8; 32],
    expires_ms: Option<i64>,
}

#[derive(Encode, Decode)]
pub(crate) struct TokenV2 {
    id: u64,
    kind: u8,
    name: String,
    labels: Vec<(String, String)>,
    allowed_label_keys: Option<Vec<String>>,
    networks: Vec<String>,
    terms: TermsV1,
    series_quota: Option<u32>,
    waits: bool,
    expires_ms: Option<i64>,
    uses_left: Option<u32>,
    created_ms: i64,
    revoked: bool,
    digest: [u8; 32],
}

#[derive(Encode, Decode)]
pub(crate) struct RequestV1 {
    id: u128,
    key: Option<[u8; 32]>,
    name: String,
    boot_id: u128,
    facts: Facts,
    labels: Vec<(String, String)>,
    token: Option<u64>,
    peer: Option<String>,
    at_ms: i64,
    life: LifeV2,
    instance: Option<u128>,
}

#[derive(Encode, Decode)]
pub(crate) struct PolicyV1 {
    name: String,
    networks: Vec<String>,
    name_like: Option<String>,
    labels: Vec<(String, String)>,
    token: Option<u64>,
    forced: Vec<(String, String)>,
    terms: TermsV1,
}

impl From<&Instance> for InstanceV2 {
    fn from(instance: &Instance) -> Self {
        Self {
            id: instance.id.0,
            name: instance.name.clone(),
            labels: pairs(&instance.labels),
            source: SourceV1::of(&instance.source),
            life: (&instance.lifecycle).into(),
            enrolled_ms: instance.enrolled_at.as_millis(),
            boot_id: instance.boot_id,
            facts: instance.facts.clone(),
            terms: (&instance.terms).into(),
            key: instance.key.map(|key| key.0),
            series_quota: instance.series_quota,
            predecessor: instance.predecessor.map(|id| id.0),
            hint: instance.hint.as_ref().map(Into::into),
            credential: instance.credential.as_ref().map(Into::into),
            former_credential: instance.former_credential.as_ref().map(Into::into),
        }
    }
}

impl InstanceV2 {
    pub(super) fn instance(self) -> Result<Instance, CodecError> {
        Ok(Instance {
            id: InstanceId(self.id),
            name: self.name,
            labels: labels(self.labels)?,
            source: self.source.source(),
            lifecycle: self.life.life()?,
            enrolled_at: Timestamp::from_millis(self.enrolled_ms),
            boot_id: self.boot_id,
            facts: self.facts,
            terms: self.terms.terms(),
            key: self.key.map(PublicKey),
            series_quota: self.series_quota,
            predecessor: self.predecessor.map(InstanceId),
            hint: self.hint.map(HintV1::hint),
            credential: self.credential.map(CredentialV1::credential),
            former_credential: self.former_credential.map(CredentialV1::credential),
        })
    }
}

impl From<&Credential> for CredentialV1 {
    fn from(credential: &Credential) -> Self {
        let expires_ms = credential.expires_at.map(Timestamp::as_millis);
        Self { digest: credential.digest.bytes(), expires_ms }
    }
}

impl CredentialV1 {
    fn credential(self) -> Credential {
        let expires_at = self.expires_ms.map(Timestamp::from_millis);
        Credential { digest: Digest::from_bytes(self.digest), expires_at }
    }
}

impl From<&Token> for TokenV2 {
    fn from(token: &Token) -> Self {
        Self {
            id: token.id.0,
            kind: match token.kind {
                TokenKind::Join => 0,
                TokenKind::Relay => 1,
                TokenKind::Events => 2,
                TokenKind::Read => 3,
            },
            name: token.name.clone(),
            labels: pairs(&token.labels),
            allowed_label_keys: token.allowed_label_keys.clone(),
            networks: token.networks.iter().map(ToString::to_string).collect(),
            terms: (&token.terms).into(),
            series_quota: token.series_quota,
            waits: token.approval == Approval::Waits,
            expires_ms: token.expires_at.map(Timestamp::as_millis),
            uses_left: token.uses_left,
            created_ms: token.created_at.as_millis(),
            revoked: token.revoked,
            digest: token.digest.bytes(),
        }
    }
}

impl TokenV2 {
    pub(super) fn token(self) -> Result<Token, CodecError> {
        let all = [TokenKind::Join, TokenKind::Relay, TokenKind::Events, TokenKind::Read];
        let kind = all.get(usize::from(self.kind)).copied();
        Ok(Token {
            id: TokenId(self.id),
            kind: kind.ok_or_else(|| bad(format!("token kind {} is not known here", self.kind)))?,
            name: self.name,
            labels: labels(self.labels)?,
            allowed_label_keys: self.allowed_label_keys,
            networks: networks(&self.networks)?,
            terms: self.terms.terms(),
            series_quota: self.series_quota,
            approval: if self.waits { Approval::Waits } else { Approval::Auto },
            expires_at: self.expires_ms.map(Timestamp::from_millis),
            uses_left: self.uses_left,
            created_at: Timestamp::from_millis(self.created_ms),
            revoked: self.revoked,
            digest: Digest::from_bytes(self.digest),
        })
    }
}

impl From<&Request> for RequestV1 {
    fn from(request: &Request) -> Self {
        Self {
            id: request.id.0,
            key: request.key.map(|key| key.0),
            name: request.name.clone(),
            boot_id: request.boot_id,
            facts: request.facts.clone(),
            labels: request.labels.clone().into_iter().collect(),
            token: request.token.map(|id| id.0),
            peer: request.peer.map(|peer| peer.to_string()),
            at_ms: request.at.as_millis(),
            life: (&request.lifecycle).into(),
            instance: request.instance.map(|id| id.0),
        }
    }
}

impl RequestV1 {
    pub(super) fn request(self) -> Result<Request, CodecError> {
        let peer = self.peer.map(|peer| peer.parse::<IpAddr>()).transpose();
        Ok(Request {
            id: RequestId(self.id),
            key: self.key.map(PublicKey),
            name: self.name,
            boot_id: self.boot_id,
            facts: self.facts,
            labels: self.labels.into_iter().collect(),
            attestation: Attestation::None,
            token: self.token.map(TokenId),
            peer: peer.map_err(|error| bad(error.to_string()))?,
            at: Timestamp::from_millis(self.at_ms),
            lifecycle: self.life.life()?,
            instance: self.instance.map(InstanceId),
        })
    }
}

impl From<&JoinPolicy> for PolicyV1 {
    fn from(policy: &JoinPolicy) -> Self {
        Self {
            name: policy.name.clone(),
            networks: policy.networks.iter().map(ToString::to_string).collect(),
            name_like: policy.name_like.clone(),
            labels: policy.labels.clone().into_iter().collect(),
            token: policy.token.map(|id| id.0),
            forced: pairs(&policy.forced),
            terms: (&policy.terms).into(),
        }
    }
}

impl PolicyV1 {
    pub(super) fn policy(self) -> Result<JoinPolicy, CodecError> {
        Ok(JoinPolicy {
            name: self.name,
            networks: networks(&self.networks)?,
            name_like: self.name_like,
            labels: self.labels.into_iter().collect(),
            token: self.token.map(TokenId),
            requires_document: false,
            accounts: Vec::new(),
            started_within_ms: None,
            forced: labels(self.forced)?,
            terms: self.terms.terms(),
        })
    }
}

fn networks(texts: &[String]) -> Result<Vec<Network>, CodecError> {
    let read = |text: &String| text.parse().map_err(|error| bad(format!("{error}")));
    texts.iter().map(read).collect()
}
