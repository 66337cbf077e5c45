//! Queries over HTTP, beside `VictoriaMetrics` and Prometheus: `cargo xtask bench query`.

mod client;
mod dashboards;
mod data;
pub(crate) mod engine;

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use rrd::{Clock as _, Step, Timestamp};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;

use crate::goals::{Figure, Goal, Goals, Peer, Unit};
use crate::meter::{Wall, median};
use crate::procfs;
use dashboards::Intake;
use data::{INSTANCES, METRICS, MINUTES, REGIONS, host};
use engine::{Engine, Range};

/// Three servers' data of a day, and two journals.
const NEEDED_BYTES: u64 = 6 << 30;
/// Bodies made ahead of each server.
const AHEAD: usize = 8;
/// Connections that load a server.
const SENDERS: usize = 2;
/// Queries of one kind: so many, or as many as this time allows, but some.
const REQUESTS: usize = 301;
const LONGEST: Duration = Duration::from_secs(5);
const LEAST_REQUESTS: usize = 11;
/// Queries before the first that counts.
const WARMING: usize = 5;
const DAY_SECS: i64 = 86_400;
/// A series that no query needs of all instances.
const UNASKED: &str = "bench_requests_8_total";

/// One kind of query.
struct Case {
    what: &'static str,
    note: &'static str,
    goal: Goal,
    /// The series it answers.
    lines: usize,
    step_secs: i64,
    range_secs: i64,
    text: fn(usize) -> String,
}

static CASES: [Case; 6] = [
    Case {
        what: "one series, 24 h at 60 s",
        note: "p50 over HTTP on one connection, 1,440 points, another instance each time",
        goal: Goal::AtMost(0.4e-3),
        lines: 1,
        step_secs: 60,
        range_secs: DAY_SECS,
        text: |n| format!("bench_gauge_0{{instance=\"{}\"}}", host(n * 7 % INSTANCES)),
    },
    Case {
        what: "avg by (region) of 2,000, 24 h at 300 s",
        note: "p50; Victoria without its cache of answers",
        goal: Goal::AtMost(8e-3),
        lines: REGIONS,
        step_secs: 300,
        range_secs: DAY_SECS,
        text: |_| "avg by (region) (bench_gauge_0)".to_owned(),
    },
    Case {
        what: "topk(10, ...) of 2,000, 24 h at 300 s",
        note: "p50",
        goal: Goal::AtMost(25e-3),
        lines: 0,
        step_secs: 300,
        range_secs: DAY_SECS,
        text: |_| "topk(10, bench_gauge_1)".to_owned(),
    },
    Case {
        what: "one series, a year at 6 h",
        note: "p50, 1,460 points; of two-minute readings. Prometheus would make 4,380 blocks of them",
        goal: Goal::AtMost(1e-3),
        lines: 1,
        step_secs: 6 * 3600,
        range_secs: 365 * DAY_SECS,
        text: |_| "bench_year".to_owned(),
    },
    Case {
        what: "avg by (region) (rate(...[5m])), 300 s",
        note: "p50, 2,000 counters, 24 h",
        goal: Goal::None,
        lines: REGIONS,
        step_secs: 300,
        range_secs: DAY_SECS,
        text: |_| "avg by (region) (rate(bench_requests_9_total[5m]))".to_owned(),
    },
    Case {
        what: "max(max_over_time(...[15m])), 300 s",
        note: "p50, 2,000 gauges, 24 h",
        goal: Goal::None,
        lines: 1,
        step_secs: 300,
        range_secs: DAY_SECS,
        text: |_| "max(max_over_time(bench_gauge_2[15m]))".to_owned(),
    },
];

/// What one server came to.
struct Measured {
    name: &'static str,
    /// Of each case; `None` where it has no data for it.
    cases: Vec<Option<Asked>>,
    intake: Intake,
}

/// One case, asked many times.
struct Asked {
    p50: Duration,
    /// What one answer cost the server.
    processor: Duration,
}

/// Measures everything and prints one table.
pub(crate) fn run(parent: &Path) -> Result<()> {
    procfs::check_space(parent, NEEDED_BYTES)?;
    let scratch = tempfile::tempdir_in(parent).context("a folder for the data")?;
    let folder = |name: &str| -> Result<std::path::PathBuf> {
        let folder = scratch.path().join(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    };
    let engines = [
        Some(Engine::roundel(&folder("roundel")?)?),
        Engine::victoria(&folder("victoria")?)?,
        Engine::prometheus(&folder("prometheus")?)?,
    ];
    let engines: Vec<_> = engines.into_iter().flatten().map(Arc::new).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(&engines))?;
    let out = &mut io::stdout().lock();
    writeln!(
        out,
        "\n{INSTANCES} instances x {METRICS} series x {MINUTES} minutes, in all servers\n"
    )?;
    list(&measured).print(out)?;
    Ok(())
}

async fn measure(engines: &[Arc<Engine>]) -> Result<Vec<Measured>> {
    let wall = Wall::start();
    let end = wall.wall().floor(Step::from_secs(60).expect("a minute is not zero"));
    progress("loading")?;
    load(engines, end).await?;
    progress(&format!("loaded after {:.0} s; settling", wall.elapsed().as_secs_f64()))?;
    for engine in engines {
        // Loaded faster than time goes by, hours of rows would wait in memory; a server that lives has 16
        // minutes of them at most.
        engine.bring_about_a_round(UNASKED).await?;
    }
    settle(engines).await?;
    let mut all = Vec::new();
    for engine in engines {
        let mut cases = Vec::new();
        for case in &CASES {
            if has_data(engine, case) {
                progress(&format!("{}: {}", engine.name, case.what))?;
                cases.push(Some(ask_apart(engine, case, end).await?));
            } else {
                cases.push(None);
            }
        }
        progress(&format!("{}: dashboards", engine.name))?;
        let intake = dashboards::measure(engine, end.as_millis() / 1000).await?;
        all.push(Measured { name: engine.name, cases, intake });
    }
    Ok(all)
}

fn has_data(engine: &Engine, case: &Case) -> bool {
    case.range_secs <= DAY_SECS || engine.name != "Prometheus"
}

/// Each body is made once and sent to all.
async fn load(engines: &[Arc<Engine>], end: Timestamp) -> Result<()> {
    let mut senders = JoinSet::new();
    let mut queues = Vec::new();
    for engine in engines {
        if engine.name != "Prometheus" {
            let mut client = engine.connect().await?;
            for body in data::year(end) {
                client.write(&body).await.context(engine.name)?;
            }
        }
        let (queue, bodies) = channel(AHEAD);
        let bodies = Arc::new(tokio::sync::Mutex::new(bodies));
        queues.push(queue);
        for _ in 0..SENDERS {
            senders.spawn(send(Arc::clone(engine), Arc::clone(&bodies)));
        }
    }
    let maker = tokio::task::spawn_blocking(move || {
        for body in data::fleet(end) {
            for queue in &queues {
                if queue.blocking_send(body.clone()).is_err() {
                    return; // The sender says why.
                }
            }
        }
    });
    while let Some(sender) = senders.join_next().await {
        sender??;
    }
    Ok(maker.await?)
}

async fn send(engine: Arc<Engine>, bodies: Arc<tokio::sync::Mutex<Receiver<Bytes>>>) -> Result<()> {
    let mut client = engine.connect().await?;
    loop {
        let body = bodies.lock().await.recv().await;
        let Some(body) = body else { return Ok(()) };
        client.write(&body).await.context(engine.name)?;
    }
}

/// Waits until no server has much to do any more: rounds, merges and blocks are written.
async fn settle(engines: &[Arc<Engine>]) -> Result<()> {
    const LOOK: Duration = Duration::from_secs(2);
    const LOOKS: usize = 90;
    // The round that is asked for comes within a minute.
    const LEAST_LOOKS: usize = 32;
    let used = || -> Result<Vec<Duration>> {
        engines.iter().map(|engine| engine.process().processor_time()).collect()
    };
    let mut quiet = 0;
    for look in 0..LOOKS {
        let before = used()?;
        tokio::time::sleep(LOOK).await;
        let after = used()?;
        let idle =
            |(after, before): (&Duration, &Duration)| after.saturating_sub(*before) < LOOK / 20;
        quiet = if after.iter().zip(&before).all(idle) { quiet + 1 } else { 0 };
        if quiet >= 3 && look >= LEAST_LOOKS {
            break;
        }
    }
    Ok(())
}

/// As [`ask`], in a thread that does nothing else: one that has the asker in one thread and the connection
/// in another would wake them in turn, and that would count as the server's.
async fn ask_apart(engine: &Arc<Engine>, case: &'static Case, end: Timestamp) -> Result<Asked> {
    let engine = Arc::clone(engine);
    let asked = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(ask(&engine, case, end))
    });
    asked.await?
}

/// The median of many queries, one after the other.
async fn ask(engine: &Engine, case: &Case, end: Timestamp) -> Result<Asked> {
    let mut client = engine.connect().await?;
    let end = end.as_millis() / 1000;
    let start = end - case.range_secs + case.step_secs;
    let range = Range { start, end, step_secs: case.step_secs };
    let (mut times, wall) = (Vec::new(), Wall::start());
    let used = engine.process().whole_processor_time()?;
    for number in 0..WARMING + REQUESTS {
        let path = engine.range(&(case.text)(number), &range);
        let before = wall.elapsed();
        let answer = client.get(&path).await?;
        let time = wall.elapsed().saturating_sub(before);
        check(engine, case, &answer)?;
        if number >= WARMING {
            times.push(time);
        }
        if wall.elapsed() > LONGEST && times.len() >= LEAST_REQUESTS {
            break;
        }
    }
    let used = engine.process().whole_processor_time()?.saturating_sub(used);
    let processor = used / u32::try_from(times.len() + WARMING)?;
    Ok(Asked { p50: median(times), processor })
}

fn check(engine: &Engine, case: &Case, answer: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(answer);
    let lines = text.matches("\"values\"").count();
    let is_whole = if case.lines == 0 { lines > 10 } else { lines == case.lines };
    ensure!(is_whole, "{}: {} answers {lines} series", case.what, engine.name);
    // A stamp and a number a point.
    let points = usize::try_from(case.range_secs / case.step_secs)?;
    if text.len() < lines * 15 && case.lines > 0 || text.len() < points * 15 {
        bail!("{}: {} answers {} bytes", case.what, engine.name, text.len());
    }
    Ok(())
}

fn list(measured: &[Measured]) -> Goals {
    let mut goals = Goals::default();
    let Some((ours, peers)) = measured.split_first() else { return goals };
    for (index, case) in CASES.iter().enumerate() {
        let secs = |of: &Measured| Some(of.cases[index].as_ref()?.p50.as_secs_f64());
        let Some(own) = secs(ours) else { continue };
        let with_peers = peers.iter().filter_map(|peer| Some((peer.name, secs(peer)?)));
        let processor = |of: &Measured| {
            let millis = of.cases[index].as_ref()?.processor.as_secs_f64() * 1e3;
            Some(format!("{} {millis:.2} ms", of.name))
        };
        let processors: Vec<_> = measured.iter().filter_map(processor).collect();
        let note = format!("{}; CPU an answer: {}", case.note, processors.join(", "));
        add(&mut goals, (case.what, Unit::Secs, case.goal), own, with_peers, &note);
    }
    let secs = |of: &Measured| of.intake.idle.as_secs_f64();
    let with_peers = peers.iter().map(|peer| (peer.name, secs(peer)));
    let note = "a write of 1,000 samples every 20 ms, until it is answered";
    add(&mut goals, ("ingest p99, idle", Unit::Secs, Goal::None), secs(ours), with_peers, note);
    let secs = |of: &Measured| of.intake.beside.as_secs_f64();
    let with_peers = peers.iter().map(|peer| (peer.name, secs(peer)));
    let loads: Vec<_> =
        measured.iter().map(|of| format!("{} {}", of.name, of.intake.loads)).collect();
    let note = format!(
        "100 people load dashboards of 10 panels all the time; loads in 10 s: {}",
        loads.join(", ")
    );
    let goal = Goal::AtMost(2.0 * ours.intake.idle.as_secs_f64());
    add(
        &mut goals,
        ("ingest p99, 100 dashboards", Unit::Secs, goal),
        secs(ours),
        with_peers,
        &note,
    );
    goals
}

/// A row against each peer; the goal stands in the first.
fn add(
    goals: &mut Goals,
    (what, unit, goal): (&'static str, Unit, Goal),
    ours: f64,
    peers: impl Iterator<Item = (&'static str, f64)>,
    note: &str,
) {
    let mut peers = peers.map(|(name, theirs)| Peer::Measured(name, theirs));
    let peer = peers.next().unwrap_or(Peer::NotRun);
    goals.add(Figure { what, unit, ours, peer, goal }, note);
    for peer in peers {
        goals.add(Figure { what: "  the same", unit, ours, peer, goal: Goal::None }, note);
    }
}

fn progress(what: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "... {what}")?)
}
