//! A fleet in memory, for tests of pages and API.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use jiff::tz::TimeZone;
use query::memory::MemoryRead;
use rrd::{Clock, Labels, ManualClock, Timestamp};
use tower::ServiceExt;

use crate::sessions::Sessions;
use crate::views::{
    AlertView, AlertsView, DeliveriesView, EnrolmentView, FactGroup, FleetView, HealthView,
    InstanceRef, InstanceState, InstanceView, Level, Minted, Pending, RuleAlert, RuleView,
    TokenKind, TokenView, TransitionView, Web,
};

pub(crate) const ID: &str = "0000000000000000000000000000002a";
pub(crate) const ADMIN: &str = "the-admin-token";
/// A name that must never become markup.
pub(crate) const HOSTILE: &str = "\"><script>alert(1)</script>";

/// A router over series in memory, and the one-time token.
pub(crate) struct Rig {
    pub(crate) token: String,
    pub(crate) health: Arc<Health>,
    pub(crate) web: Web,
    router: Router,
}

pub(crate) struct Health(AtomicBool);

struct Fleet(String);
struct Alerts;
struct Enrolment;

impl Rig {
    /// A rig whose one instance is called `name`, with these series (see [`MemoryRead::load`]), an
    /// hour after 1970.
    pub(crate) fn with(name: &str, series: &str) -> Self {
        let read = MemoryRead::load(series).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(3600)));
        let sessions = Arc::new(Sessions::new(false, 4270));
        let token = sessions.issue_token(clock.monotonic()).unwrap();
        let health = Arc::new(Health(AtomicBool::new(true)));
        let web = Web {
            read: Arc::new(read),
            clock,
            fleet: Arc::new(Fleet(name.to_owned())),
            alerts: Arc::new(Alerts),
            enrolment: Arc::new(Enrolment),
            health: Arc::clone(&health) as Arc<dyn HealthView>,
            sessions,
            admin_token: Some(ADMIN.into()),
            public_url: "http://127.0.0.1:4270".into(),
            zone: TimeZone::UTC,
        };
        let router = crate::router(web.clone());
        Self { token, health, web, router }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// `GET path` as a stranger.
    pub(crate) async fn stranger(&self, path: &str) -> Response {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// `GET path` with the admin token: status and text.
    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {ADMIN}"));
        text(self.send(request.body(Body::empty()).unwrap()).await).await
    }

    /// A form, with the admin token.
    pub(crate) async fn post(&self, path: &str, form: &str) -> (StatusCode, String) {
        let request = form_request(path)
            .header(header::AUTHORIZATION, format!("Bearer {ADMIN}"))
            .body(Body::from(form.to_owned()))
            .unwrap();
        text(self.send(request).await).await
    }
}

/// A form's request without its body.
pub(crate) fn form_request(path: &str) -> axum::http::request::Builder {
    let kind = "application/x-www-form-urlencoded";
    Request::builder().method(Method::POST).uri(path).header(header::CONTENT_TYPE, kind)
}

pub(crate) async fn text(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

impl Health {
    pub(crate) fn set_ready(&self, ready: bool) {
        self.0.store(ready, Ordering::SeqCst);
    }
}

impl HealthView for Health {
    fn recovered(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn ready(&self) -> bool {
        self.recovered()
    }

    fn facts(&self) -> Vec<FactGroup> {
        Vec::new()
    }

    fn metrics(&self, out: &mut String) {
        out.push_str("roundel_up 1\n");
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

impl FleetView for Fleet {
    fn instances(&self) -> Vec<InstanceView> {
        let selector = labels(&[("instance", &self.0), ("job", "node")]);
        vec![InstanceView {
            id: ID.to_owned(),
            name: self.0.clone(),
            labels: selector.with("zone", HOSTILE),
            selector,
            state: InstanceState::Up,
            evidence: "it sends".to_owned(),
            enrolled_at: Timestamp::from_secs(0),
            last_seen: Some(Timestamp::from_secs(3595)),
            source: "roundel agent".to_owned(),
            series_count: 1,
            file_bytes: 4096,
            policy: "1m:2d".to_owned(),
        }]
    }
}

impl AlertsView for Alerts {
    fn open(&self) -> Vec<AlertView> {
        vec![AlertView {
            rule: "cpu-busy".to_owned(),
            summary: HOSTILE.to_owned(),
            labels: labels(&[("a", HOSTILE)]),
            instance: Some(InstanceRef { id: ID.to_owned(), name: HOSTILE.to_owned() }),
            level: Level::Critical,
            pending: false,
            value: "96 %".to_owned(),
            threshold: "> 95 %".to_owned(),
            since: Timestamp::from_secs(3000),
        }]
    }

    fn history(&self, _: usize) -> Vec<TransitionView> {
        vec![TransitionView {
            at: Timestamp::from_secs(3000),
            rule: "cpu-busy".to_owned(),
            labels: Labels::default(),
            instance: None,
            from: Level::Ok,
            to: Level::Critical,
            value: "96 %".to_owned(),
            threshold: "> 95 %".to_owned(),
        }]
    }

    fn deliveries(&self) -> DeliveriesView {
        DeliveriesView::default()
    }

    fn rules(&self) -> Vec<RuleView> {
        let rule = |name: &str, alerts| RuleView {
            name: name.to_owned(),
            file: "host.toml".to_owned(),
            query: "cpu".to_owned(),
            every_ms: 60_000,
            for_ms: 300_000,
            labels: labels(&[("team", "web")]),
            summary: "busy".to_owned(),
            problem: None,
            evaluated: Some(Timestamp::from_secs(3540)),
            alerts,
        };
        let alert = RuleAlert {
            labels: labels(&[("instance", "a"), ("team", "web")]),
            level: Level::Critical,
            opened: Timestamp::from_secs(3000),
            value: Some(1e6),
            summary: HOSTILE.to_owned(),
            reading: "96 %".to_owned(),
            threshold: "> 95 %".to_owned(),
        };
        vec![rule("cpu-busy", vec![alert]), rule("idle", Vec::new())]
    }
}

impl EnrolmentView for Enrolment {
    fn mint(&self, kind: TokenKind, note: String) -> Pending<Result<Minted, String>> {
        let answer = match note.as_str() {
            "refuse" => Err("the journal is full".to_owned()),
            _ => Ok(Minted { token: format!("secret-{kind:?}"), expires_at: None }),
        };
        Box::pin(ready(answer))
    }

    fn tokens(&self) -> Vec<TokenView> {
        Vec::new()
    }
}
