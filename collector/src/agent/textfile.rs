//! A folder of text files: what jobs of this machine leave there becomes readings, while it is fresh.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rrd::{Kind, Timestamp};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::exporters::{Siblings, told};
use super::reading::Readings;
use super::source::{Answer, Look, Source, Trouble};
use crate::exposition::{self, Format, PAGE_LIMIT, Pairs};

/// Files read of one folder: a series is made of each one's name.
const FILES: usize = 200;
/// Samples taken of a folder, unless its table says otherwise.
const SAMPLES: usize = 5_000;
/// Most that a table may say: as many as a push takes.
const SAMPLES_MAX: usize = 20_000;
/// How old a file may be, unless its table says otherwise: two runs of a job that runs every five minutes.
const MAX_AGE: &str = "10m";

/// The table of a folder in `agent.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    directory: PathBuf,
    /// How old a file may be before its series end; "forever" is not a word for it, years are.
    max_age: Option<String>,
    samples: Option<usize>,
}

/// Makes the folder of its table.
pub(super) fn build(_: &str, table: toml::Table) -> Result<Box<dyn Source>, String> {
    let table: Table = table.try_into().map_err(|error: toml::de::Error| error.to_string())?;
    if !table.directory.is_absolute() {
        return Err(format!("directory {} is not absolute", table.directory.display()));
    }
    let max_age = table.max_age.as_deref().unwrap_or(MAX_AGE);
    let max_age_ms = rrd::time::parse_duration_ms(max_age)
        .and_then(|millis| i64::try_from(millis).ok())
        .ok_or_else(|| format!("max_age {max_age:?} is not a time; write it as \"10m\""))?;
    let sample_limit = table.samples.unwrap_or(SAMPLES);
    if !(1..=SAMPLES_MAX).contains(&sample_limit) {
        return Err(format!("samples is from 1 to {SAMPLES_MAX}"));
    }
    let folder = Folder { path: table.directory, max_age_ms, sample_limit, files: BTreeMap::new() };
    Ok(Box::new(Textfile(Some(folder))))
}

/// The source; its folder is absent while a thread reads it, or after that thread was given up.
struct Textfile(Option<Folder>);

impl Source for Textfile {
    fn read<'a>(&'a mut self, look: Look, out: &'a mut Readings) -> Answer<'a> {
        Box::pin(async move {
            let Some(mut folder) = self.0.take() else {
                return Err(Trouble("reading the folder never ended; see its disk".to_owned()));
            };
            let read = spawn_blocking(move || {
                let mut found = Readings::default();
                let outcome = folder.read(look.at, &mut found);
                (folder, found, outcome)
            });
            let (folder, found, outcome) =
                read.await.map_err(|error| Trouble(error.to_string()))?;
            self.0 = Some(folder);
            out.append(&found);
            outcome
        })
    }
}

/// A folder and what was read of its files.
struct Folder {
    path: PathBuf,
    max_age_ms: i64,
    sample_limit: usize,
    files: BTreeMap<String, Left>,
}

/// What a file held when it was read last.
struct Left {
    stamp: Stamp,
    values: Vec<Value>,
    problem: Option<String>,
    /// Its series are being sent; after they were ended they are not sent again.
    is_shown: bool,
}

/// Tells a file that was not written since from one that was.
#[derive(Clone, Copy, PartialEq)]
struct Stamp {
    mtime: Timestamp,
    size: u64,
    inode: u64,
}

struct Value {
    metric: String,
    labels: Pairs,
    kind: Kind,
    number: f64,
}

impl Folder {
    /// Adds what fresh files hold, and ends what stale and vanished ones held.
    fn read(&mut self, now: Timestamp, out: &mut Readings) -> Result<(), Trouble> {
        let names = self.names().map_err(|error| {
            Trouble(format!("{}: {error}; make it readable", self.path.display()))
        })?;
        let mut before = std::mem::take(&mut self.files);
        let mut left = self.sample_limit;
        let mut ended = Vec::new();
        for name in names {
            let was = before.remove(&name);
            let (file, gone) = self.look(&name, was, left);
            ended.extend(gone);
            let Some(mut file) = file else { continue };
            left -= file.values.len();
            let is_fresh = now.millis_since(file.stamp.mtime) <= self.max_age_ms;
            if file.is_shown && !is_fresh {
                ended.extend(file.values.iter().map(Value::ended));
            }
            file.is_shown = is_fresh;
            file.report(&name, out);
            self.files.insert(name, file);
        }
        for file in before.into_values().filter(|file| file.is_shown) {
            ended.extend(file.values.iter().map(Value::ended));
        }
        self.show(&ended, out);
        let troubled = self.files.iter().find_map(|(name, file)| {
            let problem = file.problem.as_ref()?;
            Some(Trouble(format!("{name}: {problem}")))
        });
        troubled.map_or(Ok(()), Err)
    }

    /// Adds fresh values, each series once, and the end of those that no file shows any more.
    fn show(&self, ended: &[Value], out: &mut Readings) {
        let shown = self.files.values().filter(|file| file.is_shown);
        let mut series: HashSet<(&str, &Pairs)> = HashSet::new();
        let values = shown.flat_map(|file| &file.values);
        for value in values.chain(ended) {
            if series.insert((value.metric.as_str(), &value.labels)) {
                value.add(out);
            }
        }
    }

    /// Names of the files to read, in order.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name().into_string().unwrap_or_default();
            if Path::new(&name).extension().is_some_and(|extension| extension == "prom") {
                names.push(name);
            }
        }
        names.sort();
        names.truncate(FILES);
        Ok(names)
    }

    /// A file as it is now, and what it held before and no more. `None` when it cannot be read.
    fn look(
        &self,
        name: &str,
        was: Option<Left>,
        sample_limit: usize,
    ) -> (Option<Left>, Vec<Value>) {
        let file = File::open(self.path.join(name));
        let Ok((stamp, file)) = file.and_then(|file| Ok((stamp(&file)?, file))) else {
            let shown = was.filter(|was| was.is_shown);
            return (None, shown.iter().flat_map(|was| &was.values).map(Value::ended).collect());
        };
        let is_same = |was: &Left| was.stamp == stamp && was.values.len() <= sample_limit;
        let was = match was {
            Some(was) if is_same(&was) => return (Some(was), Vec::new()),
            was => was,
        };
        let left = match read(file, sample_limit) {
            Ok((values, problem)) => Left { stamp, values, problem, is_shown: false },
            Err(problem) => {
                Left { stamp, values: Vec::new(), problem: Some(problem), is_shown: false }
            }
        };
        // What it still holds comes after these in the same look, and wins.
        let shown = was.filter(|was| was.is_shown);
        (Some(left), shown.iter().flat_map(|was| &was.values).map(Value::ended).collect())
    }
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mtime = Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    Ok(Stamp { mtime, size: metadata.len(), inode: metadata.ino() })
}

/// The values of a file and what is wrong with some; errors when none of it is taken.
fn read(file: File, sample_limit: usize) -> Result<(Vec<Value>, Option<String>), String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(PAGE_LIMIT).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let page =
        exposition::read(&bytes, Format::Text, sample_limit).map_err(|fault| fault.to_string())?;
    if page.samples.iter().any(|sample| sample.at.is_some()) {
        return Err(
            "it holds timestamps; leave them out, its own time says how old it is".to_owned()
        );
    }
    let siblings = Siblings::of(&page);
    let values = page.samples.iter().map(|sample| {
        let (metric, labels) = exposition::parts(&sample.series);
        let kind = sample.kind.unwrap_or_else(|| siblings.kind(&sample.series));
        Value { metric, labels, kind, number: sample.value }
    });
    let problem = page.faults.first().map(|first| told(page.faults.count(), &first.to_string()));
    Ok((values.collect(), problem))
}

impl Left {
    fn report(&self, name: &str, out: &mut Readings) {
        let label = [("file", name)];
        out.gauge("agent_textfile_mtime_seconds", &label, self.stamp.mtime.as_secs_f64());
        out.gauge("agent_textfile_stale", &label, f64::from(u8::from(!self.is_shown)));
        out.gauge("agent_textfile_error", &label, f64::from(u8::from(self.problem.is_some())));
    }
}

impl Value {
    fn ended(&self) -> Self {
        let (metric, labels) = (self.metric.clone(), self.labels.clone());
        Self { metric, labels, kind: self.kind, number: f64::NAN }
    }

    fn add(&self, out: &mut Readings) {
        let labels: Vec<(&str, &str)> =
            self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        out.add(&self.metric, &labels, self.kind, self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// A folder looked at in seconds after 1970.
    struct Looked {
        path: tempfile::TempDir,
        folder: Folder,
    }

    impl Looked {
        fn new() -> Self {
            let path = tempfile::tempdir().unwrap();
            let folder = Folder {
                path: path.path().to_owned(),
                max_age_ms: 600_000,
                sample_limit: 10,
                files: BTreeMap::new(),
            };
            Self { path, folder }
        }

        fn write(&self, name: &str, text: &str, second: u64) {
            let path = self.path.path().join(name);
            fs::write(&path, text).unwrap();
            let time: SystemTime = UNIX_EPOCH + Duration::from_secs(second);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }

        fn at(&mut self, second: i64) -> (Result<(), Trouble>, Readings) {
            let mut out = Readings::default();
            let outcome = self.folder.read(Timestamp::from_secs(second), &mut out);
            (outcome, out)
        }
    }

    #[test]
    fn a_fresh_file_is_repeated_and_a_stale_one_is_ended() {
        let mut looked = Looked::new();
        looked.write("job.prom", "# TYPE done counter\ndone 3\n", 1_000);
        looked.write("ignored.txt", "x 1\n", 1_000);
        for second in [1_010, 1_600] {
            let (outcome, out) = looked.at(second);
            assert_eq!(outcome, Ok(()));
            assert_eq!(out.value("done", &[]), Some(3.0));
            assert_eq!(out.iter().find(|one| one.metric == "done").unwrap().kind, Kind::Total);
            assert_eq!(out.value("x", &[]), None);
        }
        let (_, out) = looked.at(1_601);
        assert!(out.value("done", &[]).is_some_and(f64::is_nan));
        assert_eq!(out.value("agent_textfile_stale", &[("file", "job.prom")]), Some(1.0));
        assert_eq!(looked.at(1_611).1.value("done", &[]), None);
        looked.write("job.prom", "done 4\n", 1_620);
        assert_eq!(looked.at(1_621).1.value("done", &[]), Some(4.0));
    }

    #[test]
    fn what_a_file_no_longer_holds_is_ended_and_so_is_all_of_a_file_that_is_gone() {
        let mut looked = Looked::new();
        looked.write("a.prom", "one 1\ntwo 2\n", 1_000);
        looked.at(1_000).0.unwrap();
        looked.write("a.prom", "two 3\n", 1_010);
        let (_, out) = looked.at(1_010);
        assert!(out.value("one", &[]).is_some_and(f64::is_nan));
        assert_eq!(out.value("two", &[]), Some(3.0));
        fs::remove_file(looked.path.path().join("a.prom")).unwrap();
        let (_, out) = looked.at(1_020);
        assert!(out.value("two", &[]).is_some_and(f64::is_nan));
        assert_eq!(out.value("one", &[]), None);
        assert!(looked.at(1_030).1.is_empty());
    }

    #[test]
    fn a_faulty_file_is_named_and_does_not_stop_the_others() {
        let mut looked = Looked::new();
        looked.write("a.prom", "one 1 1600000000000\n", 1_000);
        looked.write("b.prom", "two\nthree 3\n", 1_000);
        looked.write("c.prom", "four 4\nthree 5\n", 1_000);
        fs::create_dir(looked.path.path().join("d.prom")).unwrap();
        let (outcome, out) = looked.at(1_000);
        let said = outcome.unwrap_err().0;
        assert!(said.starts_with("a.prom: it holds timestamps"), "{said}");
        for (metric, value) in [("one", None), ("three", Some(3.0)), ("four", Some(4.0))] {
            assert_eq!(out.value(metric, &[]), value, "{metric}");
        }
        for (file, error) in [("a.prom", 1.0), ("b.prom", 1.0), ("c.prom", 0.0)] {
            assert_eq!(out.value("agent_textfile_error", &[("file", file)]), Some(error));
        }
    }

    #[test]
    fn a_folder_takes_no_more_than_its_limit() {
        let mut looked = Looked::new();
        looked.write("a.prom", "a 1\n".repeat(4).as_str(), 1_000);
        let many: Vec<String> = (0..20).map(|number| format!("b{number} 1\n")).collect();
        looked.write("b.prom", &many.concat(), 1_000);
        let (outcome, out) = looked.at(1_000);
        assert!(outcome.is_err());
        assert_eq!((out.value("b5", &[]), out.value("b6", &[])), (Some(1.0), None));
    }

    #[test]
    fn a_table_names_a_folder() {
        let built = |text: &str| build("x", toml::from_str(text).unwrap()).err();
        assert_eq!(built("directory = \"/var/lib/node\"\nmax_age = \"1d\""), None);
        for (text, said) in [
            ("", "directory"),
            ("directory = \"x\"", "not absolute"),
            ("directory = \"/x\"\nmax_age = \"soon\"", "write it as \"10m\""),
            ("directory = \"/x\"\nsamples = 0", "from 1 to 20000"),
        ] {
            let problem = built(text).unwrap();
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
