//! The agent over real connections, against a server that answers as it is told.

use std::future::pending;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse as _;
use rrd::{Clock, Step, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::collector::{Heard, Say, Server, within};
use crate::agent::backoff::Backoff;
use crate::agent::reading::Readings;
use crate::agent::run::Agent;
use crate::agent::source::{self, Look, Source};
use crate::agent::{AgentConfig, AgentError, Secret};
use crate::native::{Descriptor, Problem, Push};

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
    assert!(metric_names(&push).contains(&"agent_queue_batches"));
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

/// Says how often it was asked, after some time.
struct Counter {
    asked: f64,
    delay: Duration,
}

impl Source for Counter {
    fn read<'a>(&'a mut self, _: Look, out: &'a mut Readings) -> source::Answer<'a> {
        self.asked += 1.0;
        Box::pin(async move {
            tokio::time::sleep(self.delay).await;
            out.total("asked_total", &[], self.asked);
            Ok(())
        })
    }
}

/// The moments of each push that holds `asked_total`, and whether the kernel's readings share them.
async fn moments_of_a_source(delay: Duration) -> Vec<(i64, bool)> {
    let mut server = Server::saying(&[], &[]).await;
    let clock = Arc::new(RuntimeClock(Instant::now()));
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(8));
    let mut agent = Agent::start(config(server.address), clock, backoff).unwrap();
    agent.set_source("counter", Box::new(Counter { asked: 0.0, delay }));
    let running = tokio::spawn(agent.run(pending()));
    assert!(matches!(server.hears().await, Heard::Enrol { .. }));
    let (mut id, mut moments) = (None, Vec::new());
    while moments.len() < 3 {
        let push = server.hears_push().await;
        let entry = push.dictionary.iter().find(|entry| entry.labels[0].1 == "asked_total");
        id = id.or(entry.map(|entry| entry.id));
        let of_kernel = |at| {
            let same = push.readings.iter().filter(|reading| reading.at_ms == at);
            same.flat_map(|reading| &reading.values).any(|(id, _)| *id == 0)
        };
        for reading in &push.readings {
            if reading.values.iter().any(|(value, _)| Some(*value) == id) {
                moments.push((reading.at_ms, of_kernel(reading.at_ms)));
            }
        }
    }
    running.abort();
    moments
}

#[tokio::test]
async fn a_prompt_source_shares_the_moment_of_the_look_and_its_push() {
    let moments = moments_of_a_source(Duration::ZERO).await;
    assert!(moments.iter().all(|(_, is_shared)| *is_shared), "{moments:?}");
}

#[tokio::test]
async fn a_machine_that_its_cloud_ends_enrols_with_its_labels_and_says_goodbye() {
    let document = |path: &str| match path {
        "/latest/api/token" => Some("t"),
        "/latest/meta-data/instance-id" => Some("i-0abc"),
        "/latest/dynamic/instance-identity/document" => Some("{\"instanceId\": \"i-0abc\"}"),
        "/latest/meta-data/autoscaling/target-lifecycle-state" => Some("Terminated"),
        _ => None,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let imds = Some(format!("http://{}", listener.local_addr().unwrap()));
    let cloud = Router::new().fallback(async move |uri: Uri| match document(uri.path()) {
        Some(text) => text.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    });
    tokio::spawn(async move { axum::serve(listener, cloud).await });
    let mut server = Server::saying(&[], &[]).await;
    let agent = go(AgentConfig { imds, ..config(server.address) });
    let Heard::Enrol { request, .. } = server.hears().await else { panic!("enrolment first") };
    assert_eq!(request.labels["cloud_instance_id"], "i-0abc");
    while !metric_names(&server.hears_push().await).contains(&"agent_cloud_termination") {}
    agent.stop.send(()).unwrap();
    let said = loop {
        if let Heard::Goodbye { path, body } = server.hears().await {
            break (path, body);
        }
    };
    assert_eq!(said.0, format!("/v1/instances/{:032x}/withdraw", 0xabc));
    assert!(said.1.contains("its group lets it go: Terminated"), "{}", said.1);
    within(agent.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_descriptor_changes_the_step_and_turns_no_unknown_source_on() {
    let mut server = Server::saying(&[], &[]).await;
    let sources = ["shell".to_owned()].into();
    let told = Descriptor { step_ms: Some(1_000), sources, labels: [].into() };
    server.tells(told);
    let agent = go(AgentConfig { step: None, ..config(server.address) });
    assert!(matches!(server.hears().await, Heard::Enrol { .. }));
    // Without the descriptor looks would be a minute apart, as enrolment said.
    let moments = [server.hears_push().await, server.hears_push().await, server.hears_push().await];
    let distance = moments[2].readings[0].at_ms - moments[1].readings[0].at_ms;
    assert_eq!(distance, 1_000);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_late_source_has_a_moment_of_its_own_and_the_look_does_not_wait() {
    let moments = moments_of_a_source(Duration::from_millis(130)).await;
    assert!(moments.iter().all(|(_, is_shared)| !is_shared), "{moments:?}");
    assert!(moments.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 130), "{moments:?}");
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
