//! Remote write, from the request's body to a synced journal and a store that has applied it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use axum::Router;
use axum::body::Body;
use collector::{Accounting, Credentials, Digest, FRAME_REGISTRY, Intake, Parts, Registry};
use fixtures::remote_write::{Series, body};
use http::{Request, Response, StatusCode};
use journal::{Config, Frame, Journal};
use rrd::{Clock, Disk, GrantFrame, OsDisk, Policy, SampleFrame, Step, Store, Timestamp};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::data::{STEP_SECS, value};
use crate::meter::{Wall, processor_time, rate};
use crate::table::{Table, Theirs};

const INSTANCE_COUNT: usize = 100;
const SERIES_EACH: usize = 1000;
const SERIES_COUNT: usize = INSTANCE_COUNT * SERIES_EACH;
/// Samples a request, as agents of Prometheus' kind send them when they are told to send many.
const BODY_SAMPLES: usize = 10_000;
/// Requests under way at once.
const SENDER_COUNT: usize = 4;
/// Steps measured, after one that makes the series known.
const STEP_COUNT: i64 = 20;
/// Short, because 100,000 series of the default policy take 12 GB of disk. Only rounds depend on it.
const POLICY: &str = "1m:2h,5m:1d";
const ADMIN: &str = "bench";
/// An answer is a sentence.
const MOST_ANSWER: usize = 64 << 10;

pub(crate) fn run(scratch: &Path, table: &mut Table) -> Result<()> {
    let server = Server::start(scratch)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(measure(&server));
    let stopped = server.stop();
    let measured = outcome?;
    stopped?;
    let count = SERIES_COUNT as u64 * STEP_COUNT.unsigned_abs();
    #[expect(clippy::cast_precision_loss, reason = "a figure to three digits")]
    let cpu_us = measured.processor.as_secs_f64() * 1e6 / count as f64;
    let note = "100,000 series, 10,000 samples a request, all of intake, journal and worker in \
                process; each answered after its fdatasync";
    table.add("remote write, CPU a sample", format!("{cpu_us:.3} us"), Theirs::None, note);
    let speed = format!("{:.2} M/s", rate(count, measured.wall) / 1e6);
    table.add("remote write, samples a second", speed, Theirs::None, "the same run, wall time");
    let first = format!("{:.0} k/s", rate(SERIES_COUNT as u64, measured.first) / 1e3);
    let note = "100,000 new series: allocated, granted, acknowledged";
    table.add("first sight, series a second", first, Theirs::None, note);
    Ok(())
}

struct Measured {
    first: Duration,
    wall: Duration,
    processor: Duration,
}

/// The requests of one step are made before the clocks run.
async fn measure(server: &Server) -> Result<Measured> {
    // In the recent past, as the intake refuses what is far from the clock; the last step is now.
    let end = server.clock.wall().floor(Step::from_secs(60).expect("a minute is not zero"));
    let at = |step: i64| end.plus_millis((step - STEP_COUNT) * STEP_SECS * 1000);
    let wall = Wall::start();
    let bodies = bodies(0, at(0));
    let made = wall.elapsed();
    server.send(bodies).await?;
    let first = wall.elapsed().saturating_sub(made);
    let (mut wall, mut processor) = (Duration::ZERO, Duration::ZERO);
    for step in 1..=STEP_COUNT {
        let bodies = self::bodies(step, at(step));
        let (clock, before) = (Wall::start(), processor_time());
        server.send(bodies).await?;
        wall += clock.elapsed();
        processor += processor_time().saturating_sub(before);
    }
    Ok(Measured { first, wall, processor })
}

/// One reading of every series, as request bodies.
fn bodies(step: i64, at: Timestamp) -> Vec<Vec<u8>> {
    let numbers: Vec<usize> = (0..SERIES_COUNT).collect();
    let request = |numbers: &[usize]| {
        let series: Vec<Series> = numbers.iter().map(|number| series(*number, step, at)).collect();
        body(&series)
    };
    numbers.chunks(BODY_SAMPLES).map(request).collect()
}

/// Labels like those of a machine's exporter.
fn series(number: usize, step: i64, at: Timestamp) -> Series {
    let instance = format!("web-{:04}.example.net:9100", number / SERIES_EACH);
    let device = format!("device-{}", number % SERIES_EACH / 20);
    let name = format!("node_bench_metric_{:02}", number % 20);
    let labels = [
        ("__name__", name.as_str()),
        ("device", device.as_str()),
        ("instance", instance.as_str()),
        ("job", "node"),
        ("mode", "system"),
    ];
    Series::new(&labels).reading(at.as_millis(), value(number, step))
}

/// The server's parts without its socket.
struct Server {
    router: Router,
    journal: Journal,
    clock: Arc<dyn Clock>,
    stop: Arc<AtomicBool>,
    worker: std::thread::JoinHandle<Result<()>>,
}

impl Server {
    fn start(scratch: &Path) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(Wall::start());
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let folder = scratch.join("intake");
        disk.create_dir(&folder)?;
        let (journal, _) =
            Journal::open(disk.clone(), &folder.join("journal"), Config::default(), clock.clone())?;
        let (store, _) = Store::open(disk, &folder.join("archives"), 0)?;
        let (store, registry) = (Arc::new(store), Arc::new(Registry::default()));
        let policy = Policy::parse(POLICY)?;
        let intake = Intake::new(Parts {
            store: store.clone(),
            journal: journal.clone(),
            registry: registry.clone(),
            accounting: Arc::new(Accounting::default()),
            clock: clock.clone(),
            credentials: Credentials::new(Some(Digest::of(ADMIN))),
            agent_policy: policy.clone(),
            foreign_policy: policy,
            agent_step: Step::from_secs(10).expect("ten seconds are not zero"),
        })
        .map_err(|error| anyhow!("no randomness: {error}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let router = collector::router(intake.clone());
        let worker = {
            let worker = Worker { store, registry, intake, journal: journal.clone() };
            let stop = stop.clone();
            std::thread::spawn(move || worker.run(&stop))
        };
        Ok(Self { router, journal, clock, stop, worker })
    }

    /// Sends all bodies, some at once, and waits until the last sample is applied.
    async fn send(&self, bodies: Vec<Vec<u8>>) -> Result<()> {
        let mut waiting = JoinSet::new();
        for body in bodies {
            if waiting.len() == SENDER_COUNT {
                let answer = waiting.join_next().await.context("none is under way")?;
                check(answer??).await?;
            }
            waiting.spawn(self.router.clone().oneshot(request(body)?));
        }
        while let Some(answer) = waiting.join_next().await {
            check(answer??).await?;
        }
        let appended = self.journal.stats().appended;
        self.journal.applied(appended).await?;
        Ok(())
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        let outcome = self.worker.join().map_err(|_| anyhow!("the worker panicked"))?;
        self.journal.close();
        outcome
    }
}

async fn check(answer: Response<Body>) -> Result<()> {
    let status = answer.status();
    let text = axum::body::to_bytes(answer.into_body(), MOST_ANSWER).await?;
    let text = String::from_utf8_lossy(&text);
    anyhow::ensure!(status == StatusCode::NO_CONTENT, "answered {status}: {text}");
    Ok(())
}

fn request(body: Vec<u8>) -> Result<Request<Body>> {
    let request = Request::builder()
        .method("POST")
        .uri("/api/v1/write")
        .header("authorization", format!("Bearer {ADMIN}"))
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("content-length", body.len())
        .body(Body::from(body))?;
    Ok(request)
}

/// The worker as in the program, without alerts and rounds.
struct Worker {
    store: Arc<Store>,
    registry: Arc<Registry>,
    intake: Intake,
    journal: Journal,
}

impl Worker {
    fn run(&self, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Acquire) {
            for frame in self.journal.next(Duration::from_millis(50)) {
                self.apply(&frame)?;
                self.journal.mark_applied(frame.seq);
            }
        }
        Ok(())
    }

    fn apply(&self, frame: &Frame) -> Result<()> {
        match frame.kind {
            rrd::FRAME_SAMPLES => {
                let samples = SampleFrame::decode(&frame.body)?;
                let verdicts = self.store.apply(frame.seq, frame.stamp, &samples);
                self.intake.applied(frame.seq, samples.instance, &verdicts);
            }
            rrd::FRAME_GRANT => {
                self.store.apply_grant(frame.seq, &GrantFrame::decode(&frame.body)?)?;
            }
            FRAME_REGISTRY => {
                let applied = self.registry.apply(frame.seq, &frame.body);
                applied.map_err(|error| anyhow!("{error}"))?;
            }
            _ => {}
        }
        Ok(())
    }
}
