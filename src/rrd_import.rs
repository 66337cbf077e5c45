//! `roundel rrd import`: files of rrdtool, whole folders of them, become instances of a stopped server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use collector::registry::Instance;
use rrd::import::{
    Dump, Layout, NewArchive, Place, SourceKind, Taken, TakenSeries, derive_policy, read,
    source_names, write_archive,
};
use rrd::{Clock, InstanceId, Labels, Policy};

use crate::clock::SystemClock;
use crate::offline::Offline;
use crate::operate::words::{self, counted};
use crate::progress::Progress;
use crate::report::print;
use crate::rrd_files::{self, Found};

#[derive(Debug, Clone, Args)]
pub(crate) struct Import {
    /// Data folder of the server, which must not be running
    #[arg(long, value_name = "DIR", default_value = "./roundel-data")]
    data: PathBuf,
    /// The program whose files they are: cacti, munin, collectd or ganglia
    #[arg(long, value_name = "PROGRAM", conflicts_with = "map")]
    preset: Option<String>,
    /// Pattern for paths below PATH, with named groups: instance, metric, and one for each label
    #[arg(long, value_name = "REGEX")]
    map: Option<String>,
    /// Rows to keep [default: those that the files of each instance keep, in f64]
    #[arg(long, value_name = "STEP:KEEP,...")]
    policy: Option<String>,
    /// Say what would become of each file, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Files of rrdtool (.rrd, or .xml of "rrdtool dump"), or folders of them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

/// Imports what can be imported; errors when something could not, after everything else is done.
pub(crate) fn import(arguments: &Import) -> Result<()> {
    let layout = arguments.layout()?;
    let policy = arguments.policy.as_deref().map(Policy::parse).transpose().context("--policy")?;
    let mut session = Session { layout, policy, failures: Vec::new(), counts: Counts::default() };
    let clock = SystemClock::start();
    let files = rrd_files::found(&arguments.paths, &mut session.failures);
    let plans = session.plans(&files);
    if arguments.dry_run {
        session.show(&plans);
    } else {
        let offline = Offline::open(&arguments.data)?;
        let mut progress = Progress::of("files", files.len());
        for (name, plan) in &plans {
            session.instance(&offline, name, plan, &clock)?;
            progress.advance(plan.file_count(), clock.monotonic());
        }
        progress.end();
        offline.journal.close();
        print(&session.counts.summary(clock.monotonic().as_secs_f64()));
    }
    session.outcome(files.len())
}

impl Import {
    fn layout(&self) -> Result<Layout> {
        match (&self.preset, &self.map) {
            (Some(preset), _) => Ok(Layout::Preset(preset.parse()?)),
            (None, Some(map)) => Layout::pattern(map).with_context(|| format!("--map {map:?}")),
            (None, None) => Ok(Layout::Plain),
        }
    }
}

/// The series of one instance.
#[derive(Default)]
struct Plan<'a> {
    series: Vec<Planned<'a>>,
}

/// One series and where it comes from.
#[derive(Clone)]
struct Planned<'a> {
    path: &'a Path,
    source: usize,
    place: Place,
}

struct Session {
    layout: Layout,
    policy: Option<Policy>,
    failures: Vec<(PathBuf, String)>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    files: usize,
    series: usize,
    instances: usize,
    rows: u64,
    bytes: u64,
    existing: usize,
}

impl Session {
    fn fail(&mut self, path: &Path, reason: &impl ToString) {
        self.failures.push((path.to_owned(), reason.to_string()));
    }

    fn fail_all(&mut self, dumps: &BTreeMap<&Path, Dump>, reason: &impl ToString) {
        for path in dumps.keys() {
            self.fail(path, reason);
        }
    }

    /// What belongs to which instance, by the heads of the files.
    fn plans<'a>(&mut self, files: &'a [Found]) -> BTreeMap<String, Plan<'a>> {
        let mut plans: BTreeMap<String, Plan<'a>> = BTreeMap::new();
        for Found { path, below } in files {
            let named = open(path).and_then(|(mut file, len)| Ok(source_names(&mut file, len)?));
            let names = match named {
                Ok(names) => names,
                Err(reason) => {
                    self.fail(path, &format!("{reason:#}"));
                    continue;
                }
            };
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            for source in 0..names.len() {
                match self.layout.place(&whole, below, &names, source) {
                    Ok(place) => {
                        let plan = plans.entry(place.instance.clone()).or_default();
                        match plan.series.iter().find(|one| one.place.labels == place.labels) {
                            Some(same) => {
                                let reason = format!(
                                    "{} is {} already; tell them apart with --map",
                                    place.labels,
                                    same.path.display()
                                );
                                self.fail(path, &reason);
                            }
                            None => plan.series.push(Planned { path, source, place }),
                        }
                    }
                    Err(reason) => {
                        self.fail(path, &reason);
                        break;
                    }
                }
            }
        }
        plans
    }

    /// Makes one instance with its archive, unless it is there.
    fn instance(
        &mut self,
        offline: &Offline,
        name: &str,
        plan: &Plan<'_>,
        clock: &SystemClock,
    ) -> Result<()> {
        let job = self.layout.job();
        let known = offline.registry.named(job, name).map(|instance| instance.id);
        if known.is_some_and(|id| offline.store.is_unavailable(id)) {
            for one in &plan.series {
                self.fail(one.path, &format!("the archive of {name} is damaged; restore it first"));
            }
            return Ok(());
        }
        if let Some(id) = known.filter(|id| offline.store.info(*id).is_some()) {
            self.existing(offline, id, name, plan);
            return Ok(());
        }
        let dumps = self.dumps(plan);
        let read: Vec<&Dump> = dumps.values().collect();
        if read.is_empty() {
            return Ok(());
        }
        let policy = match &self.policy {
            Some(policy) => policy.clone(),
            None => match derive_policy(&read) {
                Ok((policy, remarks)) => {
                    for remark in &remarks {
                        note(Path::new(name), remark);
                    }
                    policy
                }
                Err(reason) => {
                    self.fail_all(&dumps, &reason);
                    return Ok(());
                }
            },
        };
        let planned: Vec<(&Planned<'_>, &Dump)> = plan
            .series
            .iter()
            .filter_map(|one| Some((one, dumps.get(one.path)?)))
            .filter(|(one, dump)| is_kept(one, dump))
            .collect();
        if planned.is_empty() {
            return Ok(());
        }
        let id = match known {
            Some(id) => id,
            None => enrol(offline, job, name, clock)?,
        };
        let labels = Labels::default().with("job", job).with("instance", name);
        let series = planned.iter().map(|(one, dump)| TakenSeries {
            labels: one.place.labels.clone(),
            dump,
            source: one.source,
        });
        let archive = NewArchive { id, labels: &labels, policy: &policy, series: series.collect() };
        let archives = offline.folders.at("archives");
        match write_archive(offline.disk.as_ref(), &archives, &archive) {
            Ok(taken) => self.took(&taken, &planned),
            Err(reason) => self.fail_all(&dumps, &reason),
        }
        Ok(())
    }

    fn took(&mut self, taken: &Taken, planned: &[(&Planned<'_>, &Dump)]) {
        for (number, remark) in &taken.remarks {
            let Planned { path, place, .. } = planned[*number].0;
            note(path, &format!("{}: {remark}", place.labels));
        }
        for (number, reason) in &taken.refused {
            self.fail(planned[*number].0.path, reason);
        }
        let mut paths: Vec<&Path> = planned.iter().map(|(one, _)| one.path).collect();
        paths.dedup();
        self.counts.files += paths.len();
        self.counts.series += planned.len() - taken.refused.len();
        self.counts.instances += usize::from(taken.bytes > 0);
        self.counts.rows += taken.rows;
        self.counts.bytes += taken.bytes;
    }

    /// Names what is there; what is not cannot be added to an archive that a server writes.
    fn existing(&mut self, offline: &Offline, id: InstanceId, name: &str, plan: &Plan<'_>) {
        let is_there =
            |one: &&Planned<'_>| offline.store.resolve(id, &one.place.labels.to_key()).is_some();
        let (there, missing): (Vec<&Planned<'_>>, Vec<_>) = plan.series.iter().partition(is_there);
        for one in &there {
            note(one.path, &format!("{} of {name} is there already", one.place.labels));
        }
        self.counts.existing += there.len();
        let missing = Plan { series: missing.into_iter().cloned().collect() };
        let dumps = self.dumps(&missing);
        for one in &missing.series {
            if dumps.get(one.path).is_some_and(|dump| is_kept(one, dump)) {
                let reason = format!(
                    "instance {name} has an archive, and {} is not in it; import all files of an instance at once",
                    one.place.labels
                );
                self.fail(one.path, &reason);
            }
        }
    }

    /// The files of an instance, each read once.
    fn dumps<'a>(&mut self, plan: &Plan<'a>) -> BTreeMap<&'a Path, Dump> {
        let mut dumps = BTreeMap::new();
        let mut last = None;
        for one in &plan.series {
            if last.replace(one.path) == Some(one.path) {
                continue;
            }
            let dump = open(one.path).and_then(|(mut file, len)| Ok(read(&mut file, len)?));
            match dump {
                Ok(dump) => {
                    note_skipped(one.path, &dump);
                    dumps.insert(one.path, dump);
                }
                Err(reason) => self.fail(one.path, &format!("{reason:#}")),
            }
        }
        dumps
    }

    fn show(&mut self, plans: &BTreeMap<String, Plan<'_>>) {
        for (name, plan) in plans {
            let dumps = self.dumps(plan);
            let read: Vec<&Dump> = dumps.values().collect();
            let policy = match &self.policy {
                Some(policy) => policy.to_string(),
                None => derive_policy(&read).map_or_else(|e| e.to_string(), |p| p.0.to_string()),
            };
            print(&format!("{name} (job {}), policy {policy}\n", self.layout.job()));
            for one in &plan.series {
                let Some(dump) = dumps.get(one.path) else { continue };
                let source = &dump.sources[one.source];
                let renamed = one.place.renamed.as_ref();
                let renamed = renamed.map_or(String::new(), |was| format!(" (from {was:?})"));
                let (path, labels) = (one.path.display(), &one.place.labels);
                let (kind, ds) = (source.kind.name(), &source.name);
                print(&format!("  {path} {ds}: {kind} {labels}{renamed}\n"));
            }
        }
    }

    fn outcome(self, file_count: usize) -> Result<()> {
        for (path, reason) in &self.failures {
            complain(path, reason);
        }
        let mut failed: Vec<&PathBuf> = self.failures.iter().map(|(path, _)| path).collect();
        failed.sort();
        failed.dedup();
        match failed.len() {
            0 if file_count == 0 => bail!("no .rrd and no .xml file there; name another folder"),
            0 => Ok(()),
            count => bail!("{count} of {file_count} files were not imported, or not whole"),
        }
    }
}

impl Plan<'_> {
    fn file_count(&self) -> usize {
        let mut paths: Vec<&Path> = self.series.iter().map(|one| one.path).collect();
        paths.dedup();
        paths.len()
    }
}

impl Counts {
    fn summary(&self, secs: f64) -> String {
        let Self { files, series, instances, rows, bytes, existing } = self;
        let (files, instances) =
            (counted(*files as u64, "file"), counted(*instances as u64, "instance"));
        let (rows, bytes) = (counted(*rows, "row"), words::bytes(*bytes));
        let there = match existing {
            0 => String::new(),
            count => format!("; {count} series were there already"),
        };
        format!(
            "imported {files}: {series} series of {instances}, {rows}, {bytes} of archives, in {secs:.1} s{there}\n"
        )
    }
}

/// Enrols an instance; it is in the journal when this returns.
fn enrol(offline: &Offline, job: &str, name: &str, clock: &SystemClock) -> Result<InstanceId> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|reason| anyhow::anyhow!("no randomness: {reason}"))?;
    let id = InstanceId(u128::from_le_bytes(bytes));
    let instance = Instance::imported(id, job, name, clock.wall());
    let body = collector::Registry::enrolment(&[instance]);
    let seq = offline.journal.append_reserved(collector::FRAME_REGISTRY, &body)?;
    offline.journal.wait_durable(seq)?;
    Ok(id)
}

fn is_kept(one: &Planned<'_>, dump: &Dump) -> bool {
    matches!(dump.sources[one.source].kind, SourceKind::Known(_))
}

fn open(path: &Path) -> Result<(BufReader<File>, u64)> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    Ok((BufReader::with_capacity(1 << 16, file), len))
}

/// Names what of a file is not kept by any archive of ours.
fn note_skipped(path: &Path, dump: &Dump) {
    for source in &dump.sources {
        if let SourceKind::Other(kind) = &source.kind {
            note(
                path,
                &format!("{} is {kind}, which is left out; ask for it in a query", source.name),
            );
        }
    }
    let mut others: Vec<&str> = dump.archives.iter().map(|rra| rra.function.name()).collect();
    others.retain(|name| !["AVERAGE", "MIN", "MAX", "LAST"].contains(name));
    if !others.is_empty() {
        note(path, &format!("its archives {} are left out", others.join(", ")));
    }
}

fn note(path: &Path, text: &str) {
    crate::report::say(&format!("{}: {text}", path.display()));
}

fn complain(path: &Path, reason: &str) {
    crate::report::say(&format!("{}: not imported: {reason}", path.display()));
}
