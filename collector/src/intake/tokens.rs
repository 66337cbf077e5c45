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
use crate::foreign::relabel::Relabel;
use crate::limits::{LABEL_NAME_LIMIT, TOKEN_LIMIT, checked_labels};
use crate::registry::{Change, Token, TokenId, TokenKind};
use crate::secret::{Digest, Holder};

/// How long a join token lasts that nobody gave an end: enough to start machines with it today.
const JOIN_TTL_SECS: u64 = 3_600;
/// The longest life of a token.
const TTL_SECS_LIMIT: u64 = 10 * 366 * 86_400;

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
    /// Enrolments it is good for; without it any number.
    #[serde(default)]
    pub uses: Option<u32>,
    /// Of a relay: rules that its series meet.
    #[serde(default)]
    pub relabel: Option<Relabel>,
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
    };
    let secret = holder.secret().map_err(no_randomness)?;
    let expires_at = end(kind, ttl_secs, now)?;
    let digest = Digest::of(&secret);
    let token = Token {
        id,
        kind,
        name,
        labels,
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
        (None, TokenKind::Relay) => return Ok(None),
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
    }
}
