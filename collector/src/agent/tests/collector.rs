//! A collector that answers as it is told, and tells what it heard.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::taken;
use crate::native::{Descriptor, EnrollAnswer, EnrollRequest, Problem, Push, PushAnswer};

/// Long enough for a busy machine; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// What it answers.
#[derive(Clone, Debug)]
pub(super) enum Say {
    Take,
    Refuse(u16, Problem),
    RetryAfter(u16, u32),
}

/// What reached the server.
#[derive(Debug)]
pub(super) enum Heard {
    Goodbye { path: String, body: String },
    Enrol { bearer: String, request: EnrollRequest },
    Push { bearer: String, push: Push },
}

struct Script {
    heard: mpsc::UnboundedSender<Heard>,
    enrolments: Mutex<VecDeque<Say>>,
    pushes: Mutex<VecDeque<Say>>,
    descriptor: Mutex<Option<Descriptor>>,
}

/// A collector on a port of its own.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    script: Arc<Script>,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Server {
    /// Serves on a free port. After its script it takes everything.
    pub(super) async fn saying(enrolments: &[Say], pushes: &[Say]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, enrolments, pushes)
    }

    pub(super) fn on(listener: TcpListener, enrolments: &[Say], pushes: &[Say]) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, heard) = mpsc::unbounded_channel();
        let script = Arc::new(Script {
            heard: sender,
            enrolments: Mutex::new(enrolments.iter().cloned().collect()),
            pushes: Mutex::new(pushes.iter().cloned().collect()),
            descriptor: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/enroll", post(enrol))
            .route("/v1/push", post(push))
            .route("/v1/instances/{id}/withdraw", post(withdraw))
            .route("/v1/agent/descriptor", get(descriptor))
            .with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, script, heard }
    }

    /// What its descriptor says from now on.
    pub(super) fn tells(&self, descriptor: Descriptor) {
        *self.script.descriptor.lock().unwrap() = Some(descriptor);
    }

    pub(super) async fn hears(&mut self) -> Heard {
        within(self.heard.recv()).await.expect("the server lives")
    }

    pub(super) async fn hears_push(&mut self) -> Push {
        match self.hears().await {
            Heard::Push { push, .. } => push,
            other => panic!("expected a push, heard {other:?}"),
        }
    }
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
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

async fn withdraw(State(script): State<Arc<Script>>, uri: Uri, body: String) -> StatusCode {
    script.heard.send(Heard::Goodbye { path: uri.path().to_owned(), body }).unwrap();
    StatusCode::OK
}

async fn descriptor(State(script): State<Arc<Script>>) -> Response {
    match script.descriptor.lock().unwrap().clone() {
        Some(told) => serde_json::to_vec(&told).unwrap().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn push(State(script): State<Arc<Script>>, headers: HeaderMap, body: Bytes) -> Response {
    let push = Push::decode(&body).unwrap();
    let answer = PushAnswer { server_ms: push.sent_ms, ..taken(push.number, push.number) };
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
