//! The agent's loop: looks at every step, sends when there is something to send, waits otherwise.

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::Method;
use rrd::disk::{DirLock, Disk as _, OsDisk, lock_dir};
use rrd::{Clock, Step, Timestamp};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::client::{Client, Post};
use super::clock::Timeline;
use super::credential::Credential;
use super::descriptors::{Poll, Polled};
use super::dictionary::Dictionary;
use super::error::AgentError;
use super::facts::{boot_id, facts_under};
use super::identity::{self, Ending, Identity, Imds, Watch};
use super::key::{self, Key};
use super::proc::Host;
use super::reading::Readings;
use super::secret::Secret;
use super::session::{Event, Moment, Next, Reply, Session, Start, Unreachable};
use super::settings::{STEP_RANGE_MS, Settings};
use super::source::Look;
use super::sources::{self, Answered, PROMPT, Sources, When};
use super::spool::{Life, Queue, SPOOL_BYTES, Spool};
use super::text::exposition;
use super::trust::Trust;
use crate::lifecycle::Farewell;
use crate::native::{
    DESCRIPTOR_PATH, Descriptor, EnrollRequest, PUSH_CONTENT_TYPE, PUSH_PATH, Push,
};

/// The step until the collector has said another.
const STEP_MS: u64 = 10_000;

/// How often what waits for a collector that is away is synced, besides each segment.
const SYNC_EVERY: Duration = Duration::from_mins(1);

/// How long the last readings may take to leave when the agent is told to stop.
const FAREWELL: Duration = Duration::from_secs(2);

/// The name of the source that watches the cloud.
const CLOUD: &str = "cloud";

/// Bytes of the answer to a goodbye.
const GOODBYE_BYTES: usize = 64 << 10;

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
    /// Where the spool is kept; without it readings that wait end with the process.
    pub spool_dir: Option<PathBuf>,
    /// Bytes the spool may take, all of them reserved at the start when it is on disk.
    pub spool_bytes: usize,
    /// Where the cloud's metadata service is; without it the agent knows of no cloud.
    pub imds: Option<String>,
    /// The name to ask for; the host name when there is none.
    pub name: Option<String>,
    /// Labels the machine declares of itself.
    pub labels: BTreeMap<String, String>,
    /// Time between looks; what the collector says when there is none.
    pub step: Option<Step>,
    /// Where `/proc` is mounted.
    pub proc_root: PathBuf,
    /// Sources besides the kernel: their tables in `agent.toml`, by name.
    pub sources: BTreeMap<String, toml::Table>,
    /// How the collector is known, and what it is shown.
    pub trust: Trust,
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
            spool_dir: None,
            spool_bytes: SPOOL_BYTES,
            imds: None,
            name: None,
            labels: BTreeMap::new(),
            step: None,
            proc_root: PathBuf::from("/proc"),
            sources: BTreeMap::new(),
            trust: Trust::default(),
            goodbye: None,
        }
    }

    /// What a configuration file says, where it says something. Errors when its token cannot be read.
    pub fn with(mut self, settings: Settings) -> Result<Self, AgentError> {
        if let Some(url) = settings.collector {
            self.collector_url = url;
        }
        if let Some(path) = settings.token_file {
            let token = std::fs::read_to_string(&path);
            let token = token.map_err(|problem| AgentError::State { path, problem })?;
            self.token = Some(Secret::new(&token));
        }
        self.state_dir = settings.state.or(self.state_dir);
        self.spool_dir.clone_from(&self.state_dir);
        self.spool_bytes = settings.spool.unwrap_or(self.spool_bytes);
        let imds = settings.imds.unwrap_or_else(|| identity::ENDPOINT.to_owned());
        self.imds = (imds != "off").then_some(imds);
        self.name = settings.name.or(self.name);
        self.step = settings.step.or(self.step);
        self.proc_root = settings.proc.unwrap_or(self.proc_root);
        self.labels.extend(settings.labels);
        self.sources = settings.sources;
        let identity = settings.cert.zip(settings.key);
        self.trust = Trust { authority: settings.ca, pin: settings.ca_hash, identity };
        Ok(self)
    }

    fn request(&self) -> EnrollRequest {
        let facts = facts_under(&self.proc_root, Path::new("/etc/os-release"));
        let name = self.name.clone().unwrap_or_else(|| facts.hostname.clone());
        let boot_id = boot_id(&self.proc_root);
        EnrollRequest { name, boot_id, facts, labels: self.labels.clone(), document: None }
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

/// What a look at this machine finds now, in Prometheus' text form, with all that its sources say
/// in good time. Blocks for some milliseconds.
pub async fn print_once(config: &AgentConfig, clock: &dyn Clock) -> Result<String, AgentError> {
    let mut readings = Readings::default();
    Host::under(&config.proc_root).read(&mut readings);
    let mut sources = sources_of(config)?;
    sources.ask(Look { at: clock.wall(), step: config.step.unwrap_or(usual_step()) });
    while sources.is_asking() {
        let answered = sources.answered().await;
        readings.append(answered.readings());
        sources.put_back(answered);
    }
    Ok(exposition(&readings))
}

fn sources_of(config: &AgentConfig) -> Result<Sources, AgentError> {
    let mut sources = Sources::default();
    for (name, table) in &config.sources {
        let source = sources::build(name, table)?;
        if sources::when(name, table)? == When::Always {
            sources.set(name, source);
        }
    }
    Ok(sources)
}

/// What was found out of this machine's cloud: none, or one and how to ask it.
type Found = Option<(Identity, Imds)>;

/// Asks the cloud who this machine is, in a task of its own. Nobody is asked where no service is
/// configured, nor again in the same boot.
fn cloud_of(config: &AgentConfig, boot_id: u128) -> watch::Receiver<Option<Found>> {
    let Some(base) = &config.imds else { return watch::channel(Some(None)).1 };
    let mut imds = Imds::at(base);
    let dir = config.state_dir.clone();
    if let Some(identity) = dir.as_deref().and_then(|dir| Identity::cached(dir, boot_id)) {
        return watch::channel(Some(Some((identity, imds)))).1;
    }
    let (told, found) = watch::channel(None);
    tokio::spawn(async move {
        let identity = imds.identity().await;
        if let (Some(identity), Some(dir)) = (&identity, &dir) {
            identity.cache(dir, boot_id);
        }
        told.send_replace(Some(identity.map(|identity| (identity, imds))));
    });
    found
}

/// The spool of this configuration, and what keeps other agents away from it.
fn open_spool(
    config: &AgentConfig,
    life: Life,
    dictionary: &mut Dictionary,
) -> Result<(Spool, Option<DirLock>), AgentError> {
    let bytes = config.spool_bytes;
    let Some(dir) = &config.spool_dir else {
        return Ok((Spool::of(Queue::in_memory(bytes, life)), None));
    };
    let failed = |problem| AgentError::Spool { path: dir.clone(), mib: bytes >> 20, problem };
    OsDisk.create_dir(dir).map_err(failed)?;
    let lock = lock_dir(dir).map_err(|problem| AgentError::StateInUse { problem })?;
    let queue = Queue::open(&OsDisk, dir, bytes, life, dictionary).map_err(failed)?;
    Ok((Spool::of(queue), Some(lock)))
}

fn usual_step() -> Step {
    Step::from_millis(STEP_MS).expect("ten seconds are a step")
}

/// A running agent.
pub(super) struct Agent {
    client: Client,
    session: Session,
    clock: Arc<dyn Clock>,
    host: Seat,
    sources: Sources,
    /// Until when what was read waits for what sources add to the same moment; monotonic.
    gathering_until: Duration,
    /// When to look next.
    due: Timestamp,
    step: Step,
    /// The step while no descriptor says another.
    usual_step: Step,
    is_step_fixed: bool,
    /// The tables of all sources that this machine allows.
    allowed: BTreeMap<String, toml::Table>,
    token: Option<Secret>,
    state_dir: Option<PathBuf>,
    request: EnrollRequest,
    is_troubled: bool,
    is_refused: bool,
    key: Option<Key>,
    goodbye: Option<Farewell>,
    synced_at: Duration,
    /// The question who this machine is to its cloud, and the answer once there is one.
    cloud: watch::Receiver<Option<Found>>,
    /// Why the machine is about to end, as its cloud said.
    ending: Ending,
    /// No other agent uses the state folder.
    _lock: Option<DirLock>,
}

/// The machine and the buffer for what it says; absent while a look is under way.
type Seat = Option<Box<(Host, Readings)>>;

type Exchange = Pin<Box<dyn Future<Output = Answer> + Send>>;

enum Answer {
    Enrol(Result<Reply, Unreachable>),
    Push(Result<Reply, Unreachable>),
    Renew(Result<Reply, Unreachable>),
    Poll(Result<Polled, Unreachable>),
}

enum Wake {
    Answer(Answer),
    Source(Answered),
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
        let client = Client::trusting(&config.collector_url, &config.trust)?;
        if client.is_in_the_clear() {
            warn!(
                collector = config.collector_url,
                "the credential travels unencrypted; use https"
            );
        }
        let (credential, key) = match &config.state_dir {
            Some(dir) => kept_in(dir)?,
            None => (None, None),
        };
        if credential.is_none() && config.token.is_none() && key.is_none() {
            return Err(AgentError::NoToken);
        }
        if let (None, Some(dir)) = (&credential, &config.state_dir) {
            Credential::prepare(dir)?;
        }
        let request = config.request();
        let cloud = cloud_of(&config, request.boot_id);
        let told = credential.as_ref().and_then(|credential| credential.step);
        let step = config.step.or(told).unwrap_or_else(usual_step);
        let life = Life { boot_id: request.boot_id, step_ms: step.as_millis(), salt: random()? };
        let mut dictionary = Dictionary::default();
        let (spool, lock) = open_spool(&config, life, &mut dictionary)?;
        let mut session = Session::new(Start {
            incarnation: random()?,
            credential,
            may_enrol: config.token.is_some(),
            backoff,
            spool,
            dictionary,
            timeline: Timeline::start(clock.wall(), clock.monotonic()),
            poll: Some(Poll::default()),
        });
        if key.is_some() {
            session.signs();
        }
        Ok(Self {
            client,
            session,
            host: Some(Box::new((Host::under(&config.proc_root), Readings::default()))),
            sources: sources_of(&config)?,
            gathering_until: Duration::ZERO,
            due: clock.wall(),
            clock,
            step,
            usual_step: step,
            allowed: config.sources.clone(),
            _lock: lock,
            is_step_fixed: config.step.is_some(),
            token: config.token,
            state_dir: config.state_dir,
            request,
            is_troubled: false,
            is_refused: false,
            key,
            goodbye: config.goodbye,
            synced_at: Duration::ZERO,
            cloud,
            ending: Ending::default(),
        })
    }

    /// Gives it one more source, for tests.
    #[cfg(test)]
    pub(super) fn set_source(&mut self, name: &str, source: Box<dyn super::source::Source>) {
        self.sources.set(name, source);
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
            let mut retry = self.gathering();
            if let (true, None) = (exchange.is_none(), retry) {
                match self.session.next(self.clock.monotonic(), self.clock.wall()) {
                    Next::Enrol => exchange = self.enrol(),
                    Next::Poll(tag) => exchange = self.poll(tag),
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
                answered = self.sources.answered() => Wake::Source(answered),
                () = sleep(until_due) => Wake::Look,
                () = passed(retry) => Wake::Retry,
            };
            match wake {
                Wake::Answer(answer) => {
                    exchange = None;
                    self.answered(answer).await?;
                }
                Wake::Source(answered) => self.heard(answered),
                // A clock that is being slowed down is not there yet when the timer is.
                Wake::Look if self.until_due().is_zero() => self.look().await?,
                Wake::Look | Wake::Retry => {}
            }
        }
        // What cannot leave in this time stays in the spool, or is lost with one in memory.
        let outcome = timeout(FAREWELL, self.farewell(exchange)).await.unwrap_or(Ok(()));
        if let Some(goodbye) = self.goodbye()
            && timeout(FAREWELL, goodbye).await.is_err()
        {
            warn!("the goodbye did not reach the collector in time");
        }
        if let Some(file) = self.session.spool().queue().take_unsynced(true) {
            let synced = spawn_blocking(move || file.sync_data()).await;
            synced
                .map_err(|error| AgentError::Reader(error.to_string()))?
                .unwrap_or_else(|error| warn!(%error, "the spool cannot be synced"));
        }
        outcome
    }

    /// Sends what is in the spool, once.
    async fn farewell(&mut self, mut exchange: Option<Exchange>) -> Result<(), AgentError> {
        loop {
            if exchange.is_none() {
                match self.session.next(self.clock.monotonic(), self.clock.wall()) {
                    Next::Push(push) => exchange = self.push(&push),
                    Next::Poll(tag) => exchange = self.poll(tag),
                    Next::Enrol | Next::Renew | Next::Wait(_) | Next::Idle => return Ok(()),
                }
            }
            let answer = answered(&mut exchange).await;
            exchange = None;
            self.answered(answer).await?;
        }
    }

    /// The agent's time, which no step of the machine's clock moves.
    fn now(&self) -> Timestamp {
        self.session.time(self.clock.monotonic())
    }

    /// Holds the agent's time against the machine's clock and the server's.
    fn follow(&mut self) {
        if self.session.follow(self.clock.wall(), self.clock.monotonic()) {
            self.due = next_boundary(self.now(), self.step);
        }
    }

    /// Time until the next look.
    fn until_due(&self) -> Duration {
        let now = self.now();
        Duration::from_millis(u64::try_from(self.due.millis_since(now)).unwrap_or(0))
    }

    /// Time until a moment of the monotonic clock.
    fn until(&self, moment: Duration) -> Duration {
        moment.saturating_sub(self.clock.monotonic())
    }

    /// Time that is left to gather one moment's readings, while a source is being asked.
    fn gathering(&self) -> Option<Duration> {
        let left = self.until(self.gathering_until);
        (self.sources.is_asking() && !left.is_zero()).then_some(left)
    }

    /// Looks at the machine, in a thread where it may block, and asks the sources meanwhile.
    async fn look(&mut self) -> Result<(), AgentError> {
        let now = self.now();
        let look = Look { at: nominal(now, self.step), step: self.step };
        self.watch_cloud();
        self.gathering_until = self.clock.monotonic() + PROMPT;
        self.sources.ask(look);
        let started = self.clock.monotonic();
        let mut seat = self.host.take().expect("a host is put back when its look ends");
        let reading = spawn_blocking(move || {
            let (host, readings) = &mut *seat;
            readings.clear();
            host.read(readings);
            seat
        });
        let mut seat = reading.await.map_err(|error| AgentError::Reader(error.to_string()))?;
        self.session.report(self.clock.monotonic(), &mut seat.1);
        self.sources.report(&mut seat.1);
        let took = self.clock.monotonic().saturating_sub(started);
        let host = [("collector", "host")];
        seat.1.gauge("agent_collect_duration_seconds", &host, took.as_secs_f64());
        self.session.take(look.at, &seat.1);
        self.host = Some(seat);
        self.due = next_boundary(now, self.step);
        self.follow();
        self.sync_spool();
        Ok(())
    }

    /// Has the spool synced by a thread that may wait, when it is time.
    fn sync_spool(&mut self) {
        let now = self.clock.monotonic();
        let is_time = now.saturating_sub(self.synced_at) >= SYNC_EVERY;
        let Some(file) = self.session.spool().queue().take_unsynced(is_time) else { return };
        self.synced_at = now;
        drop(spawn_blocking(move || {
            if let Err(error) = file.sync_data() {
                warn!(%error, "the spool cannot be synced");
            }
        }));
    }

    /// Watches the cloud from the first look on after it was found.
    fn watch_cloud(&mut self) {
        if self.sources.has(CLOUD) {
            return;
        }
        let found = self.cloud.borrow().clone().flatten();
        if let Some((identity, imds)) = found {
            info!(instance_id = identity.instance_id, region = identity.region, "in a cloud");
            let watch = Watch::of(imds, identity, self.ending.clone());
            self.sources.set(CLOUD, Box::new(watch));
        }
    }

    /// Why it goes, so that silence is not taken for a loss. A machine that its cloud ends is gone then,
    /// and nobody needs to be woken.
    fn goodbye(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (word, reason) = match (ending, self.goodbye) {
            (Some(reason), _) => ("withdraw", serde_json::json!({ "reason": reason })),
            (None, Some(reason)) => ("goodbye", serde_json::json!({ "reason": reason })),
            (None, None) => return None,
        };
        let credential = self.session.credential()?.clone();
        let client = self.client.clone();
        let path = format!("/v1/instances/{:032x}/{word}", credential.instance);
        let body = reason.to_string().into_bytes();
        Some(async move {
            let asked = client.ask((Method::POST, &path), &credential.secret, body, GOODBYE_BYTES);
            match asked.await {
                Ok(reply) if reply.status < 300 => info!(%reason, "said goodbye"),
                Ok(reply) => warn!(status = reply.status, "the collector did not take the goodbye"),
                Err(Unreachable(why)) => warn!(why, "the goodbye did not reach the collector"),
            }
        })
    }

    /// Takes what a source found, at the moment it belongs to.
    fn heard(&mut self, answered: Answered) {
        let at = if answered.is_prompt { answered.look.at } else { self.now() };
        self.session.take(at, answered.readings());
        self.sources.put_back(answered);
    }

    fn enrol(&self) -> Option<Exchange> {
        let enrolment = self.session.enrolment();
        let (method, path) = enrolment.question();
        let bearer = self.token.clone().filter(|_| enrolment.shows_token());
        if bearer.is_none() && self.key.is_none() {
            return None;
        }
        let mut request = self.request.clone();
        let (client, mut cloud) = (self.client.clone(), self.cloud.clone());
        let (key, now) = (self.key.clone(), self.session.server_ms(self.clock.wall()));
        Some(Box::pin(async move {
            // The answer is there within a second, or never; looks go on meanwhile.
            let found = cloud.wait_for(Option::is_some).await.map(|found| found.clone());
            if let Ok(Some(Some((identity, mut imds)))) = found {
                let own = std::mem::take(&mut request.labels);
                // What the machine's own configuration says wins.
                request.labels = identity.labels().into_iter().chain(own).collect();
                let key = key.as_ref().map(Key::public);
                if method == Method::POST {
                    request.document = imds.document(identity.cloud, key.as_ref()).await;
                }
            }
            let asks = serde_json::to_vec(&request).expect("texts and numbers always are JSON");
            let body = if method == Method::POST { asks } else { Vec::new() };
            let now = Timestamp::from_millis(now);
            let proof = key.map(|key| key.proof((method.as_str(), &path), &body, now));
            let (proof, content_type) = (proof.unwrap_or_default(), "application/json");
            let post = Post { method, path: path.into(), bearer, proof, content_type, body };
            Answer::Enrol(client.post(post).await)
        }))
    }

    /// Headers by which the collector knows this machine; none without a key.
    fn proof(&self, request: (&str, &str), body: &[u8]) -> Vec<(&'static str, String)> {
        let now = Timestamp::from_millis(self.session.server_ms(self.clock.wall()));
        self.key.as_ref().map(|key| key.proof(request, body, now)).unwrap_or_default()
    }

    fn renew(&self) -> Option<Exchange> {
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

    fn poll(&self, tag: Option<String>) -> Option<Exchange> {
        let bearer = self.session.credential()?.secret.clone();
        let client = self.client.clone();
        Some(Box::pin(async move { Answer::Poll(client.poll(DESCRIPTOR_PATH, bearer, tag).await) }))
    }

    /// Works as the descriptor says, as far as this machine allows it.
    fn told(&mut self, descriptor: &Descriptor) {
        let told = descriptor.step_ms.filter(|millis| STEP_RANGE_MS.contains(millis));
        if let (false, step) = (self.is_step_fixed, told.and_then(Step::from_millis)) {
            self.set_step(step.unwrap_or(self.usual_step));
        }
        for (name, table) in &self.allowed {
            let is_asked = matches!(sources::when(name, table), Ok(When::Asked));
            match (is_asked, descriptor.sources.contains(name), self.sources.has(name)) {
                (true, true, false) => match sources::build(name, table) {
                    Ok(source) => {
                        info!(source = name, "the collector turns it on");
                        self.sources.set(name, source);
                    }
                    Err(error) => warn!(%error, "cannot be turned on"),
                },
                (true, false, true) => {
                    info!(source = name, "the collector turns it off");
                    self.sources.remove(name);
                }
                _ => {}
            }
        }
        let is_unknown = |name: &&String| !self.allowed.contains_key(*name);
        for name in descriptor.sources.iter().filter(is_unknown) {
            warn!(source = name, "the collector asks for a source that agent.toml does not have");
        }
    }

    fn set_step(&mut self, step: Step) {
        if step != self.step {
            info!(step_ms = step.as_millis(), "another step");
            self.step = step;
            self.due = self.due.min(next_boundary(self.now(), step));
            self.session.set_step(step);
        }
    }

    async fn answered(&mut self, answer: Answer) -> Result<(), AgentError> {
        let wall_ms = self.clock.wall().as_millis();
        let at = Moment { now: self.clock.monotonic(), random: random()?, wall_ms };
        let event = match answer {
            Answer::Enrol(outcome) => self.session.enrol_answered(outcome, at)?,
            Answer::Push(outcome) => self.session.push_answered(outcome, at)?,
            Answer::Renew(outcome) => self.session.renew_answered(outcome, at),
            Answer::Poll(outcome) => self.session.polled(outcome, at),
        };
        self.follow();
        match event {
            Event::Enrolled(credential) => self.enrolled(credential).await?,
            Event::Accepted { refused_samples, first_refusal } => {
                self.accepted(refused_samples, first_refusal.as_deref());
            }
            Event::Told(descriptor) => self.told(&descriptor),
            Event::Unchanged => {}
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
            self.usual_step = step;
            self.set_step(step);
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
            Key::create(&dir, &key::machine())
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
fn kept_in(dir: &Path) -> Result<(Option<Credential>, Option<Key>), AgentError> {
    let machine = key::machine();
    match Key::load(dir, &machine)? {
        key::Found::Own(key) => Ok((Credential::load(dir)?, Some(key))),
        key::Found::None => Ok((Credential::load(dir)?, Some(Key::create(dir, &machine)?))),
        key::Found::Copied => {
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
    fn looks_are_made_on_boundaries_of_a_time_that_no_step_moves() {
        let clock = Arc::new(rrd::ManualClock::at(Timestamp::from_secs(7201)));
        let config = AgentConfig {
            token: Some(Secret::new("join-me")),
            ..AgentConfig::to("http://127.0.0.1:1")
        };
        let backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        let mut agent = Agent::start(config, clock.clone(), backoff).unwrap();
        assert_eq!(agent.until_due(), Duration::ZERO, "the first look is made at once");
        agent.due = next_boundary(agent.now(), agent.step);
        assert_eq!(agent.until_due(), Duration::from_secs(9));
        for wall in [3603, 9999] {
            clock.set_wall(Timestamp::from_secs(wall));
            agent.follow();
            assert_eq!(agent.until_due(), Duration::from_secs(9));
        }
        clock.advance(Duration::from_secs(10));
        assert_eq!(agent.until_due(), Duration::ZERO);
    }

    #[tokio::test]
    async fn this_machine_prints_its_readings() {
        let clock = rrd::ManualClock::at(Timestamp::from_secs(60));
        let text = print_once(&AgentConfig::to("http://127.0.0.1:1"), &clock).await.unwrap();
        assert!(text.contains("# TYPE node_cpu_seconds_total counter\n"), "{text}");
        assert!(text.contains("node_cpu_seconds_total{mode=\"idle\"} "), "{text}");
    }
}
