//! What the tests of the intake share: a server without a socket, and the bodies that senders send.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use journal::Config;
use rrd::{Clock, GrantFrame, ManualClock, MemDisk, Timestamp};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::accounting::Accounting;
use crate::auth::Credentials;
use crate::intake::*;
use crate::native::{EnrollAnswer, PUSH_CONTENT_TYPE, Push};
use crate::registry::{FRAME_REGISTRY, Registry};
use crate::secret::Digest;

pub(super) const ADMIN: &str = "admin secret";
/// The moment at which the tests' clock stands.
pub(super) const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// An intake over memory, with a worker that applies what it appends.
pub(super) struct Server {
    pub(super) intake: Intake,
    pub(super) clock: Arc<ManualClock>,
    pub(super) disk: MemDisk,
    journal: Journal,
    stop: Arc<AtomicBool>,
    worker: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::over(MemDisk::default(), Arc::new(Registry::default()))
    }

    /// A server with a journal for an hour of a fleet: no round makes room in it.
    pub(super) fn roomy() -> Self {
        let config = Config { segment_count: 40, ..small() };
        Self::with(MemDisk::default(), Arc::new(Registry::default()), config)
    }

    /// A server over what an earlier one left. The journal is replayed into the store only.
    pub(super) fn over(disk: MemDisk, registry: Arc<Registry>) -> Self {
        Self::with(disk, registry, small())
    }

    fn with(disk: MemDisk, registry: Arc<Registry>, config: Config) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let config = Config { commit_delay: Duration::ZERO, ..config };
        let shared: Arc<dyn rrd::Disk> = Arc::new(disk.clone());
        let (journal, recovery) =
            Journal::open(shared, Path::new("journal"), config, clock.clone()).unwrap();
        let (store, damage) =
            Store::open(Arc::new(disk.clone()), Path::new("archives"), 0).unwrap();
        assert!(damage.is_empty(), "{damage:?}");
        let store = Arc::new(store);
        let parts = Parts {
            store,
            journal: journal.clone(),
            registry,
            accounting: Arc::new(Accounting::default()),
            clock: clock.clone(),
            credentials: Credentials::new(Some(Digest::of(ADMIN))),
            agent_policy: "10s:2h,1m:2d".parse().unwrap(),
            foreign_policy: "1m:2d".parse().unwrap(),
            agent_step: Step::from_secs(10).unwrap(),
        };
        let intake = Intake::new(parts).unwrap();
        for frame in recovery.frames {
            apply(&intake, &frame.unwrap(), true);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let worker = {
            let (intake, journal, stop) = (intake.clone(), journal.clone(), stop.clone());
            std::thread::spawn(move || work(&intake, &journal, &stop))
        };
        Self { intake, clock, disk, journal, stop, worker: Some(worker) }
    }

    /// Stops the worker and gives back what outlives a process.
    pub(super) fn stop(mut self) -> (MemDisk, Arc<Registry>) {
        self.end();
        (self.disk.clone(), self.intake.0.parts.registry.clone())
    }

    /// Stops the worker alone, as if it were stuck; [`Server::resume`] lets it go on.
    pub(super) fn stall(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.worker.take().unwrap().join().unwrap();
    }

    pub(super) fn resume(&mut self) {
        let stop = Arc::new(AtomicBool::new(false));
        let (intake, journal) = (self.intake.clone(), self.journal.clone());
        self.stop = stop.clone();
        self.worker = Some(std::thread::spawn(move || work(&intake, &journal, &stop)));
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(worker) = self.worker.take() {
            worker.join().unwrap();
        }
        self.journal.close();
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.intake.0.parts
    }

    /// Leaves no byte free on the disk; what is allocated can still be written.
    pub(super) fn fill_disk(&self) {
        const ROOM: u64 = 1 << 40;
        self.disk.set_capacity(ROOM);
        let free = rrd::Disk::free_bytes(&self.disk, Path::new("archives")).unwrap();
        self.disk.set_capacity(ROOM - free);
    }

    /// Waits until the worker has applied everything appended so far.
    pub(super) async fn settle(&self) {
        let seq = self.journal.append(journal::TICK, &[]).unwrap();
        self.journal.applied(seq).await.unwrap();
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = router(self.intake.clone()).oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status, headers, json }
    }

    pub(super) async fn json(&self, method: &str, path: &str, secret: &str, body: Value) -> Answer {
        self.send(request(method, path, secret).body(Body::from(body.to_string())).unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path, ADMIN).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn token(&self, body: Value) -> String {
        let answer = self.json("POST", "/v1/tokens", ADMIN, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.json);
        answer.json["token"].as_str().unwrap().to_owned()
    }

    pub(super) async fn enroll(&self, secret: &str, name: &str, boot: u128) -> EnrollAnswer {
        let body = serde_json::json!({"name": name, "boot_id": format!("{boot:032x}")});
        let answer = self.json("POST", "/v1/enroll", secret, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.json);
        serde_json::from_value(answer.json).unwrap()
    }

    pub(super) async fn push(&self, credential: &str, push: &Push) -> Answer {
        let request =
            request("POST", "/v1/push", credential).header("content-type", PUSH_CONTENT_TYPE);
        self.send(request.body(Body::from(push.encode())).unwrap()).await
    }

    pub(super) async fn write(&self, secret: &str, request: &[u8]) -> Answer {
        self.write_raw(secret, &snap::raw::Encoder::new().compress_vec(request).unwrap()).await
    }

    pub(super) async fn write_raw(&self, secret: &str, body: &[u8]) -> Answer {
        self.send(write_request(secret, body)).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) json: Value,
}

impl Answer {
    #[track_caller]
    pub(super) fn is(self, status: u16, error: &str) -> Self {
        assert_eq!((self.status.as_u16(), self.word()), (status, error), "{:?}", self.json);
        self
    }

    pub(super) fn word(&self) -> &str {
        self.json["error"].as_str().unwrap_or_default()
    }

    /// The reasons of the refusals shown, in order.
    pub(super) fn reasons(&self) -> Vec<&str> {
        let refused = self.json["refused"].as_array().map(Vec::as_slice).unwrap_or_default();
        refused.iter().map(|one| one["reason"].as_str().unwrap()).collect()
    }
}

/// A journal small enough to be made in no time.
fn small() -> Config {
    Config { segment_bytes: 2 << 20, segment_count: 4, ..Config::default() }
}

fn work(intake: &Intake, journal: &Journal, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        for frame in journal.next(Duration::from_millis(5)) {
            apply(intake, &frame, false);
            journal.mark_applied(frame.seq);
        }
    }
}

fn apply(intake: &Intake, frame: &journal::Frame, replay: bool) {
    let parts = &intake.0.parts;
    match frame.kind {
        rrd::FRAME_SAMPLES => {
            let samples = SampleFrame::decode(&frame.body).unwrap();
            let verdicts = parts.store.apply(frame.seq, frame.stamp, &samples);
            if !replay {
                intake.applied(frame.seq, samples.instance, &verdicts);
            }
        }
        rrd::FRAME_GRANT => {
            let grant = GrantFrame::decode(&frame.body).unwrap();
            parts.store.apply_grant(frame.seq, &grant).unwrap();
        }
        rrd::FRAME_CHANGE => {
            let change = rrd::ChangeFrame::decode(&frame.body).unwrap();
            parts.store.apply_change(frame.seq, &change).unwrap();
        }
        FRAME_REGISTRY => drop(parts.registry.apply(frame.seq, &frame.body).unwrap()),
        _ => {}
    }
    parts.store.advance(frame.stamp);
}

pub(super) fn request(method: &str, path: &str, secret: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header("authorization", format!("Bearer {secret}"))
}

/// The first push of a process, without a reading.
pub(super) fn empty_push(instance: u128) -> Push {
    Push {
        instance,
        incarnation: 1,
        boot_id: 1,
        number: 1,
        floor: 1,
        sent_ms: 0,
        dictionary: Vec::new(),
        readings: Vec::new(),
    }
}

pub(super) fn write_request(secret: &str, body: &[u8]) -> Request<Body> {
    request("POST", "/api/v1/write", secret)
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .body(Body::from(body.to_vec()))
        .unwrap()
}

/// A write request as protobuf, field by field, so that it can also be wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteBody(pub(super) Vec<u8>);

impl WriteBody {
    /// Adds a series.
    pub(super) fn series(self, labels: &[(&str, &str)], samples: &[(Timestamp, f64)]) -> Self {
        let raw: Vec<_> = labels.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        self.raw_series(&raw, samples)
    }

    pub(super) fn raw_series(
        mut self,
        labels: &[(&[u8], &[u8])],
        samples: &[(Timestamp, f64)],
    ) -> Self {
        let mut series = Vec::new();
        for (name, value) in labels {
            let pair = [field(1, name), field(2, value)].concat();
            series.extend(field(1, &pair));
        }
        for (at, value) in samples {
            let mut sample = vec![0x09];
            sample.extend(value.to_le_bytes());
            sample.push(0x10);
            sample.extend(varint(at.as_millis().cast_unsigned()));
            series.extend(field(2, &sample));
        }
        self.0.extend(field(1, &series));
        self
    }

    /// Adds what is known about a family.
    pub(super) fn family(mut self, kind: u8, name: &str) -> Self {
        self.0.extend(field(3, &[&[0x08, kind][..], &field(2, name.as_bytes())].concat()));
        self
    }
}

pub(super) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let len = varint(u64::try_from(content.len()).unwrap());
    [&[number << 3 | 2][..], &len, content].concat()
}

pub(super) fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

/// Every series in the store, with the labels of its instance, and its kind.
pub(super) fn kinds(server: &Server) -> std::collections::BTreeMap<String, rrd::Kind> {
    let all = server.parts().store.select(&[]);
    all.into_iter().map(|series| (series.labels.to_string(), series.kind)).collect()
}

/// `NOW` moved by whole seconds.
pub(super) fn at(secs: i64) -> Timestamp {
    NOW.plus_millis(secs * 1000)
}

pub(super) fn wall(server: &Server) -> Timestamp {
    server.clock.wall()
}
