//! The agent over real connections, against a server that answers as it is told.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use rrd::{Clock, Step, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::agent::backoff::Backoff;
use crate::agent::run::Agent;
use crate::agent::{AgentConfig, AgentError, Secret};
use crate::native::{EnrollAnswer, EnrollRequest, Position, Problem, Push, PushAnswer};

/// Long enough for a busy machine; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
enum Say {
    Take,
    Refuse(u16, Problem),
    RetryAfter(u16, u32),
}

/// What reached the server.
#[derive(Debug)]
enum Heard {
    Enrol { bearer: String, request: EnrollRequest },
    Push { bearer: String, push: Push },
}

struct Script {
    heard: mpsc::UnboundedSender<Heard>,
    enrolments: Mutex<VecDeque<Say>>,
    pushes: Mutex<VecDeque<Say>>,
}

struct Server {
    address: SocketAddr,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Server {
    /// Serves on a free port. After its script it takes everything.
    async fn saying(enrolments: &[Say], pushes: &[Say]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, enrolments, pushes)
    }

    fn on(listener: TcpListener, enrolments: &[Say], pushes: &[Say]) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, heard) = mpsc::unbounded_channel();
        let script = Script {
            heard: sender,
            enrolments: Mutex::new(enrolments.iter().cloned().collect()),
            pushes: Mutex::new(pushes.iter().cloned().collect()),
        };
        let router = Router::new()
            .route("/v1/enroll", post(enrol))
            .route("/v1/push", post(push))
            .with_state(Arc::new(script));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, heard }
    }

    async fn hears(&mut self) -> Heard {
        within(self.heard.recv()).await.expect("the server lives")
    }

    async fn hears_push(&mut self) -> Push {
        match self.hears().await {
            Heard::Push { push, .. } => push,
            other @ Heard::Enrol { .. } => panic!("expected a push, heard {other:?}"),
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in good time")
}

fn bearer(headers: &HeaderMap) -> String {
    headers["authorization"].to_str().unwrap().to_owned()
}

async fn enrol(State(script): State<Arc<Script>>, headers: HeaderMap, body: Bytes) -> Response {
    let request = serde_json::from_slice(&body).unwrap();
    script.heard.send(Heard::Enrol { bearer: bearer(&headers), request }).unwrap();
    let say = script.enrolments.lock().unwrap().pop_front().unwrap_or(Say::Take);
    let answer = EnrollAnswer {
        id: 0xabc,
        credential: "s3cret".into(),
        labels: [].into(),
        step_ms: 60_000,
        expires_ms: None,
    };
    respond(say, (StatusCode::CREATED, serde_json::to_vec(&answer).unwrap()).into_response())
}

async fn push(State(script): State<Arc<Script>>, headers: HeaderMap, body: Bytes) -> Response {
    let push = Push::decode(&body).unwrap();
    let here = Position { log_epoch: 1, seq: push.number };
    let answer = PushAnswer {
        accepted: here,
        durable: here,
        samples: 0,
        server_ms: push.sent_ms,
        refused: Vec::new(),
        refused_samples: 0,
    };
    script.heard.send(Heard::Push { bearer: bearer(&headers), push }).unwrap();
    let say = script.pushes.lock().unwrap().pop_front().unwrap_or(Say::Take);
    respond(say, serde_json::to_vec(&answer).unwrap().into_response())
}

fn respond(say: Say, taken: Response) -> Response {
    match say {
        Say::Take => taken,
        Say::Refuse(status, problem) => {
            let body = serde_json::to_vec(&problem).unwrap();
            (StatusCode::from_u16(status).unwrap(), body).into_response()
        }
        Say::RetryAfter(status, seconds) => {
            let header = [("retry-after", seconds.to_string())];
            (StatusCode::from_u16(status).unwrap(), header).into_response()
        }
    }
}

/// The time of the runtime.
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    fn wall(&self) -> Timestamp {
        let millis = i64::try_from(self.0.elapsed().as_millis()).unwrap();
        Timestamp::from_millis(1_800_000_000_000 + millis)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

fn config(address: SocketAddr) -> AgentConfig {
    AgentConfig {
        token: Some(Secret::new("join-me")),
        name: Some("web-1".into()),
        step: Step::from_millis(20),
        ..AgentConfig::to(format!("http://{address}"))
    }
}

/// An agent at work, with a backoff of milliseconds. Stops when told, or when dropped.
struct Running {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), AgentError>>,
}

fn go(config: AgentConfig) -> Running {
    let (stop, stopped) = oneshot::channel();
    let clock = Arc::new(RuntimeClock(Instant::now()));
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(8));
    let task = tokio::spawn(async move {
        let shutdown = async { drop(stopped.await) };
        Agent::start(config, clock, backoff)?.run(shutdown).await
    });
    Running { stop, task }
}

impl Running {
    async fn stop(self) -> Result<(), AgentError> {
        let Self { stop, task } = self;
        drop(stop);
        within(task).await.unwrap()
    }

    async fn ends(self) -> Result<(), AgentError> {
        within(self.task).await.unwrap()
    }
}

fn metric_names(push: &Push) -> Vec<&str> {
    push.dictionary.iter().map(|entry| entry.labels[0].1.as_str()).collect()
}

#[tokio::test]
async fn an_agent_enrols_then_pushes_in_order() {
    let mut server = Server::saying(&[], &[]).await;
    let agent = go(config(server.address));
    let Heard::Enrol { bearer, request } = server.hears().await else { panic!("enrolment first") };
    assert_eq!((bearer.as_str(), request.name.as_str()), ("Bearer join-me", "web-1"));
    let Heard::Push { bearer, push } = server.hears().await else { panic!("then a push") };
    assert_eq!((bearer.as_str(), push.instance, push.number), ("Bearer s3cret", 0xabc, 1));
    assert!(metric_names(&push).contains(&"node_load1"));
    assert!(metric_names(&push).contains(&"agent_spool_batches"));
    for number in 2..=4 {
        let push = server.hears_push().await;
        assert_eq!((push.number, push.floor), (number, number));
        assert!(push.dictionary.iter().all(|entry| entry.id > 0), "entries are not repeated");
    }
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn an_agent_waits_for_a_collector_that_is_not_there_yet() {
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let agent = go(config(address));
    // Somebody else may take the port meanwhile; then this test has nothing to say.
    let Ok(listener) = TcpListener::bind(address).await else { return };
    let mut server = Server::on(listener, &[], &[]);
    assert!(matches!(server.hears().await, Heard::Enrol { .. }));
    assert_eq!(server.hears_push().await.number, 1);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_busy_collector_gets_the_same_batch_again() {
    let busy = Say::Refuse(503, Problem::default());
    let say = [busy.clone(), Say::RetryAfter(429, 0), busy, Say::Take];
    let mut server = Server::saying(&[Say::RetryAfter(503, 0)], &say).await;
    let agent = go(config(server.address));
    for _ in 0..2 {
        assert!(matches!(server.hears().await, Heard::Enrol { .. }));
    }
    let first = server.hears_push().await;
    for _ in 0..3 {
        let again = server.hears_push().await;
        assert_eq!((again.number, &again.readings), (1, &first.readings));
        assert_eq!(again.dictionary, first.dictionary);
    }
    assert_eq!(server.hears_push().await.number, 2);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_collector_without_the_dictionary_gets_it_again() {
    let lost = Problem { resend_dictionary: true, ..Problem::default() };
    let mut server = Server::saying(&[], &[Say::Take, Say::Refuse(409, lost)]).await;
    let agent = go(config(server.address));
    assert!(matches!(server.hears().await, Heard::Enrol { .. }));
    let first = server.hears_push().await;
    let second = server.hears_push().await;
    let again = server.hears_push().await;
    assert_eq!((second.number, again.number), (2, 2));
    assert!(second.dictionary.len() < first.dictionary.len());
    assert!(metric_names(&again).contains(&"node_load1"));
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_gap_below_what_is_left_is_answered_by_the_floor() {
    let gap = Problem { resend_from: Some(1), ..Problem::default() };
    let mut server = Server::saying(&[], &[Say::Take, Say::Refuse(409, gap)]).await;
    let agent = go(config(server.address));
    assert!(matches!(server.hears().await, Heard::Enrol { .. }));
    for expected in [(1, 1), (2, 2), (2, 2), (3, 3)] {
        let push = server.hears_push().await;
        assert_eq!((push.number, push.floor), expected);
    }
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_refused_token_ends_the_agent() {
    let no = Problem { message: "this token was used up".into(), ..Problem::default() };
    let server = Server::saying(&[Say::Refuse(401, no)], &[]).await;
    let error = go(config(server.address)).ends().await.unwrap_err();
    assert!(error.to_string().contains("this token was used up"), "{error}");
}

#[tokio::test]
async fn a_kept_credential_needs_no_second_enrolment() {
    let mut server = Server::saying(&[], &[]).await;
    let dir = tempfile::tempdir().unwrap();
    let state_dir = Some(dir.path().join("agent"));
    let first = go(AgentConfig { state_dir: state_dir.clone(), ..config(server.address) });
    assert!(matches!(server.hears().await, Heard::Enrol { .. }));
    let life = server.hears_push().await.incarnation;
    first.stop().await.unwrap();
    let second = go(AgentConfig { state_dir, token: None, ..config(server.address) });
    // What the first life said last may still be on its way here.
    let push = loop {
        let push = server.hears_push().await;
        if push.incarnation != life {
            break push;
        }
    };
    assert_eq!((push.instance, push.number), (0xabc, 1));
    second.stop().await.unwrap();
}

#[tokio::test]
async fn the_last_readings_leave_before_the_agent_ends() {
    let mut server = Server::saying(&[], &[]).await;
    let step = Step::from_secs(3600);
    let agent = go(AgentConfig { step, ..config(server.address) });
    assert!(matches!(server.hears().await, Heard::Enrol { .. }));
    agent.stop().await.unwrap();
    assert_eq!(server.hears_push().await.number, 1);
}

#[tokio::test]
async fn an_agent_without_token_and_credential_says_so_at_once() {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let error = go(AgentConfig { token: None, ..config(address) }).ends().await.unwrap_err();
    assert!(matches!(error, AgentError::NoToken));
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_written_is_found_before_enrolment() {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let state_dir = Some(Path::new("/proc/nowhere").to_owned());
    let error = go(AgentConfig { state_dir, ..config(address) }).ends().await.unwrap_err();
    assert!(matches!(error, AgentError::State { .. }), "{error}");
}
