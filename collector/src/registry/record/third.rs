//! Records of requests and policies that know documents of clouds, and accounts.

use bincode::{Decode, Encode};
use rrd::Timestamp;

use super::bad;
use super::second::{PolicyV1, RequestV1};
use crate::codec::CodecError;
use crate::identity::document::{Attestation, Attested};
use crate::registry::{JoinPolicy, Request};

#[derive(Encode, Decode)]
pub(crate) struct RequestV2 {
    first: RequestV1,
    attestation: AttestationV1,
}

#[derive(Encode, Decode)]
enum AttestationV1 {
    None,
    Verified { labels: Vec<(String, String)>, started_ms: Option<i64> },
    Unverified(String),
    Contradicted(String),
}

#[derive(Encode, Decode)]
pub(crate) struct PolicyV2 {
    first: PolicyV1,
    requires_document: bool,
    started_within_ms: Option<u64>,
}

#[derive(Encode, Decode)]
pub(crate) struct PolicyV3 {
    second: PolicyV2,
    accounts: Vec<String>,
}

impl From<&Request> for RequestV2 {
    fn from(request: &Request) -> Self {
        let attestation = match &request.attestation {
            Attestation::None => AttestationV1::None,
            Attestation::Verified(Attested { labels, started_at }) => AttestationV1::Verified {
                labels: labels.clone().into_iter().collect(),
                started_ms: started_at.map(Timestamp::as_millis),
            },
            Attestation::Unverified(why) => AttestationV1::Unverified(why.clone()),
            Attestation::Contradicted(what) => AttestationV1::Contradicted(what.clone()),
        };
        Self { first: request.into(), attestation }
    }
}

impl RequestV2 {
    pub(super) fn request(self) -> Result<Request, CodecError> {
        let attestation = match self.attestation {
            AttestationV1::None => Attestation::None,
            AttestationV1::Verified { labels, started_ms } => Attestation::Verified(Attested {
                labels: labels.into_iter().collect(),
                started_at: started_ms.map(Timestamp::from_millis),
            }),
            AttestationV1::Unverified(why) => Attestation::Unverified(why),
            AttestationV1::Contradicted(what) => Attestation::Contradicted(what),
        };
        Ok(Request { attestation, ..self.first.request()? })
    }
}

impl From<&JoinPolicy> for PolicyV2 {
    fn from(policy: &JoinPolicy) -> Self {
        let JoinPolicy { requires_document, started_within_ms, .. } = *policy;
        Self { first: policy.into(), requires_document, started_within_ms }
    }
}

impl PolicyV2 {
    pub(super) fn policy(self) -> Result<JoinPolicy, CodecError> {
        let Self { first, requires_document, started_within_ms } = self;
        Ok(JoinPolicy { requires_document, started_within_ms, ..first.policy()? })
    }
}

impl From<&JoinPolicy> for PolicyV3 {
    fn from(policy: &JoinPolicy) -> Self {
        let accounts = policy.accounts.iter().map(ToString::to_string).collect();
        Self { second: policy.into(), accounts }
    }
}

impl PolicyV3 {
    pub(super) fn policy(self) -> Result<JoinPolicy, CodecError> {
        let read = |text: &String| text.parse().map_err(|error| bad(format!("{error}")));
        let accounts = self.accounts.iter().map(read).collect::<Result<_, _>>()?;
        Ok(JoinPolicy { accounts, ..self.second.policy()? })
    }
}
