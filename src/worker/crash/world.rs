//! A world around the joined parts: a disk that fails, senders that send again, and a mirror.
//!
//! The mirror is fed every frame that became durable and never crashes. After each restart store,
//! registry and alerts must be what the mirror has.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use alerter::{Delivery, FRAME_DELIVERY, FRAME_RULES, Outcome};
use axum::body::Body;
use clap::Parser as _;
use collector::native::{
    ENROLL_PATH, EnrollAnswer, Entry, PUSH_CONTENT_TYPE, PUSH_PATH, Push, PushAnswer, Reading,
};
use collector::{Credentials, Digest, Parts};
use http::{Request, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use rrd::{Disk, GrantFrame, GrantRequest, ManualClock, MemDisk, NewSeries, Policy};
use serde_json::json;
use tokio::runtime::Runtime;

use super::super::*;
use crate::args::Arguments;
use crate::config::Config;
use crate::recovery::{Folders, Recovered, recover};

const ADMIN: &str = "admin secret";
/// Small rings, so that they wrap.
const POLICY: &str = "10s:3m,1m:20m;hb=30s";
pub(super) const DATA: &str = "/data";
/// Laps of the journal pass in the course of the script.
const JOURNAL_BYTES: u64 = 8 * (64 << 10);
const RULES: &str = r#"
[[rule]]
name = "load"
expr = "load"
warning = "> 5"
critical = "> 9"
"#;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Enroll(&'static str),
    /// Readings of `load` and of so many other series, of this machine, in the next ten seconds.
    Push(&'static str, u32, f64),
    Withdraw(&'static str),
    /// Its archive goes; what it sends next begins another one.
    Remove(&'static str),
    Rules,
    /// Seconds in which nobody sends.
    Silence(u64),
    /// The first alert that waits is delivered.
    Deliver,
    Round,
    /// From now on the archive of this instance does not sync, until the next start or `Heal`.
    Fail(&'static str),
    Heal,
}

/// A disk that can lose its power.
pub(super) trait Machine: Clone {
    /// The disk, as programs see it.
    fn disk(&self) -> Arc<dyn Disk>;
    /// Lets the power go at about so many changes from now.
    fn stop_after(&self, op_count: u64);
    /// The power is gone: nothing works any more.
    fn is_off(&self) -> bool;
    /// The power is going or gone: nothing need work any more.
    fn may_fail(&self) -> bool {
        self.is_off()
    }
    /// Makes each sync of a file fail, where the disk is one that does as it is told.
    fn fail_sync(&self, path: PathBuf) {
        panic!("{}: this disk fails when it likes", path.display());
    }
    /// Takes back every failure.
    fn heal(&self) {}
}

impl Machine for MemDisk {
    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn stop_after(&self, op_count: u64) {
        Self::stop_after(self, op_count);
    }

    fn is_off(&self) -> bool {
        self.list(Path::new(DATA)).is_err()
    }

    fn fail_sync(&self, path: PathBuf) {
        Self::fail_sync(self, path);
    }

    fn heal(&self) {
        Self::heal(self);
    }
}

/// What outlives the server: its disk, its senders, and the frames that were durable.
pub(super) struct World<'r, M: Machine = MemDisk> {
    runtime: &'r Runtime,
    pub(super) disk: M,
    pub(super) clock: Arc<ManualClock>,
    agents: BTreeMap<&'static str, Agent>,
    log: Vec<Frame>,
    mirror: State,
    pub(super) server: Option<Server>,
    /// After how many changes from the next start on the power goes again, the last one first.
    pub(super) faults: Vec<u64>,
}

#[derive(Clone)]
struct Agent {
    enrolled: EnrollAnswer,
    number: u64,
    now: i64,
}

pub(super) struct Server {
    pub(super) worker: Worker,
    router: axum::Router,
}

impl<'r> World<'r> {
    pub(super) fn new(runtime: &'r Runtime) -> Self {
        Self::on(MemDisk::new(), runtime)
    }
}

impl<'r, M: Machine> World<'r, M> {
    pub(super) fn on(disk: M, runtime: &'r Runtime) -> Self {
        let mirror = State {
            store: Arc::new(store(&MemDisk::new())),
            registry: Arc::default(),
            engine: Arc::new(Mutex::new(Engine::new(channels()))),
            accounting: Arc::default(),
        };
        Self {
            runtime,
            disk,
            clock: Arc::new(ManualClock::at(Timestamp::from_secs(1_790_000_000))),
            agents: BTreeMap::new(),
            log: Vec::new(),
            mirror,
            server: None,
            faults: Vec::new(),
        }
    }

    /// Starts a server; false when the disk failed.
    pub(super) fn start(&mut self) -> bool {
        if let Some(op_count) = self.faults.pop() {
            self.disk.stop_after(op_count);
        }
        let clock: Arc<dyn Clock> = self.clock.clone();
        let disk = self.disk.disk();
        let folders = Folders { data: DATA.into() };
        let recovered = match recover(&config(), &folders, &disk, &clock, channels()) {
            Ok(recovered) => recovered,
            Err(_) if self.disk.may_fail() => return false,
            Err(error) => panic!("{error:#}"),
        };
        self.server = Some(Server::of(recovered, &clock));
        true
    }

    /// What the disk holds when the power is back: the durable frames that nobody has seen join the
    /// log, and those that were seen must be there.
    fn find(&mut self) {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let shape = journal::Config { segment_bytes: 64 << 10, ..journal::Config::default() };
        let dir = Path::new(DATA).join("journal");
        let copy = Arc::new(copied(self.disk.disk().as_ref(), &dir));
        let (_, recovery) = Journal::open(copy, &dir, shape, clock).unwrap();
        assert_eq!(recovery.damage, []);
        let first = recovery.checkpoint.seq;
        let seen = self.log.iter().filter(|frame| frame.seq > first).cloned();
        let seen: Vec<Frame> = seen.collect();
        let found: Vec<Frame> = recovery.frames.map(Result::unwrap).collect();
        assert!(found.len() >= seen.len(), "{} of {} frames are left", found.len(), seen.len());
        for (found, seen) in found.iter().zip(&seen) {
            assert_eq!((found.seq, found.kind, &found.body), (seen.seq, seen.kind, &seen.body));
        }
        for frame in &found[seen.len()..] {
            self.reflect(frame);
        }
    }

    /// The power goes, or the program is killed; a new server is as if nothing had happened.
    pub(super) fn restart(&mut self, after: &dyn Fn(&M) -> M) {
        loop {
            self.server = None;
            self.disk = after(&self.disk);
            self.find();
            if self.start() && self.compare() {
                return;
            }
        }
    }

    /// Compares everything with the mirror; false when the power went meanwhile, so that what was
    /// read means nothing.
    pub(super) fn compare(&self) -> bool {
        let difference = catch_unwind(AssertUnwindSafe(|| self.check()));
        if self.disk.may_fail() {
            return false;
        }
        difference.unwrap_or_else(|panic| resume_unwind(panic));
        true
    }

    fn check(&self) {
        let server = self.server.as_ref().unwrap();
        let (here, there) = (&server.worker.state, &self.mirror);
        // Every row is read, so that what is damaged is found.
        let (found, expected) = (dump(here), dump(there));
        assert_eq!(here.store.damage(), []);
        for (here, there) in found.lines().zip(expected.lines()) {
            assert_eq!(here, there, "the store");
        }
        assert_eq!(found, expected, "the store");
        let tokens =
            |state: &State| format!("{:?}", (state.registry.instances(), state.registry.tokens()));
        assert_eq!(tokens(here), tokens(there), "the registry");
        let view = |state: &State| format!("{:?}", lock(&state.engine).view());
        assert_eq!(view(here), view(there), "the alerts");
        let same = lock(&here.engine).snapshot() == lock(&there.engine).snapshot();
        assert!(same, "what is to become of the alerts");
    }

    fn reflect(&mut self, frame: &Frame) {
        assert!(self.log.last().is_none_or(|last| last.seq < frame.seq), "frames come once");
        self.log.push(frame.clone());
        if frame.kind == rrd::FRAME_GRANT {
            self.make_room(&GrantFrame::decode(&frame.body).unwrap());
        }
        assert!(self.mirror.advance(frame.stamp).is_empty());
        assert!(self.mirror.apply(frame).transitions.is_empty());
    }

    /// The mirror's own file gets the blocks that the server's has.
    fn make_room(&self, grant: &GrantFrame) {
        let series: Vec<NewSeries> = grant
            .series
            .iter()
            .map(|series| NewSeries {
                labels: series.labels.clone(),
                kind: series.kind,
                first_reading: None,
            })
            .collect();
        let request = GrantRequest {
            instance: grant.instance,
            policy: &grant.policy,
            labels: &grant.labels,
            series: &series,
        };
        let mut append = |_: &GrantFrame| Ok::<u64, std::convert::Infallible>(0);
        let mut granted = self.mirror.store.grant(request, &mut append);
        if matches!(granted, Err(rrd::GrantError::Leaving(_))) {
            // A round of the server has let the instance go; the mirror's lets it go now.
            let seq = self.log.last().map_or(0, |frame| frame.seq);
            assert_eq!(self.mirror.store.begin_round(seq, 1).write().failed, []);
            self.mirror.store.finish_round(seq);
            granted = self.mirror.store.grant(request, &mut append);
        }
        let columns = granted.unwrap();
        for (column, series) in columns.into_iter().zip(&grant.series) {
            assert_eq!(column.unwrap(), series.column);
        }
    }

    /// The worker takes what is committed by now.
    fn turn(&mut self) {
        let server = self.server.as_mut().unwrap();
        let frames = server.worker.journal.next(Duration::from_millis(1));
        server.worker.take(&frames);
        for frame in &frames {
            self.reflect(frame);
        }
    }

    /// Goes on until everything appended is applied; false when the disk failed.
    fn settle(&mut self) -> bool {
        loop {
            self.turn();
            let stats = self.server.as_ref().unwrap().worker.journal.stats();
            if self.disk.is_off() {
                // What was committed before is seen.
                self.turn();
                return false;
            }
            if stats.applied == stats.appended {
                return true;
            }
        }
    }

    fn send(&mut self, request: Request<Body>) -> (StatusCode, Vec<u8>) {
        let service = TowerToHyperService::new(self.server.as_ref().unwrap().router.clone());
        let answer = self.runtime.spawn(async move {
            let response = service.call(request).await.unwrap();
            let status = response.status();
            (status, axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec())
        });
        while !answer.is_finished() {
            self.turn();
        }
        self.runtime.block_on(answer).unwrap()
    }

    fn append(&mut self, kind: u8, body: &[u8]) -> bool {
        let journal = self.server.as_ref().unwrap().worker.journal.clone();
        journal.append_reserved(kind, body).is_ok()
    }

    /// False when the disk failed: the power is off.
    pub(super) fn perform(&mut self, act: Act) -> bool {
        match act {
            Act::Enroll(name) => self.enroll(name),
            Act::Push(name, series, value) => self.push(name, series, value),
            Act::Withdraw(name) => {
                let agent = self.agents[name].clone();
                let id = rrd::InstanceId(agent.enrolled.id);
                let path = format!("/v1/instances/{id}/withdraw");
                let request = post(&path, ADMIN).body(Body::from("{}")).unwrap();
                let (status, answer) = self.send(request);
                self.is_well(status == StatusCode::NO_CONTENT, &answer);
            }
            Act::Remove(name) => {
                let id = self.id(name);
                let Worker { state, journal, .. } = &self.server.as_ref().unwrap().worker;
                let mut append = |frame: &rrd::ChangeFrame| {
                    journal.append_reserved(rrd::FRAME_CHANGE, &frame.encode())
                };
                let done = state.store.change(id, rrd::Change::Remove, &mut append);
                assert!(done.is_ok() || self.disk.may_fail(), "{done:?}");
            }
            Act::Rules => {
                let files = [("load.toml".to_owned(), RULES.to_owned())];
                let body = Engine::rules_frame(&files).unwrap();
                let server = self.server.as_ref().unwrap();
                if !lock(&server.worker.state.engine).has_rules(&files) {
                    self.append(FRAME_RULES, &body);
                }
            }
            Act::Silence(secs) => {
                for _ in 0..secs / 20 {
                    self.clock.advance(Duration::from_secs(20));
                    self.append(journal::TICK, &[]);
                    if !self.settle() {
                        return false;
                    }
                }
            }
            Act::Deliver => {
                let now = self.clock.wall();
                let server = self.server.as_ref().unwrap();
                let due = lock(&server.worker.state.engine).due(now, &BTreeSet::new(), 1);
                for row in due.0 {
                    let delivery = Delivery {
                        row: row.number,
                        transition: row.transition.id,
                        at: now,
                        outcome: Outcome::Delivered,
                    };
                    self.append(FRAME_DELIVERY, &delivery.encode());
                }
            }
            Act::Round => self.round(),
            Act::Fail(name) => self.disk.fail_sync(self.archive(name)),
            Act::Heal => self.disk.heal(),
        }
        self.settle()
    }

    fn round(&mut self) {
        let Worker { state, rounds, applied, .. } = &mut self.server.as_mut().unwrap().worker;
        rounds.last(*applied, || state.moment());
    }

    #[track_caller]
    fn is_well(&self, well: bool, answer: &[u8]) {
        assert!(well || self.disk.may_fail(), "{}", String::from_utf8_lossy(answer));
    }

    fn enroll(&mut self, name: &'static str) {
        let boot = self.agents.len() + 1;
        let body = json!({"name": name, "boot_id": format!("{boot:032x}")}).to_string();
        let (status, answer) = self.send(post(ENROLL_PATH, ADMIN).body(Body::from(body)).unwrap());
        self.is_well(status == StatusCode::CREATED, &answer);
        if status == StatusCode::CREATED {
            let enrolled = serde_json::from_slice(&answer).unwrap();
            let now = self.clock.wall().as_millis();
            self.agents.insert(name, Agent { enrolled, number: 0, now });
        }
    }

    fn push(&mut self, name: &'static str, series: u32, value: f64) {
        let apart = self.is_apart(name);
        let (mut status, mut answer) = self.send_batch(name, series, value);
        if status == StatusCode::SERVICE_UNAVAILABLE && !apart && !self.disk.may_fail() {
            // The journal is small: a sender waits for the round that makes room.
            self.round();
            (status, answer) = self.send_batch(name, series, value);
        }
        let wanted = if apart { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        self.is_well(status == wanted, &answer);
    }

    /// The id of the instance of this name.
    pub(super) fn id(&self, name: &str) -> rrd::InstanceId {
        rrd::InstanceId(self.agents[name].enrolled.id)
    }

    /// The file of the instance of this name.
    pub(super) fn archive(&self, name: &str) -> std::path::PathBuf {
        Path::new(DATA).join("archives").join(format!("{}.rrd", self.id(name)))
    }

    /// The store has set the instance apart.
    pub(super) fn is_apart(&self, name: &str) -> bool {
        let store = &self.server.as_ref().unwrap().worker.state.store;
        store.is_unavailable(self.id(name))
    }

    /// One batch; one that was not acknowledged is sent again the next time.
    pub(super) fn send_batch(
        &mut self,
        name: &'static str,
        series: u32,
        value: f64,
    ) -> (StatusCode, Vec<u8>) {
        let mut agent = self.agents[name].clone();
        agent.number += 1;
        agent.now = (agent.now + 10_000).max(self.clock.wall().as_millis() - 60_000);
        let entry = |id: u32| Entry {
            id,
            kind: 0,
            labels: vec![(
                "__name__".to_owned(),
                if id == 0 { "load".to_owned() } else { format!("m{id}") },
            )],
        };
        let reading = |at_ms, value: f64| Reading {
            at_ms,
            values: (0..series).map(|id| (id, value + f64::from(id))).collect(),
        };
        let mut readings = vec![reading(agent.now, value)];
        if agent.number.is_multiple_of(3) {
            // One that was kept back, and falls in a step without a reading, or in one that has one.
            readings.push(reading(
                agent.now - 1000 * (13 + 7 * (agent.number.cast_signed() % 9)),
                value,
            ));
        }
        let push = Push {
            instance: agent.enrolled.id,
            incarnation: 7,
            boot_id: 1,
            number: agent.number,
            floor: agent.number,
            sent_ms: agent.now,
            dictionary: (0..series).map(entry).collect(),
            readings,
        };
        let request = post(PUSH_PATH, &agent.enrolled.credential)
            .header("content-type", PUSH_CONTENT_TYPE)
            .body(Body::from(push.encode()))
            .unwrap();
        self.clock.advance(Duration::from_secs(10));
        let (status, answer) = self.send(request);
        if status == StatusCode::OK {
            let answer: PushAnswer = serde_json::from_slice(&answer).unwrap();
            assert!(self.settle() || answer.durable.seq <= self.log.last().unwrap().seq);
            self.agents.insert(name, agent);
        }
        (status, answer)
    }
}

impl Server {
    fn of(recovered: Recovered, clock: &Arc<dyn Clock>) -> Self {
        let Recovered { state, journal, rounds, applied, .. } = recovered;
        let policy: Policy = POLICY.parse().unwrap();
        let intake = Intake::new(Parts {
            store: Arc::clone(&state.store),
            journal: journal.clone(),
            registry: Arc::clone(&state.registry),
            accounting: Arc::clone(&state.accounting),
            clock: Arc::clone(clock),
            credentials: Credentials::new(Some(Digest::of(ADMIN))),
            agent_policy: policy.clone(),
            foreign_policy: policy,
            agent_step: Step::from_secs(10).unwrap(),
        });
        let intake = intake.unwrap();
        let router = collector::router(intake.clone());
        let worker = Worker {
            state,
            journal,
            rounds,
            clock: Arc::clone(clock),
            intake,
            pulse: Arc::default(),
            stop: Arc::default(),
            applied,
        };
        Self { worker, router }
    }
}

fn post(path: &str, secret: &str) -> http::request::Builder {
    Request::builder().method("POST").uri(path).header("authorization", format!("Bearer {secret}"))
}

pub(super) fn config() -> Config {
    let arguments = Arguments::parse_from(["roundel", "--data", DATA]);
    Config { journal_bytes: JOURNAL_BYTES, ..Config::check(&arguments.serve).unwrap() }
}

pub(super) fn channels() -> Vec<String> {
    vec!["ops".to_owned()]
}

/// A copy of a folder, to be looked at without a change of the original.
fn copied(disk: &dyn Disk, dir: &Path) -> MemDisk {
    let copy = MemDisk::new();
    for path in disk.list(dir).unwrap_or_default() {
        let file = disk.open(&path).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        copy.create(&path).unwrap().write_at(&bytes, 0).unwrap();
    }
    copy
}

fn store(disk: &MemDisk) -> Store {
    Store::open(Arc::new(disk.clone()), Path::new("/mirror"), 0).unwrap().0
}

fn dump(state: &State) -> String {
    let mut text = String::new();
    state.store.canonical_dump(&mut text).unwrap();
    text
}
