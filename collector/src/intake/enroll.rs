//! Enrolment: a machine with a key, a token or both becomes an instance with a credential of its own, or
//! waits for a person.

mod checks;
mod known;
mod made;
mod proved;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use rrd::Labels;

use super::{Denial, Inner, Intake, to_the_end};
use crate::auth::{AuthError, Caller};
use crate::identity::document::Attestation;
use crate::identity::{KEY_HEADER, PublicKey};
use crate::lifecycle::{Evidence, Lifecycle, State as Life, Terms, Who};
use crate::limits::JSON_BODY_LIMIT;
use crate::native::{ENROLL_PATH, EnrollAnswer, EnrollRequest, PendingAnswer};
use crate::registry::{Approval, Change, Instance, Request, RequestId, Token, TokenId};
pub(super) use checks::check_reserved;
use checks::{check, check_token};
pub(super) use known::rejected;
pub(in crate::intake) use made::{credential, no_randomness, random_id};

/// The job of instances with an agent of ours.
const AGENT_JOB: &str = "node";
/// Requests that wait at once: more than a person looks through.
const PENDING_LIMIT: usize = 1_000;
/// Of these, requests that showed no token, which anybody can make.
const STRANGER_LIMIT: usize = 200;
/// Seconds between two questions of a machine that waits, while few do.
const POLL_AFTER_SECS: u64 = 5;
/// Machines that wait for each second more: however many they are, the door hears twenty a second.
const POLLS_A_SEC: usize = 20;

/// What a machine shows beside its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ticket {
    Admin,
    Token(TokenId),
    None,
}

/// A machine at the door.
pub(super) struct Knock {
    ticket: Result<Ticket, Denial>,
    pub(super) key: Option<PublicKey>,
    peer: Option<IpAddr>,
    request: EnrollRequest,
    pub(super) attestation: Attestation,
}

/// What it is told.
pub(super) enum Welcome {
    Enrolled(EnrollAnswer),
    Waits(PendingAnswer),
}

/// How a new instance is to be made.
pub(super) struct Plan {
    pub(super) token: Option<TokenId>,
    pub(super) forced: Labels,
    pub(super) terms: Terms,
    pub(super) series_quota: Option<u32>,
    pub(super) evidence: Evidence,
}

/// Where a request came from, as the accept loop says.
pub(super) type Peer = Option<Extension<ConnectInfo<SocketAddr>>>;

pub(super) async fn post(
    State(intake): State<Intake>,
    peer: Peer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Denial> {
    let inner = intake.0;
    let ticket = inner.ticket(&headers);
    if !headers.contains_key(KEY_HEADER)
        && let Err(denial) = ticket
    {
        return Err(denial);
    }
    let (_held, body) = match ticket {
        Ok(Ticket::Admin | Ticket::Token(_)) => {
            inner.room.body(&headers, body, JSON_BODY_LIMIT).await?
        }
        _ => inner.room.stranger_body(&headers, body, JSON_BODY_LIMIT).await?,
    };
    let key = inner.proved(&headers, ("POST", ENROLL_PATH), &body)?;
    let request = serde_json::from_slice(&body)
        .map_err(|error| Denial::bad(format!("the body is not the JSON expected: {error}")))?;
    check(&request)?;
    let peer = peer.map(|Extension(ConnectInfo(peer))| peer.ip());
    let attestation = inner.attested(&request, key.as_ref()).await;
    let knock = Knock { ticket, key, peer, request, attestation };
    let welcome = to_the_end(async move { inner.enroll(knock).await }).await?;
    Ok(welcome.into_response_as(StatusCode::CREATED))
}

impl Welcome {
    pub(super) fn into_response_as(self, status: StatusCode) -> Response {
        match self {
            Self::Enrolled(answer) => (status, Json(answer)).into_response(),
            Self::Waits(answer) => (StatusCode::ACCEPTED, Json(answer)).into_response(),
        }
    }
}

impl Inner {
    fn ticket(&self, headers: &HeaderMap) -> Result<Ticket, Denial> {
        let now = self.parts.clock.wall();
        match self.parts.credentials.caller(&self.parts.registry, headers, now) {
            Ok(Caller::Admin) => Ok(Ticket::Admin),
            Ok(Caller::Join(token)) => Ok(Ticket::Token(token.id)),
            Ok(_) => Err(Denial::forbidden("this needs a join token")),
            Err(AuthError::Missing) if headers.contains_key(KEY_HEADER) => Ok(Ticket::None),
            Err(AuthError::Unknown) => {
                let message = "the token is not known here; ask for a new one";
                Err(Denial::unauthorised("token_unknown", message))
            }
            Err(error @ AuthError::Expired) => {
                Err(Denial::over("token_expired", error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn enroll(self: &Arc<Self>, knock: Knock) -> Result<Welcome, Denial> {
        let mut turn = self.turn().await?;
        let (changes, welcome) = match knock.key.and_then(|key| self.known(&key)) {
            Some(known) => self.welcome_back(&known, &knock)?,
            None => self.welcome_new(&knock)?,
        };
        self.change(&mut turn, &changes).await?;
        Ok(welcome)
    }

    fn welcome_new(&self, knock: &Knock) -> Result<(Vec<Change>, Welcome), Denial> {
        let token = match knock.ticket.clone()? {
            Ticket::Token(id) => Some(self.usable(id)?),
            Ticket::Admin | Ticket::None => None,
        };
        if let Some(token) = &token {
            check_token(token, &knock.request, knock.peer)?;
        }
        let mut asked = self.asked(knock, token.as_ref())?;
        let mut changes = Vec::new();
        let welcome = match self.decided(knock, token.as_ref(), &asked) {
            Some(plan) => {
                self.has_slots()?;
                let (instance, secret) = self.instance_of(&plan, &asked)?;
                asked.lifecycle =
                    Lifecycle::begun(Life::Approved, instance.lifecycle.evidence.clone(), asked.at);
                asked.instance = Some(instance.id);
                let answer = self.answer(&instance, secret);
                changes.push(Change::Instance(instance));
                Welcome::Enrolled(answer)
            }
            None => Welcome::Waits(self.waits(&asked)?),
        };
        changes.push(Change::Request(asked));
        changes.extend(token.and_then(used).map(Change::Token));
        Ok((changes, welcome))
    }

    /// The token as it is now that nobody else changes it.
    fn usable(&self, id: TokenId) -> Result<Token, Denial> {
        let token = self.parts.registry.token(id);
        let token =
            token.ok_or_else(|| Denial::unauthorised("token_unknown", "the token is gone"))?;
        if token.uses_left == Some(0) {
            let message = "the token was used as often as it may be; ask for a new one";
            return Err(Denial::over("token_exhausted", message));
        }
        Ok((*token).clone())
    }

    /// The request as it is kept, whatever is decided.
    fn asked(&self, knock: &Knock, token: Option<&Token>) -> Result<Request, Denial> {
        let at = self.parts.clock.wall();
        let evidence = Evidence::of(Who::Agent, "it asked to be enrolled");
        let attestation = self.held_against_known(knock);
        let EnrollRequest { name, boot_id, facts, mut labels, .. } = knock.request.clone();
        if let Attestation::Verified(attested) = &attestation {
            labels.extend(attested.labels.clone());
        }
        Ok(Request {
            id: RequestId(random_id()?.0),
            key: knock.key,
            name,
            boot_id,
            facts,
            labels,
            attestation,
            token: token.map(|token| token.id),
            peer: knock.peer,
            at,
            lifecycle: Lifecycle::begun(Life::Pending, evidence, at),
            instance: None,
        })
    }

    /// How to make the instance, when the ticket or a policy says so; `None` when a person has to.
    fn decided(&self, knock: &Knock, token: Option<&Token>, asked: &Request) -> Option<Plan> {
        let by = |who, what: &str| Plan {
            token: token.map(|token| token.id),
            forced: token.map(|token| token.labels.clone()).unwrap_or_default(),
            terms: token.map(|token| token.terms).unwrap_or_default(),
            series_quota: token.and_then(|token| token.series_quota),
            evidence: Evidence::of(who, what),
        };
        if matches!(knock.ticket, Ok(Ticket::Admin)) {
            return Some(by(Who::Operator, "enrolled with the admin token"));
        }
        if matches!(asked.attestation, Attestation::Contradicted(_)) {
            return None;
        }
        if let Some(token) = token
            && token.approval == Approval::Auto
        {
            return Some(by(Who::Token, "its token approves by itself"));
        }
        let policies = self.parts.registry.policies();
        let policy = policies.iter().find(|policy| policy.admits(asked).is_ok())?;
        let verified = match &asked.attestation {
            Attestation::Verified(_) => {
                format!("; its document is {}", asked.attestation.sentence())
            }
            _ => String::new(),
        };
        let what = format!("join policy {:?} admits it{verified}", policy.name);
        let plan = by(Who::Policy, &what);
        let terms = if token.is_some() { plan.terms } else { policy.terms };
        Some(Plan { forced: plan.forced.overlaid(&policy.forced), terms, ..plan })
    }

    /// An answer to who has to wait. Errors when it cannot, or too many do.
    fn waits(&self, asked: &Request) -> Result<PendingAnswer, Denial> {
        let Some(key) = asked.key else {
            let message = "this token needs a person's approval, for which the agent needs a key: \
                           give it a state folder";
            return Err(Denial::not_allowed("policy_denied", message));
        };
        let all = self.parts.registry.requests();
        let waiting = all.iter().filter(|one| one.lifecycle.state == Life::Pending);
        let (with, without): (Vec<_>, Vec<_>) = waiting.partition(|one| one.token.is_some());
        let is_full = with.len() + without.len() >= PENDING_LIMIT
            || (asked.token.is_none() && without.len() >= STRANGER_LIMIT);
        if is_full {
            let message = "too many machines wait for approval; send it again later";
            return Err(Denial::crowded("queue_full", message));
        }
        tracing::info!(
            request = %asked.id, name = asked.name, fingerprint = key.fingerprint(),
            document = asked.attestation.sentence(),
            "a machine waits for approval"
        );
        Ok(self.pending(asked.id, &key))
    }

    /// What a machine is told that has to wait.
    pub(super) fn pending(&self, id: RequestId, key: &PublicKey) -> PendingAnswer {
        let all = self.parts.registry.requests();
        let waiting = all.iter().filter(|one| one.lifecycle.state == Life::Pending).count();
        let more_secs = u64::try_from(waiting / POLLS_A_SEC).unwrap_or(u64::MAX);
        PendingAnswer {
            request_id: id.0,
            poll_after_secs: POLL_AFTER_SECS.saturating_add(more_secs),
            fingerprint: key.fingerprint(),
        }
    }

    /// Room for one more archive, or for making some.
    fn has_slots(&self) -> Result<(), Denial> {
        if self.disk_room() > 0 {
            return Ok(());
        }
        let is_held = |instance: &Arc<Instance>| {
            !instance.is_active() && self.parts.store.archive_bytes(instance.id) > 0
        };
        if self.parts.registry.instances().iter().any(is_held) {
            return Ok(());
        }
        let message = "the disk limit leaves no room for another instance (free: 0 bytes); raise it or \
                       withdraw instances that are gone";
        Err(Denial::no_slots(message))
    }
}

/// The token after one more use; `None` when uses are not counted.
fn used(token: Token) -> Option<Token> {
    let left = token.uses_left?;
    Some(Token { uses_left: Some(left.saturating_sub(1)), ..token })
}
