//! The agent's loop: looks at every step, sends when there is something to send, waits otherwise.

mod answers;
mod exchange;
mod start;

use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rrd::disk::DirLock;
use rrd::{Clock, Step, Timestamp};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::backoff::Backoff;
use super::client::Client;
use super::config::AgentConfig;
use super::error::AgentError;
use super::identity::{Ending, Watch};
use super::key::Key;
use super::proc::Host;
use super::reading::Readings;
use super::secret::Secret;
use super::session::{Next, Session};
use super::source::Look;
use super::sources::{Answered, PROMPT, Sources};
use super::text::exposition;
use crate::lifecycle::Farewell;
use crate::native::EnrollRequest;
use exchange::{Answer, Exchange, answered};
use start::{Found, sources_of, usual_step};

/// How often what waits for a collector that is away is synced, besides each segment.
const SYNC_EVERY: Duration = Duration::from_mins(1);

/// How long the last readings may take to leave when the agent is told to stop.
const FAREWELL: Duration = Duration::from_secs(2);

/// The name of the source that watches the cloud.
const CLOUD: &str = "cloud";

/// A look that starts this shortly after a boundary of the step counts as made on it: timers are late
/// by a millisecond or two, and readings on the boundary fill whole rows.
const LATE_MS: i64 = 20;

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

enum Wake {
    Answer(Answer),
    Source(Answered),
    Look,
    Retry,
}

impl Agent {
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

    /// Takes what a source found, at the moment it belongs to.
    fn heard(&mut self, answered: Answered) {
        let at = if answered.is_prompt { answered.look.at } else { self.now() };
        self.session.take(at, answered.readings());
        self.sources.put_back(answered);
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
