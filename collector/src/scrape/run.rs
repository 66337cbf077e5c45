//! The scraper: a task for each target, which sleeps until its time; a look at the files in between.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rrd::{Clock, Timestamp};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};
use xxhash_rust::xxh3::xxh3_64;

use super::fetch::Fetcher;
use super::page::{Memory, Outcome, Scrape};
use super::targets::{self, Found, Name, TARGETS, Target};
use crate::intake::Intake;

/// Pages fetched at once: targets that do not answer hold a place for their timeout.
const AT_ONCE: usize = 64;
/// How often the files and the registry are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Bytes of a file of targets: ten thousand with labels.
const FILE_BYTES: u64 = 8 << 20;
/// A scrape that starts this shortly after its time counts as made then: equal distances make better
/// rates than the truth about a timer.
const LATE_MS: i64 = 20;

/// What the scraper works with.
pub struct Scraper {
    /// Where samples go.
    pub intake: Intake,
    /// Tells when a scrape is due.
    pub clock: Arc<dyn Clock>,
    /// The folder with files of targets, `*.json`; it may be absent.
    pub folder: PathBuf,
}

/// Scrapes until `shutdown` is ready.
pub async fn run(scraper: Scraper, shutdown: impl Future<Output = ()>) {
    let mut targets = Targets {
        parts: Arc::new(Parts {
            intake: scraper.intake,
            clock: scraper.clock,
            fetcher: Fetcher::new(),
            at_once: Semaphore::new(AT_ONCE),
        }),
        folder: scraper.folder,
        files: BTreeMap::new(),
        tasks: BTreeMap::new(),
        running: JoinSet::new(),
    };
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        targets.look().await;
        tokio::select! {
            () = &mut shutdown => return,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

struct Parts {
    intake: Intake,
    clock: Arc<dyn Clock>,
    fetcher: Fetcher,
    at_once: Semaphore,
}

/// All targets. Dropped, their tasks end where they are: a restart of the server ends no series.
struct Targets {
    parts: Arc<Parts>,
    folder: PathBuf,
    files: BTreeMap<PathBuf, Listed>,
    tasks: BTreeMap<Name, Task>,
    running: JoinSet<()>,
}

/// What a file listed when it could be read last.
#[derive(Default)]
struct Listed {
    targets: Vec<Target>,
    passed_over: Option<String>,
    problem: Option<String>,
}

struct Task {
    /// What it scrapes; `None` tells it to end its series and itself.
    told: watch::Sender<Option<Arc<Target>>>,
}

impl Targets {
    /// Reads the files and starts, changes and ends targets accordingly.
    async fn look(&mut self) {
        while self.running.try_join_next().is_some() {}
        let (folder, before) = (self.folder.clone(), std::mem::take(&mut self.files));
        let instances = self.parts.intake.instances();
        let read = tokio::task::spawn_blocking(move || listed(&folder, before, &instances));
        // A panic there would lose what the files said; they are read again at the next look.
        let Ok(files) = read.await else { return };
        self.files = files;
        let mut wanted = BTreeMap::new();
        for target in self.files.values().flat_map(|file| &file.targets).take(TARGETS) {
            wanted.entry(target.name()).or_insert(target);
        }
        let gone = self.tasks.extract_if(.., |name, _| !wanted.contains_key(name));
        for (_, task) in gone {
            task.told.send_replace(None);
        }
        for (name, target) in wanted {
            if let Some(task) = self.tasks.get(&name) {
                let is_new = task.told.borrow().as_deref() != Some(target);
                if is_new {
                    task.told.send_replace(Some(Arc::new(target.clone())));
                }
            } else {
                let (told, heard) = watch::channel(Some(Arc::new(target.clone())));
                self.running.spawn(scrape(self.parts.clone(), heard));
                self.tasks.insert(name, Task { told });
            }
        }
    }
}

/// What the files of `folder` list; one that is wrong keeps what it listed before.
fn listed(
    folder: &Path,
    mut before: BTreeMap<PathBuf, Listed>,
    instances: &[Arc<crate::registry::Instance>],
) -> BTreeMap<PathBuf, Listed> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut files = BTreeMap::new();
    for path in paths.filter(|path| path.extension().is_some_and(|ending| ending == "json")) {
        let was = before.remove(&path).unwrap_or_default();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let read =
            text(&path).and_then(|text| targets::read(&stem.unwrap_or_default(), &text, instances));
        let (over, was_wrong) = (was.passed_over.clone(), was.problem.clone());
        let now = match read {
            Ok(Found { targets, passed_over }) => Listed { targets, passed_over, problem: None },
            Err(problem) => Listed { problem: Some(problem), ..was },
        };
        if let Some(machines) = &now.passed_over
            && over.as_ref() != Some(machines)
        {
            warn!(file = %path.display(), machines, "machines are passed over");
        }
        if let Some(problem) = &now.problem
            && was_wrong.as_ref() != Some(problem)
        {
            warn!(file = %path.display(), problem, "the targets of this file stay as they were");
        }
        files.insert(path, now);
    }
    files
}

fn text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES {
        return Err(format!("longer than {FILE_BYTES} bytes; split it"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// Scrapes one target at its times, until it is told that it is none any more.
async fn scrape(parts: Arc<Parts>, mut heard: watch::Receiver<Option<Arc<Target>>>) {
    let memory = Arc::new(Mutex::new(Memory::default()));
    let mut was = None;
    loop {
        let Some(target) = heard.borrow_and_update().clone() else { break };
        if let Some(was) = was.replace(target.clone())
            && was.labels != target.labels
        {
            over(&parts, was, &memory).await;
        }
        let due = due(&target, parts.clock.wall());
        let wait = due.millis_since(parts.clock.wall());
        tokio::select! {
            () = sleep(Duration::from_millis(u64::try_from(wait).unwrap_or(0))) => {}
            changed = heard.changed() => match changed {
                Ok(()) => continue,
                // Nobody is left to tell it anything: the server stops.
                Err(_) => return,
            },
        }
        once(&parts, target, due, &memory).await;
    }
    if let Some(was) = was {
        over(&parts, was, &memory).await;
    }
}

/// The next time of a target: its own place in the interval, so that targets spread over it, the same
/// after a restart.
fn due(target: &Target, now: Timestamp) -> Timestamp {
    let (job, instance) = target.name();
    let hash = xxh3_64(format!("{job}\0{instance}").as_bytes());
    let phase_ms = i64::try_from(hash % target.interval.as_millis()).unwrap_or(0);
    let step_ms = i64::try_from(target.interval.as_millis()).unwrap_or(i64::MAX);
    let due = now.floor(target.interval).plus_millis(phase_ms);
    if due > now { due } else { due.plus_millis(step_ms) }
}

async fn once(parts: &Parts, target: Arc<Target>, due: Timestamp, memory: &Arc<Mutex<Memory>>) {
    let _place = parts.at_once.acquire().await;
    let now = parts.clock.wall();
    let at = if now.millis_since(due).abs() <= LATE_MS { due } else { now };
    let started = parts.clock.monotonic();
    let outcome = match parts.fetcher.opened(&target.uri, &target.access, target.timeout).await {
        Ok(fetched) => Outcome::Page(fetched),
        Err(why) => Outcome::Nothing(why),
    };
    let took_s = parts.clock.monotonic().saturating_sub(started).as_secs_f64();
    store(parts, Scrape { target, memory: memory.clone(), at, took_s, outcome }).await;
}

/// Ends all series of what was a target.
async fn over(parts: &Parts, target: Arc<Target>, memory: &Arc<Mutex<Memory>>) {
    let at = parts.clock.wall();
    let (memory, outcome) = (memory.clone(), Outcome::Over);
    store(parts, Scrape { target, memory, at, took_s: 0.0, outcome }).await;
}

/// Stores a scrape and tells when a target's state changes; one that lasts is not repeated.
async fn store(parts: &Parts, scrape: Scrape) {
    let (target, memory) = (scrape.target.clone(), scrape.memory.clone());
    let lock = || memory.lock().unwrap_or_else(PoisonError::into_inner);
    let was = lock().problem.clone();
    let is_over = matches!(scrape.outcome, Outcome::Over);
    let stored = parts.intake.store_scrape(scrape).await;
    let lost = lock().settle(stored.is_ok(), is_over);
    match (&stored, lost) {
        (Err(denial), 1) => warn!(target = %target.uri, %denial, "scrapes are lost"),
        (Ok(()), 1..) => info!(target = %target.uri, lost, "scrapes are stored again"),
        _ => {}
    }
    let problem = lock().problem.clone();
    match (was, problem) {
        _ if is_over => {}
        (None, Some(why)) => warn!(target = %target.uri, why, "scrape"),
        (Some(_), None) => info!(target = %target.uri, "scraped well again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(instance: &str) -> Target {
        let text = format!(r#"[{{"targets": ["{instance}"]}}]"#);
        let none: &[Arc<crate::registry::Instance>] = &[];
        targets::read("j", &text, none).unwrap().targets.remove(0)
    }

    #[test]
    fn a_target_is_due_once_in_each_interval_at_its_own_place() {
        let (a, b) = (target("a:1"), target("b:1"));
        let first = due(&a, Timestamp::from_secs(1_700_000_000));
        let step_ms = i64::try_from(a.interval.as_millis()).unwrap();
        assert_eq!(due(&a, first), first.plus_millis(step_ms));
        assert_eq!(due(&a, first.plus_millis(-1)), first);
        assert_eq!(due(&a, first.plus_millis(step_ms - 1)), first.plus_millis(step_ms));
        assert_ne!(first, due(&b, Timestamp::from_secs(1_700_000_000)));
    }

    #[test]
    fn a_file_that_turns_wrong_keeps_its_targets_and_one_that_is_gone_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        let names = |files: &BTreeMap<PathBuf, Listed>| {
            files.values().flat_map(|file| &file.targets).map(Target::name).collect::<Vec<_>>()
        };
        std::fs::write(&file, r#"[{"targets": ["x:1"]}]"#).unwrap();
        std::fs::write(folder.path().join("a.yml"), "- targets: [y:1]").unwrap();
        let files = listed(folder.path(), BTreeMap::new(), &[]);
        let expected = [("a".to_owned(), "x:1".to_owned())];
        assert_eq!(names(&files), expected);
        std::fs::write(&file, "[").unwrap();
        let files = listed(folder.path(), files, &[]);
        assert_eq!(names(&files), expected);
        std::fs::remove_file(&file).unwrap();
        assert!(names(&listed(folder.path(), files, &[])).is_empty());
    }
}
