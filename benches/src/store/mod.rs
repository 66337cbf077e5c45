//! The store's figures at a million series: `cargo xtask bench rrd`.

mod ack;
mod fleet;
mod length;
mod load;
mod order;
mod peers;
mod reopen;

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::goals::{Figure, Goal, Goals, Peer, Unit};
use crate::{cold, procfs};
use load::{Load, SERIES_EACH, float};
pub(crate) use reopen::run as reopen;

/// A million series.
pub(crate) const INSTANCES: u32 = 10_000;
/// The four archives of the default, kept for less long: a million series of it take 175 GB.
const POLICY: &str = "1m:1h,5m:6h,1h:2d,1d:10d";
/// The five archives of own agents, shortened in the same way.
const AGENT_POLICY: &str = "10s:10m,1m:1h,5m:6h,1h:2d,1d:10d";
/// A file of a hundred series in such archives, with its journal's and its catalogues' share.
const FILE_BYTES: u64 = 800 << 10;
const JOURNAL_BYTES: u64 = 256 << 20;
/// Of all that is measured, nothing takes more.
const MOST_BYTES: u64 = 12 << 30;
/// The files of the fleet that is read, and of the peers.
const READ_BYTES: u64 = 3 << 30;

type Named = BTreeMap<String, f64>;

/// Runs the load in this process, for its parent.
pub(crate) fn load(folder: &Path, arguments: &[String]) -> Result<()> {
    load::run(folder, Load::parse(arguments)?)
}

/// Goes on with such a load after its process was killed.
pub(crate) fn go_on(folder: &Path, arguments: &[String]) -> Result<()> {
    load::go_on(folder, Load::parse(arguments)?)
}

/// Reads alone, in a minute.
pub(crate) fn fleet(parent: &Path) -> Result<()> {
    procfs::check_space(parent, READ_BYTES)?;
    let scratch = tempfile::tempdir_in(parent).context("a folder for the data")?;
    let times = fleet::measure(scratch.path())?;
    Ok(writeln!(io::stdout().lock(), "{times:#?}")?)
}

/// Measures everything, one after the other, and prints one table.
pub(crate) fn run(parent: &Path, instances: u32) -> Result<()> {
    let needed = u64::from(instances) * FILE_BYTES + JOURNAL_BYTES;
    ensure!(needed <= MOST_BYTES, "{instances} instances take more than 12 GiB; take fewer");
    procfs::check_space(parent, needed.max(READ_BYTES))?;
    let scratch = tempfile::tempdir_in(parent).context("a folder for the data")?;
    let mut goals = Goals::default();
    let at = |name: &str| -> Result<std::path::PathBuf> {
        let folder = scratch.path().join(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    };
    progress(&format!("loading {} series", u64::from(instances) * u64::from(SERIES_EACH)))?;
    let load = Load { instances, step_secs: 60, policy: POLICY.to_owned() };
    let (loaded, opened) = loaded_and_killed(&at("load")?, &load)?;
    progress("loading a tenth of them every ten seconds")?;
    let agents =
        Load { instances: (instances / 10).max(1), step_secs: 10, policy: AGENT_POLICY.to_owned() };
    let (own_agents, _) = loaded_and_killed(&at("agents")?, &agents)?;
    progress("reading a fleet")?;
    let folder = at("fleet")?;
    let times = fleet::measure(&folder)?;
    std::fs::remove_dir_all(folder)?;
    progress("living three years")?;
    let seen = length::measure(&at("length")?)?;
    progress("the peers")?;
    let tool = peers::measure_tool(&at("rrdtool")?)?;
    let cached = peers::measure_cached(&at("rrdcached")?)?;
    let all = All { load, loaded, opened, own_agents, times, seen, tool, cached };
    all.list(&mut goals);
    let out = &mut io::stdout().lock();
    writeln!(
        out,
        "\n{} series = {instances} instances x {SERIES_EACH}, policy {POLICY} (four archives as the default, \
         shorter for the disk's sake)\n{}\n",
        all.load.series_count(),
        cold::HOW
    )?;
    goals.print(out)?;
    Ok(())
}

fn progress(what: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "... {what}")?)
}

/// A load whose process is killed with a minute in its journal and, gone on, with a whole period; opened
/// again after each, warm and cold. Its files are removed.
fn loaded_and_killed(folder: &Path, load: &Load) -> Result<(Named, [Named; 4])> {
    let loaded = killed_when_ready(folder, "load", load)?;
    let [warm, cold] = reopened_twice(folder)?;
    killed_when_ready(folder, "go-on", load)?;
    let [warm_period, cold_period] = reopened_twice(folder)?;
    std::fs::remove_dir_all(folder)?;
    Ok((loaded, [warm, cold, warm_period, cold_period]))
}

fn killed_when_ready(folder: &Path, what: &str, load: &Load) -> Result<Named> {
    let mut child = start(folder, what, &load.arguments())?;
    let named = listen(&mut child, "ready 1");
    child.kill()?; // SIGKILL
    child.wait()?;
    named
}

fn reopened_twice(folder: &Path) -> Result<[Named; 2]> {
    let warm = reopened(folder)?;
    cold::drop_pages(folder)?;
    Ok([warm, reopened(folder)?])
}

fn reopened(folder: &Path) -> Result<Named> {
    let mut child = start(folder, "reopen", &[])?;
    let named = listen(&mut child, "");
    let status = child.wait()?;
    ensure!(status.success(), "opening again ended with {status}");
    named
}

fn start(folder: &Path, what: &str, arguments: &[String]) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(what).arg(folder).args(arguments);
    let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    started.context("a process of our own does not start")
}

/// Names and numbers, up to this line or the end.
fn listen(child: &mut Child, last: &str) -> Result<Named> {
    let output = child.stdout.take().context("a process without its output")?;
    let mut named = Named::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        progress(&line)?;
        let (name, number) = line.split_once(' ').context("a name and a number")?;
        named.insert(name.to_owned(), number.parse()?);
        if line == last {
            return Ok(named);
        }
    }
    if last.is_empty() {
        return Ok(named);
    }
    bail!("the process that loads ended before it was ready");
}

/// Everything that was measured.
struct All {
    load: Load,
    loaded: Named,
    /// Warm, cold, after a minute and after a whole period.
    opened: [Named; 4],
    own_agents: Named,
    times: fleet::Times,
    seen: length::Seen,
    tool: Option<peers::Tool>,
    cached: Option<peers::Cached>,
}

impl All {
    fn list(&self, goals: &mut Goals) {
        self.list_writing(goals);
        self.list_memory(goals);
        self.list_stalls(goals);
        self.list_reading(goals);
        self.list_files(goals);
    }

    fn loaded(&self, name: &str) -> f64 {
        self.loaded.get(name).copied().unwrap_or(f64::NAN)
    }

    fn tool(&self, figure: impl FnOnce(&peers::Tool) -> f64) -> Peer {
        self.tool.as_ref().map_or(Peer::NotRun, |tool| Peer::Measured("rrdtool", figure(tool)))
    }

    fn cached(&self, figure: impl FnOnce(&peers::Cached) -> f64) -> Peer {
        let measured = |cached| Peer::Measured("rrdcached", figure(cached));
        self.cached.as_ref().map_or(Peer::NotRun, measured)
    }

    fn list_writing(&self, goals: &mut Goals) {
        let unit = Unit::PerSecond;
        let mut add = |what, ours, peer, goal, note: &str| {
            goals.add(Figure { what, unit, ours, peer, goal }, note);
        };
        let ours = self.loaded("apply_in_order");
        add(
            "apply, in order, samples a CPU second",
            ours,
            self.cached(|cached| cached.flushed),
            Goal::AtLeast(40e6),
            "frames of 100 samples from the journal, the worker's thread; rrdcached: batches by socket, flush \
             included, CPU",
        );
        add(
            "  the same, against acceptance alone",
            ours,
            self.cached(|cached| cached.accepted),
            Goal::None,
            "rrdcached: values wait in memory",
        );
        add(
            "  the same, against the pipe",
            ours,
            self.tool(|tool| tool.updates),
            Goal::None,
            "rrdtool: an update a line, CPU",
        );
        let ours = self.loaded("apply_random");
        let note = "instances and columns shuffled";
        add("apply, random order, samples a CPU second", ours, Peer::None, Goal::None, note);
        add(
            "first sight, series a second",
            self.loaded("first_sight"),
            self.tool(|tool| tool.creates),
            Goal::AtLeast(300e3),
            "instances of 100 series by four threads: allocated, synced, granted, in a synced journal; rrdtool: \
             create, nothing synced",
        );
    }

    fn list_memory(&self, goals: &mut Goals) {
        let mut add = |what, ours, goal, note: &str| {
            goals.add(Figure { what, unit: Unit::Bytes, ours, peer: Peer::None, goal }, note);
        };
        let note = "anonymous memory and page tables of the process, journal included";
        let goal = Goal::AtMost(350.0);
        add(
            "memory a series, 16 minutes of rows waiting",
            self.loaded("memory_waiting"),
            goal,
            note,
        );
        let note = "the most while a round is written";
        add("memory a series, during a round", self.loaded("memory_round"), goal, note);
        let opened = self.opened[0].get("memory").copied().unwrap_or(f64::NAN);
        let opened = opened / float(self.load.series_count());
        add("memory a series, opened again", opened, goal, "after replay");
        let agents = |name| self.own_agents.get(name).copied().unwrap_or(f64::NAN);
        let note =
            format!("policy {AGENT_POLICY}, a tenth of the series, fixed buffers not shared");
        add("  10 s policy, rows waiting", agents("memory_waiting"), Goal::None, &note);
        add("  10 s policy, during a round", agents("memory_round"), Goal::None, &note);
    }

    fn list_stalls(&self, goals: &mut Goals) {
        let mut add = |what, ours, goal, note: &str| {
            let figure = Figure { what, unit: Unit::Secs, ours, peer: Peer::None, goal };
            goals.add(figure, note);
        };
        for (what, opened, goal) in [
            ("open after kill -9, warm", &self.opened[0], Goal::AtMost(2.0)),
            ("open after kill -9, cold", &self.opened[1], Goal::AtMost(10.0)),
            ("  the last round 16 minutes old, warm", &self.opened[2], Goal::None),
            ("  the last round 16 minutes old, cold", &self.opened[3], Goal::None),
        ] {
            let of = |name| opened.get(name).copied().unwrap_or(f64::NAN);
            let note = format!(
                "{:.2} s of it to open, {:.0} samples replayed, {:.2} s of CPU",
                of("opened"),
                of("replayed"),
                of("processor")
            );
            add(what, of("ready"), goal, &note);
        }
        let goal = Goal::AtMost(0.2);
        let note = "midnight UTC, cold files, every archive closes a row: the longest frame";
        add("worker stall: apply", self.loaded("midnight_apply"), goal, note);
        let note = format!("the round takes {:.1} s in its thread", self.loaded("midnight_round"));
        add("worker stall: begin_round", self.loaded("midnight_begin"), goal, &note);
        let note = "the longest frame of the next minute, beside the round";
        add("worker stall: apply", self.loaded("midnight_apply_beside"), goal, note);
        add("worker stall: finish_round", self.loaded("midnight_finish"), goal, "the same round");
        // A lone sender waits for little but the sync: idle is one sync, twice idle and one more are three.
        let idle = self.loaded("ack_idle");
        let note = format!(
            "99th percentile, a round of 16 minutes, {:.1} s long; alone {:.2} ms",
            self.loaded("period_round"),
            idle * 1e3
        );
        let goal = Goal::AtMost(3.0 * idle);
        add("acknowledgement, beside a round", self.loaded("ack_round"), goal, &note);
    }

    fn list_reading(&self, goals: &mut Goals) {
        let mut add = |what, ours: std::time::Duration, peer, goal, note: &str| {
            let ours = ours.as_secs_f64();
            goals.add(Figure { what, unit: Unit::Secs, ours, peer, goal }, note);
        };
        let times = &self.times;
        let peer = self.tool(|tool| tool.read_warm.as_secs_f64());
        let note = "median, in process, default policy; rrdtool: fetch by pipe, as text";
        add("24 h of one series, warm", times.read_warm, peer, Goal::AtMost(15e-6), note);
        let note = "the same store on a disk without maps, files open";
        add("24 h of one series, warm, by pread", times.read_pread, Peer::None, Goal::None, note);
        let note = "median, the first read of each instance, in a block of 4 columns: opened, mapped, read";
        add("24 h of one series, cold", times.read_cold, Peer::None, Goal::None, note);
        let peer = self.tool(|tool| tool.aggregate.as_secs_f64());
        let note = "2,000 instances x 288 rows of 5 minutes, averaged; rrdtool: 2,000 fetches";
        add("average of 2,000 series, warm", times.aggregate_warm, peer, Goal::AtMost(4e-3), note);
        let note = "the same store on a disk without maps, 2,000 files opened again";
        add(
            "average of 2,000 series, warm, by pread",
            times.aggregate_pread,
            Peer::None,
            Goal::None,
            note,
        );
        let note = "the first time: 2,000 files opened, mapped, read";
        add("average of 2,000 series, cold", times.aggregate_cold, Peer::None, Goal::None, note);
    }

    fn list_files(&self, goals: &mut Goals) {
        let unit = Unit::Bytes;
        let mut add = |what, unit, ours, peer, goal, note: &str| {
            goals.add(Figure { what, unit, ours, peer, goal }, note);
        };
        let ours = self.loaded("written");
        let note = format!(
            "a reading a minute and a round after 16, as the server has them, journal included, of the device, \
             whoever wrote; rounds hand over {:.0} B of it, and the kernel holds {:.0} B for dirtied; the journal is \
             filled by {:.0} %; rrdtool: dirtied, synced each minute",
            self.loaded("written_by_rounds"),
            self.loaded("dirtied"),
            self.loaded("journal_fill") * 100.0
        );
        let peer = self.tool(|tool| tool.written);
        add("bytes written a sample", unit, ours, peer, Goal::AtMost(60.0), &note);
        let peer = self.cached(|cached| cached.written);
        let note = "rrdcached: 60 values a file at once, its journal included";
        add("  the same, against rrdcached", unit, ours, peer, Goal::None, note);
        let note = "processor time of the round's thread, of 16 readings";
        let ours = self.loaded("round_processor") * 1e6;
        add("  a round, CPU a sample", Unit::Micros, ours, Peer::None, Goal::None, note);
        let seen = &self.seen;
        let note = format!(
            "three years of {}: {} samples, {} gaps, {} goodbyes, {} rounds, {} restarts; the length is {} B",
            length::POLICY,
            seen.samples,
            seen.gaps,
            seen.goodbyes,
            seen.rounds,
            seen.restarts,
            seen.begun
        );
        let (what, ours) = ("file length: bytes it ever differed by", float(seen.differed));
        add(what, unit, ours, Peer::None, Goal::AtMost(0.0), &note);
        let beside = (float(seen.taken) / float(seen.begun) - 1.0).abs() * 100.0;
        let note = "blocks on the disk against the length";
        add(
            "file length: du differs by",
            Unit::Percent,
            beside,
            Peer::None,
            Goal::AtMost(1.0),
            note,
        );
        let ours = float(seen.begun) / 4.0;
        let peer = self.tool(|tool| float(tool.file_len));
        let note = "ours: a quarter of a file of four series, with 20 KiB of heads; rrdtool: default policy, \
                    AVERAGE, MIN, MAX";
        add("file a series", unit, ours, peer, Goal::None, note);
    }
}
