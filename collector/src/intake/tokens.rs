//! Tokens: made, listed and taken back by the operator.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use rrd::Timestamp;
use serde::{Deserialize, Serialize};

use super::enroll::{check_reserved, no_randomness};
use super::{Denial, Inner, Intake, to_the_end};
use crate::address::Network;
use crate::foreign::relabel::Relabel;
use crate::lifecycle::{Permanence, Terms};
use crate::limits::{LABEL_COUNT_LIMIT, LABEL_NAME_LIMIT, TOKEN_LIMIT, checked_labels};
use crate::registry::{Approval, Change, Token, TokenId, TokenKind};
use crate::secret::{Digest, Holder};

/// How long a join token lasts that nobody gave an end: enough to start machines with it today.
const JOIN_TTL_SECS: u64 = 3_600;
/// The longest life of a token.
const TTL_SECS_LIMIT: u64 = 10 * 366 * 86_400;

/// The longest span of silence that a token may set.
const SPAN_SECS_LIMIT: u64 = 366 * 86_400;
/// The most series that a token may give an instance: fast machines with everything switched on have half.
const SERIES_QUOTA_LIMIT: u32 = 10_000;
/// Networks that one token or policy names.
const NETWORK_LIMIT: usize = 64;

/// How long an expired token can still be looked up: a week answers "why did my machine not
/// enrol?".
const FORGET_AFTER_MS: i64 = 7 * 86_400_000;

/// What a token shall be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What it is good for.
    pub kind: TokenKind,
    /// What its holder is called.
    #[serde(default)]
    pub name: String,
    /// Labels forced on every instance under it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Seconds it lasts; without it a join token lasts an hour and a relay token until it is
    /// revoked.
    #[serde(default)]
    pub ttl_secs: Option<u64>,
    /// Enrolments it is good for; without it any number. A request that waits for a person is one.
    #[serde(default)]
    pub uses: Option<u32>,
    /// Of a join token: networks that machines enrol from; any, when empty.
    #[serde(default)]
    pub cidr: Vec<String>,
    /// False: a person decides on each machine that joins, or on the token of another kind.
    #[serde(default = "yes")]
    pub auto_approve: bool,
    /// Of a join token: labels that a machine may declare of itself; all, when not said.
    #[serde(default)]
    pub allowed_label_keys: Option<Vec<String>>,
    /// Series that each instance may have.
    #[serde(default)]
    pub series_quota: Option<u32>,
    /// Whether its instances come and go, and how long their silence may last.
    #[serde(flatten)]
    pub spans: Spans,
    /// Of a relay: rules that its series meet.
    #[serde(default)]
    pub relabel: Option<Relabel>,
}

impl TokenRequest {
    /// A token of this kind, everything else as usual.
    pub fn of(kind: TokenKind) -> Self {
        Self {
            kind,
            name: String::new(),
            labels: BTreeMap::new(),
            ttl_secs: None,
            uses: None,
            cidr: Vec::new(),
            auto_approve: true,
            allowed_label_keys: None,
            series_quota: None,
            spans: Spans::default(),
            relabel: None,
        }
    }
}

const fn yes() -> bool {
    true
}

/// How the silence of instances is judged, as people write it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Spans {
    /// `ephemeral` or `permanent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Permanence>,
    /// Seconds of silence before it is noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_secs: Option<u64>,
    /// Seconds from then on before it is a loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_secs: Option<u64>,
    /// Seconds from the loss on before an ephemeral instance is let go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_secs: Option<u64>,
}

impl Spans {
    pub(super) fn of(terms: &Terms) -> Self {
        let secs = |span_ms: Option<u64>| span_ms.map(|span_ms| span_ms / 1000);
        Self {
            lifecycle: (terms.permanence == Permanence::Ephemeral).then_some(terms.permanence),
            silent_secs: secs(terms.silent_ms),
            lost_secs: secs(terms.lost_ms),
            withdraw_secs: secs(terms.withdraw_ms),
        }
    }

    /// `terms`, but for what is said here.
    pub(super) fn over(self, terms: Terms) -> Result<Terms, Denial> {
        let millis = |name: &str, secs: Option<u64>, former_ms: Option<u64>| match secs {
            Some(secs) if secs == 0 || secs > SPAN_SECS_LIMIT => {
                Err(Denial::bad(format!("{name}: 1 to {SPAN_SECS_LIMIT}")))
            }
            Some(secs) => Ok(Some(secs * 1000)),
            None => Ok(former_ms),
        };
        Ok(Terms {
            permanence: self.lifecycle.unwrap_or(terms.permanence),
            silent_ms: millis("silent_secs", self.silent_secs, terms.silent_ms)?,
            lost_ms: millis("lost_secs", self.lost_secs, terms.lost_ms)?,
            withdraw_ms: millis("withdraw_secs", self.withdraw_secs, terms.withdraw_ms)?,
        })
    }
}

/// A quota of series, checked.
pub(super) fn quota(series: Option<u32>) -> Result<Option<u32>, Denial> {
    match series {
        Some(series) if series == 0 || series > SERIES_QUOTA_LIMIT => {
            Err(Denial::bad(format!("series_quota: 1 to {SERIES_QUOTA_LIMIT}")))
        }
        series => Ok(series),
    }
}

/// Networks that a token or a policy names.
pub(super) fn networks(texts: &[String]) -> Result<Vec<Network>, Denial> {
    if texts.len() > NETWORK_LIMIT {
        return Err(Denial::bad(format!("cidr: at most {NETWORK_LIMIT} networks")));
    }
    let read = |text: &String| text.parse().map_err(|error| Denial::bad(format!("cidr: {error}")));
    texts.iter().map(read).collect()
}

/// A list of label names, checked.
fn label_keys(keys: Option<Vec<String>>) -> Result<Option<Vec<String>>, Denial> {
    let is_long = |keys: &Vec<String>| {
        keys.len() > LABEL_COUNT_LIMIT || keys.iter().any(|key| key.len() > LABEL_NAME_LIMIT)
    };
    if keys.as_ref().is_some_and(is_long) {
        let message = format!("allowed_label_keys: at most {LABEL_COUNT_LIMIT} names of labels");
        return Err(Denial::bad(message));
    }
    Ok(keys)
}

/// Checks that only what enrols machines is told what concerns enrolment alone: others would hold for
/// confined what is not.
fn check_kind(request: &TokenRequest) -> Result<(), Denial> {
    if request.kind == TokenKind::Join {
        return Ok(());
    }
    if !request.cidr.is_empty() {
        let message = "cidr: only a join token is confined to networks; leave it out";
        return Err(Denial::bad(message));
    }
    if request.allowed_label_keys.is_some() {
        let message =
            "allowed_label_keys: only a join token says what machines may declare; leave it out";
        return Err(Denial::bad(message));
    }
    Ok(())
}

/// A token just made. Its secret is shown here and never again.
#[derive(Clone, Serialize, Deserialize)]
pub struct Minted {
    /// Its name.
    pub id: String,
    /// What it is good for.
    pub kind: TokenKind,
    /// The secret.
    pub token: String,
    /// When it ends, milliseconds since 1970.
    pub expires_ms: Option<i64>,
}

/// Leaves the secret out.
impl std::fmt::Debug for Minted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minted").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A token as lists show it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    id: String,
    kind: TokenKind,
    name: String,
    labels: BTreeMap<String, String>,
    expires_ms: Option<i64>,
    uses_left: Option<u32>,
    created_ms: i64,
    revoked: bool,
    /// A person has to decide: on each machine, or on the token.
    waits: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cidr: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_label_keys: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    series_quota: Option<u32>,
    #[serde(flatten)]
    spans: Spans,
}

pub(super) async fn post(
    State(intake): State<Intake>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Minted>), Denial> {
    intake.0.admin(&headers)?;
    let request = intake.0.room.json(&headers, body).await?;
    Ok((StatusCode::CREATED, Json(intake.mint(request).await?)))
}

pub(super) async fn list(
    State(intake): State<Intake>,
    headers: HeaderMap,
) -> Result<Json<Vec<Shown>>, Denial> {
    intake.0.admin(&headers)?;
    Ok(Json(intake.0.parts.registry.tokens().iter().map(|token| shown(token)).collect()))
}

pub(super) async fn revoke(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Denial> {
    intake.0.admin(&headers)?;
    let id: TokenId = id.parse().map_err(|_| Denial::missing("no token has this id"))?;
    let inner = intake.0.clone();
    to_the_end(async move {
        let mut turn = inner.turn().await?;
        let token = inner.parts.registry.token(id);
        let token = token.ok_or_else(|| Denial::missing("no token has this id"))?;
        let revoked = Token { revoked: true, ..(*token).clone() };
        inner.change(&mut turn, &[Change::Token(revoked)]).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

impl Inner {
    pub(super) async fn mint(self: &Arc<Self>, request: TokenRequest) -> Result<Minted, Denial> {
        let this = self.clone();
        to_the_end(async move {
            let mut turn = this.turn().await?;
            if this.parts.registry.token_count() >= TOKEN_LIMIT {
                return Err(Denial::no_space("there are too many tokens; remove some"));
            }
            let rules = request.relabel.clone().map(super::relabel::checked).transpose()?;
            if rules.is_some() && request.kind != TokenKind::Relay {
                return Err(Denial::bad("relabel: only a relay token has rules"));
            }
            let (token, secret) = token_of(request, this.parts.clock.wall())?;
            let minted = Minted {
                id: token.id.to_string(),
                kind: token.kind,
                token: secret,
                expires_ms: token.expires_at.map(Timestamp::as_millis),
            };
            let mut changes = this.ended_tokens();
            changes.extend(rules.map(|rules| Change::Rules(Some(token.id), rules)));
            changes.push(Change::Token(token));
            this.change(&mut turn, &changes).await?;
            Ok(minted)
        })
        .await
    }
}

impl Inner {
    /// Tokens that ended so long ago that nobody asks for them: without this an autoscaler's would
    /// fill the registry.
    fn ended_tokens(&self) -> Vec<Change> {
        let long_ago = self.parts.clock.wall().plus_millis(-FORGET_AFTER_MS);
        let ended = |token: &&Arc<Token>| token.expires_at.is_some_and(|end| end < long_ago);
        self.parts
            .registry
            .tokens()
            .iter()
            .filter(ended)
            .map(|one| Change::Forget(one.id))
            .collect()
    }
}

fn token_of(request: TokenRequest, now: Timestamp) -> Result<(Token, String), Denial> {
    check_kind(&request)?;
    let TokenRequest { kind, name, labels, ttl_secs, uses, .. } = request;
    if name.len() > LABEL_NAME_LIMIT || name.chars().any(char::is_control) {
        let message = format!("name: at most {LABEL_NAME_LIMIT} bytes without control characters");
        return Err(Denial::bad(message));
    }
    if uses == Some(0) {
        return Err(Denial::bad("uses: at least 1"));
    }
    check_reserved(&labels)?;
    let pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let labels = checked_labels(&pairs).map_err(|(_, message)| Denial::bad(message))?;
    let mut id = [0_u8; 8];
    getrandom::fill(&mut id).map_err(no_randomness)?;
    let id = TokenId(u64::from_le_bytes(id));
    let holder = match kind {
        TokenKind::Join => Holder::Join(id),
        TokenKind::Relay => Holder::Relay(id),
        TokenKind::Events => Holder::Events(id),
        TokenKind::Read => Holder::Reader(id),
    };
    let secret = holder.secret().map_err(no_randomness)?;
    let expires_at = end(kind, ttl_secs, now)?;
    let digest = Digest::of(&secret);
    let token = Token {
        id,
        kind,
        name,
        labels,
        allowed_label_keys: label_keys(request.allowed_label_keys)?,
        networks: networks(&request.cidr)?,
        terms: request.spans.over(Terms::default())?,
        series_quota: quota(request.series_quota)?,
        approval: if request.auto_approve { Approval::Auto } else { Approval::Waits },
        expires_at,
        uses_left: uses,
        created_at: now,
        revoked: false,
        digest,
    };
    Ok((token, secret))
}

fn end(
    kind: TokenKind,
    ttl_secs: Option<u64>,
    now: Timestamp,
) -> Result<Option<Timestamp>, Denial> {
    let secs = match (ttl_secs, kind) {
        (Some(secs), _) if secs == 0 || secs > TTL_SECS_LIMIT => {
            return Err(Denial::bad(format!("ttl_secs: 1 to {TTL_SECS_LIMIT}")));
        }
        (Some(secs), _) => secs,
        (None, TokenKind::Join) => JOIN_TTL_SECS,
        (None, TokenKind::Relay | TokenKind::Events | TokenKind::Read) => return Ok(None),
    };
    let millis = i64::try_from(secs * 1000).expect("ten years of milliseconds");
    Ok(Some(now.plus_millis(millis)))
}

fn shown(token: &Token) -> Shown {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Shown {
        id: token.id.to_string(),
        kind: token.kind,
        name: token.name.clone(),
        labels: token.labels.iter().map(owned).collect(),
        expires_ms: token.expires_at.map(Timestamp::as_millis),
        uses_left: token.uses_left,
        created_ms: token.created_at.as_millis(),
        revoked: token.revoked,
        waits: token.approval == Approval::Waits,
        cidr: token.networks.iter().map(ToString::to_string).collect(),
        allowed_label_keys: token.allowed_label_keys.clone(),
        series_quota: token.series_quota,
        spans: Spans::of(&token.terms),
    }
}
