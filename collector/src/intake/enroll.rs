//! Enrolment: a machine with a join token becomes an instance with a credential of its own.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use rrd::{InstanceId, Labels};

use super::{Denial, Inner, Intake, to_the_end};
use crate::auth::Caller;
use crate::limits::{INSTANCE_LIMIT, LABEL_NAME_LIMIT, LABEL_VALUE_LIMIT, checked_labels};
use crate::native::{EnrollAnswer, EnrollRequest, Facts};
use crate::registry::{Change, Instance, Lifecycle, Source, Token, TokenId};
use crate::secret::{Digest, Holder};

/// The job of instances with an agent of ours.
const AGENT_JOB: &str = "node";

pub(super) async fn post(
    State(intake): State<Intake>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<EnrollAnswer>), Denial> {
    let token = match intake.0.caller(&headers)? {
        Caller::Admin => None,
        Caller::Join(token) => Some(token.id),
        _ => return Err(Denial::forbidden("this needs a join token")),
    };
    let request: EnrollRequest = intake.0.room.json(&headers, body).await?;
    check(&request)?;
    let answer = to_the_end(intake.0.enroll(token, request)).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

impl Inner {
    fn enroll(
        self: &Arc<Self>,
        token: Option<TokenId>,
        request: EnrollRequest,
    ) -> impl Future<Output = Result<EnrollAnswer, Denial>> + Send + use<> {
        let this = self.clone();
        async move {
            let mut turn = this.turn().await?;
            let token = token.map(|id| this.usable(id)).transpose()?;
            let (instance, credential) = this.instance_of(token.as_ref(), &request)?;
            let answer = this.answer(&instance, credential);
            let mut changes = vec![Change::Instance(instance)];
            changes.extend(token.and_then(used).map(Change::Token));
            this.change(&mut turn, &changes).await?;
            Ok(answer)
        }
    }

    /// The token as it is now that nobody else changes it.
    fn usable(&self, id: TokenId) -> Result<Token, Denial> {
        let token = self.parts.registry.token(id);
        let token =
            token.ok_or_else(|| Denial::unauthorised("unauthorised", "the token is gone"))?;
        if token.uses_left == Some(0) {
            let message = "the token was used as often as it may be; ask for a new one";
            return Err(Denial::unauthorised("exhausted", message));
        }
        Ok((*token).clone())
    }

    fn instance_of(
        &self,
        token: Option<&Token>,
        request: &EnrollRequest,
    ) -> Result<(Instance, String), Denial> {
        let forced = token.map(|token| token.labels.clone()).unwrap_or_default();
        let labels = declared(request, &forced)?;
        let job = labels.get("job").unwrap_or_default().to_owned();
        let wanted = forced.get("instance").unwrap_or(&request.name);
        let same = self.same_machine(&job, wanted, request.boot_id, &forced);
        if same.is_none() && self.parts.registry.instance_count() >= INSTANCE_LIMIT {
            return Err(Denial::no_space("the registry is full; withdraw instances that are gone"));
        }
        let (id, name) = match &same {
            Some(same) => (same.id, same.name.clone()),
            None => (random_id()?, self.parts.registry.free_name(&job, wanted, &HashSet::new())),
        };
        let credential = Holder::Instance(id).secret().map_err(no_randomness)?;
        let instance = Instance {
            id,
            labels: labels.with("instance", &name),
            name,
            source: Source::Enrolled(token.map(|token| token.id)),
            lifecycle: Lifecycle::Active,
            enrolled_at: same.map_or_else(|| self.parts.clock.wall(), |same| same.enrolled_at),
            boot_id: request.boot_id,
            facts: request.facts.clone(),
            digest: Some(Digest::of(&credential)),
        };
        Ok((instance, credential))
    }

    /// The active instance of that name when it is this very machine: the same boot, under the same
    /// forced labels. It lost its credential and gets a new one; anybody else gets another name.
    fn same_machine(
        &self,
        job: &str,
        name: &str,
        boot_id: u128,
        forced: &Labels,
    ) -> Option<Arc<Instance>> {
        let instance = self.parts.registry.named(job, name)?;
        let last_boot = self.parts.store.last_batch(instance.id).map(|batch| batch.boot_id);
        let same_boot = boot_id != 0
            && (instance.boot_id == boot_id || last_boot == Some(boot_id))
            && matches!(instance.source, Source::Enrolled(_));
        let same_forced =
            forced.iter().all(|(name, value)| instance.labels.get(name) == Some(value));
        (same_boot && same_forced).then_some(instance)
    }

    fn answer(&self, instance: &Instance, credential: String) -> EnrollAnswer {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        EnrollAnswer {
            id: instance.id.0,
            credential,
            labels: instance.labels.iter().map(owned).collect::<BTreeMap<_, _>>(),
            step_ms: self.parts.agent_step.as_millis(),
        }
    }
}

/// The token after one more use; `None` when uses are not counted.
fn used(token: Token) -> Option<Token> {
    let left = token.uses_left?;
    Some(Token { uses_left: Some(left.saturating_sub(1)), ..token })
}

/// The instance's labels but for its name: what it declares, its job, and over all that what its
/// token forces.
fn declared(request: &EnrollRequest, forced: &Labels) -> Result<Labels, Denial> {
    let pairs: Vec<(&str, &str)> =
        request.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let labels = checked_labels(&pairs).map_err(|(_, message)| Denial::bad(message))?;
    Ok(labels.with("job", AGENT_JOB).overlaid(forced).with("instance", ""))
}

fn check(request: &EnrollRequest) -> Result<(), Denial> {
    let name = &request.name;
    if name.is_empty() || name.len() > LABEL_NAME_LIMIT || name.chars().any(char::is_control) {
        let message = format!("name: 1 to {LABEL_NAME_LIMIT} bytes without control characters");
        return Err(Denial::bad(message));
    }
    check_reserved(&request.labels)?;
    let Facts { hostname, os, kernel, cpus: _, memory_bytes: _ } = &request.facts;
    if [hostname, os, kernel].iter().any(|fact| fact.len() > LABEL_VALUE_LIMIT) {
        return Err(Denial::bad(format!("facts: at most {LABEL_VALUE_LIMIT} bytes each")));
    }
    Ok(())
}

/// Labels of an instance lie over those of its series: `__name__` there would rename every metric.
pub(super) fn check_reserved(labels: &BTreeMap<String, String>) -> Result<(), Denial> {
    match labels.keys().find(|name| name.starts_with("__")) {
        None => Ok(()),
        Some(reserved) => {
            Err(Denial::bad(format!("label {reserved}: names with __ are reserved; rename it")))
        }
    }
}

pub(super) fn random_id() -> Result<InstanceId, Denial> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(no_randomness)?;
    Ok(InstanceId(u128::from_le_bytes(bytes)))
}

pub(super) fn no_randomness(_: getrandom::Error) -> Denial {
    Denial::later("internal", "the system has no randomness for a secret; send it again later")
}
