//! The door: requests authenticated, limited, resolved, appended, and answered once durable.

mod admission;
mod approve;
mod archive;
mod attested;
mod beat;
mod change;
mod clones;
mod cloud_events;
mod collectd;
mod denial;
mod descriptors;
mod discovery;
mod disk;
mod enroll;
mod fair;
mod foreign;
mod grants;
mod graphite;
mod influx;
mod instances;
mod leave;
mod local;
mod otlp;
mod policies;
mod push;
mod pushgateway;
mod relabel;
mod renew;
mod report;
mod roles;
mod scraped;
mod session;
mod sockets;
mod sweep;
mod tokens;
mod write;
mod zabbix;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware::{map_request_with_state, map_response_with_state};
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use http::{HeaderMap, HeaderValue};
use journal::Journal;
use rrd::{Clock, InstanceId, Policy, SampleFrame, Step, Store, Verdicts};
use tokio::sync::Mutex;

pub use denial::Denial;
pub use descriptors::Descriptors;
pub use graphite::GraphiteSettings;
pub use local::{Look, LookSample, Stored};
pub use tokens::{Minted, Spans, TokenRequest};
pub use zabbix::ZabbixSettings;

use crate::accounting::{Accounting, Tally};
use crate::auth::{Caller, Credentials};
use crate::foreign::cache::SeriesCache;
use crate::foreign::guesses::Guesses;
use crate::foreign::kinds::{Families, OperatorKinds};
use crate::identity::Proofs;
use crate::identity::clouds::SharedClouds;
use crate::native::{DESCRIPTOR_PATH, ENROLL_PATH, PUSH_PATH};
use crate::registry::Registry;
use admission::Room;
use change::Turn;
use fair::{Meters, Sender, Turns};
pub use fair::{Rate, Rates};
use session::Sessions;

/// Said to the sender of an instance that the store has set apart; what failed stays in the log.
const UNAVAILABLE: &str =
    "the archive of this instance cannot be used now; send again later, and see the server's log";

/// What the intake works with.
pub struct Parts {
    /// Where columns are granted.
    pub store: Arc<Store>,
    /// Where frames become durable.
    pub journal: Journal,
    /// Who there is; the worker applies its frames.
    pub registry: Arc<Registry>,
    /// The books.
    pub accounting: Arc<Accounting>,
    /// Tells when a sample is in the future and a token expired.
    pub clock: Arc<dyn Clock>,
    /// The operator's token.
    pub credentials: Credentials,
    /// The policy of instances with an agent of ours.
    pub agent_policy: Policy,
    /// The policy of instances that relays name.
    pub foreign_policy: Policy,
    /// How often agents read.
    pub agent_step: Step,
}

/// Takes samples and enrolments. Cheap to clone.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    parts: Parts,
    room: Room,
    cache: SeriesCache,
    families: Families,
    sessions: Sessions,
    pushed: pushgateway::Pushgateway,
    // Held from reading the registry until the change that follows from it is applied.
    registry_turn: Mutex<Turn>,
    disk: disk::Disk,
    proofs: std::sync::Mutex<Proofs>,
    watch: std::sync::Mutex<sweep::Watch>,
    heard_events: std::sync::Mutex<cloud_events::Heard>,
    descriptors: Descriptors,
    beats: beat::Beats,
    meters: Meters,
    turns: Turns,
    waiting: leave::Waiting,
    rules: relabel::CommonRules,
    kinds: OperatorKinds,
    guesses: Guesses,
    clouds: SharedClouds,
}

impl Intake {
    /// An intake of these parts. Errors when the system has no randomness.
    pub fn new(parts: Parts) -> Result<Self, getrandom::Error> {
        let mut seed = [0_u8; 8];
        getrandom::fill(&mut seed)?;
        let watch = sweep::Watch::begun(parts.clock.wall(), parts.clock.monotonic());
        let proofs = Proofs::begun(parts.clock.wall());
        Ok(Self(Arc::new(Inner {
            parts,
            room: Room::new(),
            cache: SeriesCache::new(u64::from_le_bytes(seed)),
            families: Families::default(),
            sessions: Sessions::default(),
            pushed: pushgateway::Pushgateway::default(),
            registry_turn: Mutex::default(),
            disk: disk::Disk::default(),
            proofs: std::sync::Mutex::new(proofs),
            watch: std::sync::Mutex::new(watch),
            heard_events: std::sync::Mutex::default(),
            descriptors: Descriptors::default(),
            beats: beat::Beats::default(),
            meters: Meters::default(),
            turns: Turns::of_this_machine(),
            waiting: leave::Waiting::default(),
            rules: relabel::CommonRules::default(),
            kinds: OperatorKinds::default(),
            guesses: Guesses::default(),
            clouds: SharedClouds::default(),
        })))
    }

    /// Hears from the worker what became of live frame `seq` of samples (not of one replayed at the
    /// start).
    pub fn applied(&self, seq: u64, instance: InstanceId, verdicts: &Verdicts) {
        self.0.parts.accounting.applied(seq, instance, verdicts);
        if verdicts.stale_generation > 0 {
            self.0.cache.forget(instance);
            self.0.sessions.forget(instance);
        }
    }

    /// What agents are told of their work.
    pub fn descriptors(&self) -> Descriptors {
        self.0.descriptors.clone()
    }

    /// Sets what each sender may bring in a second.
    pub fn limit_rates(&self, rates: Rates) {
        self.0.meters.set(rates);
    }

    /// Makes a token, as `POST /v1/tokens` does; durable and applied when this returns.
    pub async fn mint(&self, request: TokenRequest) -> Result<Minted, Denial> {
        self.0.mint(request).await
    }
}

/// The routes of the intake; each checks its caller itself.
pub fn router(intake: Intake) -> Router {
    Router::new()
        .route(ENROLL_PATH, post(enroll::post))
        .route(PUSH_PATH, post(push::post))
        .route(DESCRIPTOR_PATH, get(descriptors::get))
        .route("/v1/tokens", post(tokens::post).get(tokens::list))
        .route("/v1/enroll/{id}", get(approve::poll))
        .route("/v1/enrollments", get(approve::list))
        .route("/v1/enrollments/{id}/approve", post(approve::approve))
        .route("/v1/enrollments/{id}/reject", post(approve::reject))
        .route("/v1/policies", post(policies::put).get(policies::list))
        .route("/v1/policies/try", post(policies::try_out))
        .route("/v1/policies/{name}", delete(policies::remove))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .route("/v1/tokens/{id}/relabel", get(relabel::get).put(relabel::put))
        .route("/v1/tokens/{id}/approve", post(approve::approve_token))
        .route("/v1/instances", get(instances::list))
        .route("/v1/roles", get(roles::list))
        .route("/v1/instances/{id}/withdraw", post(instances::withdraw))
        .route("/v1/instances/{id}/goodbye", post(instances::goodbye))
        .route("/v1/instances/{id}/quarantine", post(instances::quarantine))
        .route("/v1/instances/{id}/release", post(instances::release))
        .route("/v1/instances/{id}/revoke", post(instances::revoke))
        .route("/v1/instances/{id}/renew", post(renew::post))
        .route("/v1/cloud-events", post(cloud_events::post).options(cloud_events::may_send))
        .route("/v1/events", get(discovery::events))
        .route("/v1/sd/prometheus", get(discovery::prometheus))
        .route("/v1/instances/{id}/policy", post(archive::policy))
        .route("/v1/instances/{id}/drop", post(archive::drop_series))
        .route("/v1/instances/{id}/reclaim", post(archive::reclaim))
        .route("/api/v1/write", post(write::post))
        .route("/v1/beat/{token}", post(beat::beat).get(beat::beat))
        .route(
            "/metrics/{*group}",
            put(pushgateway::push).post(pushgateway::push).delete(pushgateway::delete),
        )
        .route(otlp::PATH, post(otlp::post))
        .route("/collectd", post(collectd::post))
        .route("/write", post(influx::write_v1))
        .route("/api/v2/write", post(influx::write_v2))
        .route("/query", post(influx::query).get(influx::query))
        .route("/ping", get(influx::ping))
        .route("/health", get(influx::health))
        .route("/api/v1/accounting", get(report::accounting))
        .layer(map_response_with_state(intake.clone(), say_durability))
        .layer(map_request_with_state(intake.clone(), report::count_certificate))
        .with_state(intake)
}

/// Says so in the answer where what is acknowledged may not have reached the disk.
async fn say_durability(State(intake): State<Intake>, mut answer: Response) -> Response {
    let is_relaxed = intake.0.parts.journal.durability() != journal::Durability::Strict;
    if is_relaxed && answer.status().is_success() {
        let (name, value) = ("roundel-durability", "relaxed");
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

impl Inner {
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Denial> {
        let now = self.parts.clock.wall();
        Ok(self.parts.credentials.caller(&self.parts.registry, headers, now)?)
    }

    /// Refuses a sender that has brought more than it may.
    fn admit(&self, sender: Sender) -> Result<(), Denial> {
        let wait = self.meters.wait(sender, self.parts.clock.monotonic());
        wait.map_or(Ok(()), |wait| Err(Denial::rate(wait)))
    }

    /// Counts what a request brought against what its sender may bring.
    fn charge(&self, sender: Sender, samples: u64, bytes: usize) {
        let brought = Rate { samples, bytes: u64::try_from(bytes).unwrap_or(u64::MAX) };
        self.meters.charge(sender, brought, self.parts.clock.monotonic());
    }

    fn admin(&self, headers: &HeaderMap) -> Result<(), Denial> {
        match self.caller(headers)? {
            Caller::Admin => Ok(()),
            _ => Err(Denial::forbidden("this needs the admin token")),
        }
    }

    /// Appends frames of samples, all or none, with the books entered just before the worker can
    /// see them.
    fn append(&self, frames: &[SampleFrame], tally: &Tally) -> Result<Option<u64>, Denial> {
        let mut bytes = Vec::new();
        let ends = frames.iter().map(|frame| {
            frame.encode_into(&mut bytes);
            bytes.len()
        });
        let ends: Vec<usize> = ends.collect();
        let mut start = 0;
        let body =
            |end: &usize| (rrd::FRAME_SAMPLES, &bytes[std::mem::replace(&mut start, *end)..*end]);
        let frames: Vec<(u8, &[u8])> = ends.iter().map(body).collect();
        self.parts.accounting.enter(tally);
        if frames.is_empty() {
            return Ok(None);
        }
        match self.parts.journal.append_all(&frames) {
            Ok(seqs) => {
                self.parts.accounting.appended(tally, seqs.clone());
                Ok(Some(seqs.end - 1))
            }
            Err(refused) => {
                self.parts.accounting.take_back(tally);
                Err(refused.into())
            }
        }
    }

    /// Waits until samples may be acknowledged.
    async fn accepted(&self, seq: u64) -> Result<(), Denial> {
        let failed = |error: journal::Failed| Denial::later("journal", error.to_string());
        self.parts.journal.accepted(seq).await.map_err(failed)
    }
}

/// Work that must reach its end though the client hangs up: half of it may be in the journal.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Denial>> + Send + 'static,
) -> Result<T, Denial> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(broken()))
}

/// Work that reads much or waits for the disk, off the reactor.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Denial> + Send + 'static,
) -> Result<T, Denial> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(broken()))
}

/// A panic in a request's work ends that request alone.
fn broken() -> Denial {
    Denial::later("internal", "the server failed on this request; its log says why")
}

#[cfg(test)]
mod tests;
