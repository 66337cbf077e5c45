//! The rules of relays: set by the operator, kept in the registry, asked about series not seen
//! before.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};

use super::{Denial, Inner, Intake, to_the_end};
use crate::foreign::relabel::{Relabel, Rules};
use crate::registry::{Change, TokenId, TokenKind};

/// Rules that hold for every relay, from the configuration.
#[derive(Debug, Default)]
pub(super) struct CommonRules(RwLock<Option<Arc<Rules>>>);

/// All rules that a series of one relay meets, in order.
pub(crate) type RuleSets = Vec<Arc<Rules>>;

impl Intake {
    /// Sets rules that every relay's series meet before those of its token. Errors with what is
    /// wrong with them.
    pub fn relabel(&self, written: Relabel) -> Result<(), String> {
        let rules = if written.is_empty() { None } else { Some(Rules::compile(written)?) };
        let mut common = self.0.rules.0.write().unwrap_or_else(PoisonError::into_inner);
        *common = rules.map(Arc::new);
        Ok(())
    }
}

impl Inner {
    /// The rules for series of `relay`.
    pub(super) fn rules_of(&self, relay: Option<TokenId>) -> RuleSets {
        let common = self.rules.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        common.into_iter().chain(self.parts.registry.rules(relay)).collect()
    }
}

/// The rules of a token, checked.
pub(super) fn checked(written: Relabel) -> Result<Arc<Rules>, Denial> {
    let rules = Rules::compile(written).map_err(|why| Denial::bad(format!("relabel: {why}")))?;
    Ok(Arc::new(rules))
}

pub(super) async fn get(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Relabel>, Denial> {
    intake.0.admin(&headers)?;
    let rules = intake.0.parts.registry.rules(holder(&intake.0, &id)?);
    Ok(Json(rules.map(|rules| rules.written().clone()).unwrap_or_default()))
}

/// Sets the rules of a token; from then on every series it sends is looked at anew.
pub(super) async fn put(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Denial> {
    intake.0.admin(&headers)?;
    let rules = checked(intake.0.room.json(&headers, body).await?)?;
    let inner = intake.0.clone();
    to_the_end(async move {
        let mut turn = inner.turn().await?;
        let relay = holder(&inner, &id)?;
        inner.change(&mut turn, &[Change::Rules(relay, rules)]).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// The relay that `id` names: a relay token, or "admin" for the operator's.
fn holder(inner: &Inner, id: &str) -> Result<Option<TokenId>, Denial> {
    if id == "admin" {
        return Ok(None);
    }
    let missing = || Denial::missing("no token has this id");
    let id: TokenId = id.parse().map_err(|_| missing())?;
    let token = inner.parts.registry.token(id).ok_or_else(missing)?;
    if token.kind != TokenKind::Relay {
        return Err(Denial::bad("only a relay token has rules; agents send what they are told to"));
    }
    Ok(Some(id))
}
