//! Renewal: a new credential for who shows the one it has and signs with its key.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::HeaderMap;
use rrd::InstanceId;

use super::enroll::credential;
use super::{Denial, Intake, to_the_end};
use crate::auth::Caller;
use crate::limits::JSON_BODY_LIMIT;
use crate::native::EnrollAnswer;
use crate::registry::instance::Credential;
use crate::registry::{Change, Instance};

/// Gives an instance a new credential. The one it has holds on until its own end, so that an answer that
/// is lost costs nothing. An instance without a key gets the one that signs: from then on it is its.
pub(super) async fn post(
    State(intake): State<Intake>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<EnrollAnswer>, Denial> {
    let inner = intake.0;
    let Caller::Instance(holder) = inner.caller(&headers)? else {
        return Err(Denial::forbidden("this needs the credential of an instance"));
    };
    if id.parse::<InstanceId>().ok() != Some(holder.id) {
        return Err(Denial::forbidden("the credential belongs to another instance"));
    }
    let (_held, body) = inner.room.body(&headers, body, JSON_BODY_LIMIT).await?;
    let path = format!("/v1/instances/{id}/renew");
    let key = inner.proved(&headers, ("POST", &path), &body)?;
    let key = key.ok_or_else(|| {
        Denial::unauthorised("unauthorised", "sign the renewal with the machine's key")
    })?;
    let id = holder.id;
    to_the_end(async move {
        let mut turn = inner.turn().await?;
        let instance = inner.parts.registry.instance(id);
        let instance = instance.ok_or_else(|| Denial::missing("no instance has this id"))?;
        if instance.key.is_some_and(|own| own != key) {
            let message = "the instance has another key than the one that signed";
            return Err(Denial::not_allowed("other_key", message));
        }
        let taken = inner.parts.registry.keyed(&key).filter(|other| other.id != id);
        if taken.is_some_and(|other| other.is_active()) {
            return Err(Denial::conflict("key_in_use", "the key is that of another instance"));
        }
        if !instance.is_active() {
            return Err(Denial::bad_state("bad_state", instance.lifecycle.state));
        }
        let (secret, fresh) = credential(id, Some(inner.parts.clock.wall()))?;
        // One that had no end gets one: its holder has a key now.
        let former = instance
            .credential
            .clone()
            .map(|held| Credential { expires_at: held.expires_at.or(fresh.expires_at), ..held });
        let renewed = Instance {
            key: Some(key),
            former_credential: former,
            credential: Some(fresh),
            ..(*instance).clone()
        };
        let answer = inner.answer(&renewed, secret);
        inner.change(&mut turn, &[Change::Instance(renewed)]).await?;
        Ok(answer)
    })
    .await
    .map(Json)
}
