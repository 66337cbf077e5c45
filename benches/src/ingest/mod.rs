//! Ingest of the real server beside `VictoriaMetrics` and Prometheus: `cargo xtask bench ingest`.
//!
//! Every server is a process of its own on an empty folder, one after the other. All are sent the same
//! prepared bodies over the same connections; what they use is read from `/proc`.

mod agents;
mod bodies;
mod sender;

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rrd::{Clock as _, Step, Timestamp};

use crate::goals::{Figure, Goal, Goals, Peer, Unit};
use crate::meter::{Wall, rate};
use crate::procfs::{self, Process, device_written};
use crate::query::engine::Engine;
use agents::Native;
use bodies::{COUNTED, SERIES_EACH};
use sender::{CONNECTIONS, Request, Sent, send};

/// A million series.
pub(crate) const TARGETS: usize = 10_000;
/// Targets come in bodies of a hundred, a whole number of them a connection.
const TARGET_STEP: usize = 100 * CONNECTIONS;
/// Readings after the first: two rounds' worth.
const WARM_TICKS: usize = 32;
/// One more comes alone.
const LAST_TICK: usize = WARM_TICKS + 1;
/// Prometheus takes five seconds for each.
const PROMETHEUS_TICKS: usize = 3;
/// The four archives of the default, kept for less long: a million series of it take 175 GB.
const POLICY: &str = "1m:1h,5m:6h,1h:2d,1d:10d";
/// A target's file of such archives, with its share of everything else.
const FILE_BYTES: u64 = 800 << 10;
const JOURNAL_BYTES: u64 = 256 << 20;
/// A server is watched so long after it is sent something: a round that is asked for comes within.
const MINUTE: Duration = Duration::from_secs(65);
/// A server is left alone until it uses less than this of a processor, so many times in a row.
const QUIET: Duration = Duration::from_millis(30);
const LOOK: Duration = Duration::from_secs(1);
const QUIET_LOOKS: usize = 3;
const MOST_LOOKS: usize = 180;

/// What samples cost a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuCost {
    /// Seconds of processor time a sample, of the whole process.
    secs: f64,
    /// Samples a second, by the wall.
    rate: f64,
}

impl CpuCost {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn of(samples: u64, used: Duration, rate: f64) -> Self {
        Self { secs: used.as_secs_f64() / samples as f64, rate }
    }
}

/// What one server came to.
#[derive(Debug)]
struct Measured {
    name: &'static str,
    first: CpuCost,
    warm: CpuCost,
    /// One reading, and the minute after it.
    minute: CpuCost,
    /// Anonymous memory and page tables, bytes a series.
    memory: f64,
    /// Bytes that became dirty while it was warm, a sample, as the kernel counts them.
    written: f64,
    /// The same of the device, whoever wrote.
    on_device: f64,
    put_off: u64,
}

/// Measures everything and prints one table. `part` picks one: `roundel`, `peers`, `native`.
pub(crate) fn run(parent: &Path, targets: usize, part: &str) -> Result<()> {
    let targets = targets.next_multiple_of(TARGET_STEP);
    procfs::check_space(parent, targets as u64 * FILE_BYTES + JOURNAL_BYTES)?;
    let does = |name: &str| part == "all" || part == name;
    let scratch = tempfile::tempdir_in(parent).context("a folder for the data")?;
    let end = Wall::start().wall().floor(Step::from_secs(60).expect("a minute is not zero"));
    let mut measured = Vec::new();
    if does("roundel") || does("peers") {
        progress("making the bodies")?;
        let load = Load::make(targets, end)?;
        for name in ["roundel", "victoria", "prometheus"] {
            if does(if name == "roundel" { name } else { "peers" }) {
                measured.extend(measure_one(name, &scratch.path().join(name), &load)?);
            }
        }
    }
    let native = if does("native") {
        progress("native frames")?;
        let folder = scratch.path().join("native");
        std::fs::create_dir(&folder)?;
        // A fiftieth of the targets, and so a tenth of the series.
        let agents = (targets / 50).next_multiple_of(CONNECTIONS);
        Some(agents::measure(&folder, agents, end)?)
    } else {
        None
    };
    let out = &mut io::stdout().lock();
    writeln!(
        out,
        "\n{} series = {targets} targets x {SERIES_EACH}, bodies of 10,000 samples, {CONNECTIONS} connections, \
         policy {POLICY}, strict durability\n",
        targets * SERIES_EACH
    )?;
    list(&measured, native.as_ref()).print(out)?;
    Ok(())
}

/// Measures one server on an empty folder, which it leaves as it found it; `None` where it is not there.
fn measure_one(name: &str, folder: &Path, load: &Load) -> Result<Option<Measured>> {
    std::fs::create_dir(folder)?;
    let (engine, ticks) = match name {
        "roundel" => (Some(Engine::roundel_with(folder, &["--policy", POLICY])?), WARM_TICKS),
        "victoria" => (Engine::victoria(folder)?, WARM_TICKS),
        _ => (Engine::prometheus(folder)?, PROMETHEUS_TICKS),
    };
    let measured = match &engine {
        Some(engine) => {
            progress(engine.name)?;
            Some(measure(engine, folder, load, ticks)?)
        }
        None => None,
    };
    drop(engine); // Killed before its files go.
    std::fs::remove_dir_all(folder)?;
    Ok(measured)
}

/// Requests of each reading, in order.
struct Load {
    targets: usize,
    ticks: Vec<(Timestamp, Vec<Vec<u8>>)>,
}

impl Load {
    /// A reading a minute, up to `end`.
    fn make(targets: usize, end: Timestamp) -> Result<Self> {
        let tick = |step: usize| {
            let (step, last) = (i64::try_from(step)?, i64::try_from(LAST_TICK)?);
            let at = end.plus_millis((step - last) * 60_000);
            Ok((at, bodies::tick(targets, step, at)?))
        };
        let ticks = (0..=LAST_TICK).map(tick).collect::<Result<_>>()?;
        Ok(Self { targets, ticks })
    }

    fn series(&self) -> u64 {
        (self.targets * SERIES_EACH) as u64
    }

    fn requests(&self, engine: &Engine, ticks: std::ops::Range<usize>) -> Vec<Request> {
        let token = engine.token();
        let authorization =
            token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "POST /api/v1/write HTTP/1.1\r\n{authorization}Content-Type: application/x-protobuf\r\n\
             Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n"
        );
        let bodies = self.ticks[ticks].iter().flat_map(|(_, bodies)| bodies);
        bodies.map(|body| Request { head: head.clone(), body: body.clone() }).collect()
    }
}

fn measure(engine: &Engine, folder: &Path, load: &Load, ticks: usize) -> Result<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(engine.connect())?;
    let process = engine.process();
    let phase = |ticks: std::ops::Range<usize>, has_round: bool| -> Result<(CpuCost, Sent)> {
        let samples = load.series() * ticks.len() as u64;
        let requests = load.requests(engine, ticks);
        let (before, wall) = (process.whole_processor_time()?, Wall::start());
        let sent = send(engine.address(), &requests)?;
        if has_round {
            // Ours would come when sixteen minutes have passed. What it costs belongs to this phase.
            runtime.block_on(engine.bring_about_a_round(COUNTED))?;
        }
        let sent_after = wall.elapsed();
        while wall.elapsed().saturating_sub(sent_after) < MINUTE {
            std::thread::park_timeout(LOOK);
        }
        settle(process)?;
        let used = process.whole_processor_time()?.saturating_sub(before);
        let cost = CpuCost::of(samples, used, rate(samples, sent.time));
        progress(&format!("{cost:?} {sent:?}"))?;
        Ok((cost, sent))
    };
    let (first, first_sent) = phase(0..1, true)?;
    let (written, on_device) = (process.written()?, device_written(folder)?);
    let (warm, warm_sent) = phase(1..1 + ticks, true)?;
    let written = process.written()?.saturating_sub(written);
    let on_device = device_written(folder)?.saturating_sub(on_device);
    let (minute, minute_sent) = phase(1 + ticks..2 + ticks, false)?;
    let memory = process.memory()?;
    let ticks = 2 + ticks;
    let count = load.series() * ticks as u64;
    if engine.name == "roundel" {
        runtime.block_on(balanced(engine, count))?;
    } else {
        runtime.block_on(counted(engine, load, ticks))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let share = |bytes: u64, of: u64| bytes as f64 / of as f64;
    Ok(Measured {
        name: engine.name,
        first,
        warm,
        minute,
        memory: share(memory, load.series()),
        written: share(written, count - 2 * load.series()),
        on_device: share(on_device, count - 2 * load.series()),
        put_off: first_sent.put_off + warm_sent.put_off + minute_sent.put_off,
    })
}

/// Waits until a server has nothing to do any more: what it put off is part of what it costs.
fn settle(process: Process) -> Result<()> {
    let mut quiet = 0;
    for _ in 0..MOST_LOOKS {
        let before = process.whole_processor_time()?;
        std::thread::park_timeout(LOOK);
        let used = process.whole_processor_time()?.saturating_sub(before);
        quiet = if used < QUIET { quiet + 1 } else { 0 };
        if quiet == QUIET_LOOKS {
            return Ok(());
        }
    }
    bail!("a server is still busy after {MOST_LOOKS} looks")
}

/// Errors unless the books say that this many samples came and all are stored.
async fn balanced(engine: &Engine, count: u64) -> Result<()> {
    let answer = engine.connect().await?.get("/api/v1/accounting").await?;
    let books: serde_json::Value = serde_json::from_slice(&answer)?;
    let total = &books["total"];
    let (received, stored) = (total["received"].as_u64(), total["stored"].as_u64());
    ensure!(received == Some(count) && stored == Some(count), "of {count} samples: {total}");
    Ok(())
}

/// Errors unless a peer has all samples of one metric of each target, which is a hundredth of all.
async fn counted(engine: &Engine, load: &Load, ticks: usize) -> Result<()> {
    let (at, wanted) = (load.ticks[ticks - 1].0, load.targets * ticks);
    let text = format!("sum(count_over_time({COUNTED}[1h]))");
    let path = engine.instant(&text, at.as_millis() / 1000);
    let answer = engine.connect().await?.get(&path).await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    let found = answer["data"]["result"][0]["value"][1].as_str().unwrap_or_default();
    ensure!(found == wanted.to_string(), "{}: {answer}, not {wanted}", engine.name);
    Ok(())
}

fn list(measured: &[Measured], native: Option<&Native>) -> Goals {
    let mut goals = Goals::default();
    if let Some((ours, peers)) = measured.split_first() {
        let mut row = |what, unit, goal, of: &dyn Fn(&Measured) -> f64, note: &str| {
            let mut peers = peers.iter().map(|peer| Peer::Measured(peer.name, of(peer)));
            let peer = peers.next().unwrap_or(Peer::NotRun);
            goals.add(Figure { what, unit, ours: of(ours), peer, goal }, note);
            for peer in peers {
                goals.add(
                    Figure { what: "  the same", unit, ours: of(ours), peer, goal: Goal::None },
                    note,
                );
            }
        };
        let note = "processor time of the whole process until all is written: of ours rounds of all files, the last after \
                    all readings; of the others their merges; no peer syncs before it answers";
        row("warm, CPU a sample", Unit::Micros, Goal::AtMost(0.25), &|of| of.warm.secs * 1e6, note);
        let note =
            "one reading alone and the minute after it; a round of ours comes after 16 of them";
        row("  a reading a minute", Unit::Micros, Goal::None, &|of| of.minute.secs * 1e6, note);
        let theirs = peers.first().map_or(f64::NAN, |peer| peer.warm.rate);
        let goal = if theirs.is_finite() { Goal::AtLeast(4.0 * theirs) } else { Goal::None };
        let note = "by the wall, all samples of known series, the sender on the same processors";
        row("warm, samples a second", Unit::PerSecond, goal, &|of| of.warm.rate, note);
        let note = "by the wall, until the last answer: named, granted, synced";
        row(
            "first sight, series a second",
            Unit::PerSecond,
            Goal::AtLeast(300e3),
            &|of| of.first.rate,
            note,
        );
        let note = "processor time of the whole process, the round that writes the names included";
        row("first sight, CPU a series", Unit::Micros, Goal::None, &|of| of.first.secs * 1e6, note);
        let put_off: Vec<_> =
            measured.iter().map(|of| format!("{} {}", of.name, of.put_off)).collect();
        let note = format!(
            "anonymous memory and page tables of the whole process at the end; answers that said later: {}",
            put_off.join(", ")
        );
        let note = note.as_str();
        row("memory a series", Unit::Bytes, Goal::AtMost(350.0), &|of| of.memory, note);
        let note =
            "to the device, while known series are sent and after it; whoever else wrote is in it";
        row("written a sample", Unit::Bytes, Goal::None, &|of| of.on_device, note);
        let note =
            "as the kernel counts it: all of a stretch of its cache of which a page became dirty";
        row("  dirtied", Unit::Bytes, Goal::None, &|of| of.written, note);
    }
    if let Some(native) = native {
        let mut row = |what, unit, goal, ours, note: &str| {
            goals.add(Figure { what, unit, ours, peer: Peer::None, goal }, note);
        };
        let note = format!(
            "{} series of agents; pushes of 40 readings, 20,000 samples; by the wall, the sender on the same \
             processors",
            native.series
        );
        row(
            "native backlog, samples a second",
            Unit::PerSecond,
            Goal::AtLeast(10e6),
            native.backlog.rate,
            &note,
        );
        let cpu = "processor time of the whole process";
        row("  CPU a sample", Unit::Micros, Goal::None, native.backlog.secs * 1e6, cpu);
        let note = "the same, a push for each reading of 500 series";
        row(
            "native scrapes, samples a second",
            Unit::PerSecond,
            Goal::None,
            native.scrapes.rate,
            note,
        );
        row("  CPU a sample", Unit::Micros, Goal::None, native.scrapes.secs * 1e6, cpu);
    }
    goals
}

fn progress(what: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "... {what}")?)
}
