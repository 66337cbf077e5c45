//! The agent's loop: looks at every step, sends when there is something to send, waits otherwise.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rrd::{Clock, Step, Timestamp};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::client::{Client, Post};
use super::credential::Credential;
use super::error::AgentError;
use super::facts::{boot_id, facts_under};
use super::key::{Found, Key, machine};
use super::proc::Host;
use super::reading::Readings;
use super::secret::Secret;
use super::session::{Event, Moment, Next, Reply, Session, Start, Unreachable};
use super::spool::SPOOL_BYTES;
use super::text::exposition;
use crate::lifecycle::Farewell;
use crate::native::{EnrollRequest, PUSH_CONTENT_TYPE, PUSH_PATH, Push};

/// The step until the collector has said another.
const STEP_MS: u64 = 10_000;

/// How long the last readings may take to leave when the agent is told to stop.
const FAREWELL: Duration = Duration::from_secs(2);

/// A look that starts this shortly after a boundary of the step counts as made on it: timers are late
/// by a millisecond or two, and readings on the boundary fill whole rows.
const LATE_MS: i64 = 20;

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where the collector is: `http://HOST:PORT` or `https://HOST`.
    pub collector_url: String,
    /// What to enrol with; not needed once there is a credential in `state_dir`.
    pub token: Option<Secret>,
    /// Where `agent.json` is kept; without it the machine enrols anew at every start.
    pub state_dir: Option<PathBuf>,
    /// The name to ask for; the host name when there is none.
    pub name: Option<String>,
    /// Labels the machine declares of itself.
    pub labels: BTreeMap<String, String>,
    /// Time between looks; what the collector says when there is none.
    pub step: Option<Step>,
    /// Where `/proc` is mounted.
    pub proc_root: PathBuf,
    /// What to say of the reason when it is told to stop; nothing at all when there is none.
    pub goodbye: Option<Farewell>,
}

impl AgentConfig {
    /// An agent for the collector at `collector_url`, everything else as usual.
    pub fn to(collector_url: impl Into<String>) -> Self {
        Self {
            collector_url: collector_url.into(),
            token: None,
            state_dir: None,
            name: None,
            labels: BTreeMap::new(),
            step: None,
            proc_root: PathBuf::from("/proc"),
            goodbye: None,
        }
    }

    fn request(&self) -> EnrollRequest {
        let facts = facts_under(&self.proc_root, Path::new("/etc/os-release"));
        let name = self.name.clone().unwrap_or_else(|| facts.hostname.clone());
        let boot_id = boot_id(&self.proc_root);
        EnrollRequest { name, boot_id, facts, labels: self.labels.clone() }
    }
}

/// Looks at this machine and sends what it finds, until `shutdown` is ready.
///
/// The first look is made at once, the next ones on the boundaries of the step. A collector that is
/// away is waited for, the readings meanwhile kept. Errors only with what a person has to put right.
pub async fn run(
    config: AgentConfig,
    clock: Arc<dyn Clock>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
    Agent::start(config, clock, backoff)?.run(shutdown).await
}

/// What a look at this machine finds now, in Prometheus' text form. Blocks for some milliseconds.
pub fn print_once(config: &AgentConfig) -> String {
    let mut readings = Readings::default();
    Host::under(&config.proc_root).read(&mut readings);
    exposition(&readings)
}

/// A running agent.
pub(super) struct Agent {
    client: Client,
    session: Session,
    clock: Arc<dyn Clock>,
    look: Look,
    /// When to look next.
    due: Timestamp,
    step: Step,
    is_step_fixed: bool,
    token: Option<Secret>,
    state_dir: Option<PathBuf>,
    request: EnrollRequest,
    is_troubled: bool,
    is_refused: bool,
    key: Option<Key>,
    goodbye: Option<Farewell>,
}

/// The machine and the buffer for what it says; absent while a look is under way.
type Look = Option<Box<(Host, Readings)>>;

type Exchange = Pin<Box<dyn Future<Output = Answer> + Send>>;

enum Answer {
    Enrol(Result<Reply, Unreachable>),
    Push(Result<Reply, Unreachable>),
    Renew(Result<Reply, Unreachable>),
}

enum Wake {
    Answer(Answer),
    Look,
    Retry,
}

impl Agent {
    /// Reads the credential and prepares all else; sends nothing yet.
    pub(super) fn start(
        config: AgentConfig,
        clock: Arc<dyn Clock>,
        backoff: Backoff,
    ) -> Result<Self, AgentError> {
        let client = Client::to(&config.collector_url)?;
        if client.is_in_the_clear() {
            warn!(
                collector = config.collector_url,
                "the credential travels unencrypted; use https"
            );
        }
        let (credential, key) = match &config.state_dir {
            Some(dir) => identity(dir)?,
            None => (None, None),
        };
        if credential.is_none() && config.token.is_none() && key.is_none() {
            return Err(AgentError::NoToken);
        }
        if let (None, Some(dir)) = (&credential, &config.state_dir) {
            Credential::prepare(dir)?;
        }
        let request = config.request();
        let told = credential.as_ref().and_then(|credential| credential.step);
        let usual = Step::from_millis(STEP_MS).expect("ten seconds are a step");
        let mut session = Session::new(Start {
            boot_id: request.boot_id,
            incarnation: random()?,
            credential,
            may_enrol: config.token.is_some(),
            backoff,
            spool_bytes: SPOOL_BYTES,
        });
        if key.is_some() {
            session.signs();
        }
        Ok(Self {
            client,
            session,
            look: Some(Box::new((Host::under(&config.proc_root), Readings::default()))),
            due: clock.wall(),
            clock,
            step: config.step.or(told).unwrap_or(usual),
            is_step_fixed: config.step.is_some(),
            token: config.token,
            state_dir: config.state_dir,
            request,
            is_troubled: false,
            is_refused: false,
            key,
            goodbye: config.goodbye,
        })
    }

    /// Runs until `shutdown` is ready.
    pub(super) async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), AgentError> {
        let mut shutdown = pin!(shutdown);
        let mut exchange: Option<Exchange> = None;
        self.look().await?;
        loop {
            let mut retry = None;
            if exchange.is_none() {
                match self.session.next(self.clock.monotonic(), self.clock.wall()) {
                    Next::Enrol => exchange = self.enrol(),
                    Next::Push(push) => exchange = self.push(&push),
                    Next::Renew => exchange = self.renew(),
                    Next::Wait(moment) => retry = Some(self.until(moment)),
                    Next::Idle => {}
                }
            }
            let until_due = self.until_due();
            let wake = tokio::select! {
                biased;
                () = &mut shutdown => break,
                answer = answered(&mut exchange) => Wake::Answer(answer),
                () = sleep(until_due) => Wake::Look,
                () = passed(retry) => Wake::Retry,
            };
            match wake {
                Wake::Answer(answer) => {
                    exchange = None;
                    self.answered(answer).await?;
                }
                // A clock that is being slowed down is not there yet when the timer is.
                Wake::Look if self.until_due().is_zero() => self.look().await?,
                Wake::Look | Wake::Retry => {}
            }
        }
        // What cannot leave in this time is lost with the process, as it would be at a crash.
        timeout(FAREWELL, self.farewell(exchange)).await.unwrap_or(Ok(()))
    }

    /// Sends what is in the spool, once.
    async fn farewell(&mut self, mut exchange: Option<Exchange>) -> Result<(), AgentError> {
        loop {
            if exchange.is_none() {
                match self.session.next(self.clock.monotonic(), self.clock.wall()) {
                    Next::Push(push) => exchange = self.push(&push),
                    Next::Enrol | Next::Renew | Next::Wait(_) | Next::Idle => break,
                }
            }
            let answer = answered(&mut exchange).await;
            exchange = None;
            self.answered(answer).await?;
        }
        if let Some(goodbye) = self.goodbye() {
            // Nobody is left to be told of a failure: the collector will miss it as if it had crashed.
            let _said = self.client.clone().post(goodbye).await;
        }
        Ok(())
    }

    /// Why it goes, for the collector not to take silence for a loss.
    fn goodbye(&self) -> Option<Post> {
        let (reason, credential) = (self.goodbye?, self.session.credential()?);
        let body = serde_json::json!({ "reason": reason });
        Some(Post {
            method: Method::POST,
            path: format!("/v1/instances/{:032x}/goodbye", credential.instance).into(),
            bearer: Some(credential.secret.clone()),
            proof: Vec::new(),
            content_type: "application/json",
            body: body.to_string().into_bytes(),
        })
    }

    /// Time until the next look: at the latest on the next boundary, also when the clock is set back.
    fn until_due(&mut self) -> Duration {
        let now = self.clock.wall();
        self.due = self.due.min(next_boundary(now, self.step));
        Duration::from_millis(u64::try_from(self.due.millis_since(now)).unwrap_or(0))
    }

    /// Time until a moment of the monotonic clock.
    fn until(&self, moment: Duration) -> Duration {
        moment.saturating_sub(self.clock.monotonic())
    }

    /// Looks at the machine, in a thread where it may block.
    async fn look(&mut self) -> Result<(), AgentError> {
        let now = self.clock.wall();
        let mut look = self.look.take().expect("a look is put back when it ends");
        let reading = spawn_blocking(move || {
            let (host, readings) = &mut *look;
            readings.clear();
            host.read(readings);
            look
        });
        let mut look = reading.await.map_err(|error| AgentError::Reader(error.to_string()))?;
        self.session.report(&mut look.1);
        self.session.take(nominal(now, self.step), &look.1);
        self.look = Some(look);
        self.due = next_boundary(now, self.step);
        Ok(())
    }

    fn enrol(&mut self) -> Option<Exchange> {
        let enrolment = self.session.enrolment();
        let (method, path) = enrolment.question();
        let bearer = self.token.clone().filter(|_| enrolment.shows_token());
        let body = match method {
            "POST" => serde_json::to_vec(&self.request).expect("texts and numbers always are JSON"),
            _ => Vec::new(),
        };
        let proof = self.proof((method, &path), &body);
        let method = if method == "POST" { Method::POST } else { Method::GET };
        let content_type = "application/json";
        let post = Post { method, path: path.into(), bearer, proof, content_type, body };
        let client = self.client.clone();
        Some(Box::pin(async move { Answer::Enrol(client.post(post).await) }))
    }

    /// Headers by which the collector knows this machine; none without a key.
    fn proof(&mut self, request: (&str, &str), body: &[u8]) -> Vec<(&'static str, String)> {
        let now = Timestamp::from_millis(self.session.server_ms(self.clock.wall()));
        self.key.as_mut().map(|key| key.proof(request, body, now)).unwrap_or_default()
    }

    fn renew(&mut self) -> Option<Exchange> {
        let credential = self.session.credential()?.clone();
        let path = format!("/v1/instances/{:032x}/renew", credential.instance);
        let post = Post {
            method: Method::POST,
            proof: self.proof(("POST", &path), b""),
            path: path.into(),
            bearer: Some(credential.secret),
            content_type: "application/json",
            body: Vec::new(),
        };
        let client = self.client.clone();
        Some(Box::pin(async move { Answer::Renew(client.post(post).await) }))
    }

    fn push(&self, push: &Push) -> Option<Exchange> {
        let post = Post {
            method: Method::POST,
            path: PUSH_PATH.into(),
            bearer: Some(self.session.credential()?.secret.clone()),
            proof: Vec::new(),
            content_type: PUSH_CONTENT_TYPE,
            body: push.encode(),
        };
        let client = self.client.clone();
        Some(Box::pin(async move { Answer::Push(client.post(post).await) }))
    }

    async fn answered(&mut self, answer: Answer) -> Result<(), AgentError> {
        let wall_ms = self.clock.wall().as_millis();
        let at = Moment { now: self.clock.monotonic(), random: random()?, wall_ms };
        let event = match answer {
            Answer::Enrol(outcome) => self.session.enrol_answered(outcome, at)?,
            Answer::Push(outcome) => self.session.push_answered(outcome, at)?,
            Answer::Renew(outcome) => self.session.renew_answered(outcome, at),
        };
        match event {
            Event::Enrolled(credential) => self.enrolled(credential).await?,
            Event::Accepted { refused_samples, first_refusal } => {
                self.accepted(refused_samples, first_refusal.as_deref());
            }
            Event::Trouble(why) => self.trouble(&why),
            Event::MakeKey(why) => self.make_key(&why, at.random).await?,
            Event::NotRenewed => debug!("the credential was not renewed yet"),
        }
        Ok(())
    }

    async fn enrolled(&mut self, credential: Credential) -> Result<(), AgentError> {
        info!(instance = format!("{:032x}", credential.instance), "enrolled");
        self.is_troubled = false;
        if let (false, Some(step)) = (self.is_step_fixed, credential.step) {
            self.step = step;
        }
        let Some(dir) = self.state_dir.clone() else { return Ok(()) };
        let saved = spawn_blocking(move || credential.save(&dir)).await;
        saved.map_err(|error| AgentError::Reader(error.to_string()))?
    }

    /// Becomes another machine to the collector, because there are two of this one.
    async fn make_key(&mut self, why: &str, random: u64) -> Result<(), AgentError> {
        let Some(dir) = self.state_dir.clone() else { return Ok(()) };
        let made = spawn_blocking(move || {
            Credential::remove(&dir)?;
            Key::create(&dir, &machine())
        });
        let key = made.await.map_err(|error| AgentError::Reader(error.to_string()))??;
        warn!(
            why,
            fingerprint = key.fingerprint(),
            "this machine has a new key and enrols with it"
        );
        self.key = Some(key);
        self.session.has_new_key(random);
        Ok(())
    }

    /// Logs what changed; a state that lasts is not repeated at every step.
    fn accepted(&mut self, refused_samples: u64, first_refusal: Option<&str>) {
        if std::mem::take(&mut self.is_troubled) {
            info!("the collector takes readings again");
        }
        let is_refused = refused_samples > 0;
        if is_refused && !self.is_refused {
            let first = first_refusal.unwrap_or_default();
            warn!(samples = refused_samples, first, "the collector refuses some series");
        }
        self.is_refused = is_refused;
    }

    fn trouble(&mut self, why: &str) {
        if self.is_troubled {
            debug!(failures = self.session.failures(), why, "the collector does not take readings");
        } else {
            warn!(why, "the collector does not take readings; they are kept and sent later");
        }
        self.is_troubled = true;
    }
}

/// Who this machine is, by its state folder. What a copy of another machine's disk brought along is
/// forgotten.
fn identity(dir: &Path) -> Result<(Option<Credential>, Option<Key>), AgentError> {
    let machine = machine();
    match Key::load(dir, &machine)? {
        Found::Own(key) => Ok((Credential::load(dir)?, Some(key))),
        Found::None => Ok((Credential::load(dir)?, Some(Key::create(dir, &machine)?))),
        Found::Copied => {
            warn!("the state folder is another machine's: a new key is made");
            Credential::remove(dir)?;
            Ok((None, Some(Key::create(dir, &machine)?)))
        }
    }
}

async fn answered(exchange: &mut Option<Exchange>) -> Answer {
    match exchange {
        Some(exchange) => exchange.await,
        None => pending().await,
    }
}

/// Ready when the wait is over; never when there is none.
async fn passed(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait).await,
        None => pending().await,
    }
}

/// The moment a look at `now` is written down under.
fn nominal(now: Timestamp, step: Step) -> Timestamp {
    let boundary = now.floor(step);
    if now.millis_since(boundary) <= LATE_MS { boundary } else { now }
}

fn next_boundary(now: Timestamp, step: Step) -> Timestamp {
    now.floor(step) + step
}

fn random() -> Result<u64, AgentError> {
    getrandom::u64().map_err(AgentError::Random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_just_after_a_boundary_is_written_down_on_it() {
        let step = Step::from_secs(10).unwrap();
        for (now, at) in [(50_000, 50_000), (50_003, 50_000), (50_020, 50_000), (50_021, 50_021)] {
            let now = Timestamp::from_millis(now);
            assert_eq!(nominal(now, step), Timestamp::from_millis(at));
        }
    }

    #[test]
    fn a_clock_set_back_does_not_make_the_agent_wait() {
        let clock = Arc::new(rrd::ManualClock::at(Timestamp::from_secs(7201)));
        let config = AgentConfig {
            token: Some(Secret::new("join-me")),
            ..AgentConfig::to("http://127.0.0.1:1")
        };
        let backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        let mut agent = Agent::start(config, clock.clone(), backoff).unwrap();
        assert_eq!(agent.until_due(), Duration::ZERO, "the first look is made at once");
        agent.due = next_boundary(clock.wall(), agent.step);
        assert_eq!(agent.until_due(), Duration::from_secs(9));
        clock.set_wall(Timestamp::from_secs(3603));
        assert_eq!(agent.until_due(), Duration::from_secs(7));
        clock.set_wall(Timestamp::from_secs(9999));
        assert_eq!(agent.until_due(), Duration::ZERO);
    }

    #[test]
    fn this_machine_prints_its_readings() {
        let text = print_once(&AgentConfig::to("http://127.0.0.1:1"));
        assert!(text.contains("# TYPE node_cpu_seconds_total counter\n"), "{text}");
        assert!(text.contains("node_cpu_seconds_total{mode=\"idle\"} "), "{text}");
    }
}
