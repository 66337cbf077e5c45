//! Files of the real rrdtool, imported by the real program: every row is the same, and goes on so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use fixtures::remote_write::Series;
use rrd::{OsDisk, SeriesInfo, Span, Store, Timestamp};

use crate::http;
use crate::peers::program;
use crate::server::{Server, folder, roundel};

const STEP_S: i64 = 300;
/// Two weeks of readings.
const READINGS: i64 = 14 * 288;
/// Steps a row, and rows: two days, two weeks, two months and two years.
const WIDTHS: [(i64, i64); 4] = [(1, 600), (6, 700), (24, 775), (288, 797)];
const FILES: usize = 500;
const FILES_OF_A_HOST: usize = 10;
/// Series of a request, below the limit of remote write.
const SERIES_OF_A_REQUEST: usize = 500;

/// A file as Cacti has it: two counters of an interface, or a load.
struct Made {
    number: usize,
    name: String,
    host: String,
    sources: &'static [&'static str],
}

impl Made {
    fn of(number: usize) -> Self {
        let host = format!("host{}", number / FILES_OF_A_HOST);
        let is_load = number.is_multiple_of(5);
        let (middle, sources): (_, &[&str]) = if is_load {
            ("load", &["load"])
        } else {
            ("traffic_in", &["traffic_in", "traffic_out"])
        };
        Self { number, name: format!("{host}_{middle}_{number}.rrd"), host, sources }
    }

    fn create(&self, start_s: i64) -> String {
        let mut line = format!("create {} --start {start_s} --step {STEP_S}", self.name);
        for source in self.sources {
            let kind = if *source == "load" { "GAUGE:600:0:500" } else { "COUNTER:600:0:U" };
            write!(line, " DS:{source}:{kind}").unwrap();
        }
        for (function, (steps, rows)) in
            ["AVERAGE", "MAX"].iter().flat_map(|function| WIDTHS.map(|width| (function, width)))
        {
            write!(line, " RRA:{function}:0.5:{steps}:{rows}").unwrap();
        }
        line
    }

    /// The reading of a source; a count rises by up to a third of a gigabit in five minutes.
    fn reading(&self, place: usize, turn: i64) -> f64 {
        let seed = i64::try_from(self.number * 7 + place * 3 + 1).unwrap();
        let wave = (turn * seed) % 997;
        let value = if self.sources[place] == "load" {
            wave
        } else {
            turn * (1_000_000 + seed * 1000) + wave * 500
        };
        let value = f64::from(u32::try_from(value % 1_000_003).unwrap())
            + f64::from(u32::try_from(value / 1_000_003).unwrap()) * 1_000_003.0;
        if self.sources[place] == "load" { value / 8.0 } else { value }
    }

    /// Some files miss an hour each day, some a single reading now and then.
    fn is_missing(&self, turn: i64) -> bool {
        match self.number % 4 {
            0 => turn % 288 > 100 && turn % 288 < 113,
            1 => turn % 50 == 7,
            _ => false,
        }
    }

    fn updates(&self, start_s: i64, lines: &mut Vec<String>) {
        let turns: Vec<i64> = (1..=READINGS).filter(|turn| !self.is_missing(*turn)).collect();
        for part in turns.chunks(100) {
            let mut line = format!("update {}", self.name);
            for turn in part {
                self.sample(start_s, *turn, &mut line);
            }
            lines.push(line);
        }
    }

    fn sample(&self, start_s: i64, turn: i64, line: &mut String) {
        write!(line, " {}", start_s + turn * STEP_S).unwrap();
        for place in 0..self.sources.len() {
            write!(line, ":{}", self.reading(place, turn)).unwrap();
        }
    }
}

/// One run of rrdtool over many lines.
fn rrdtool(program: &Path, dir: &Path, lines: &[String]) -> String {
    let mut command = Command::new(program);
    command.arg("-").current_dir(dir).env("TZ", "UTC");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = lines.join("\n") + "\nquit\n";
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!said.contains("ERROR"), "{}", said.lines().find(|l| l.contains("ERROR")).unwrap());
    said
}

/// The numbers of every `fetch` of a run, in order: rows of END and values.
fn fetches(said: &str) -> Vec<Vec<(i64, Vec<f64>)>> {
    let mut answers = Vec::new();
    let mut rows = Vec::new();
    for line in said.lines() {
        if line.starts_with("OK") {
            answers.push(std::mem::take(&mut rows));
        } else if let Some((end, values)) = line.split_once(": ") {
            let values = values.split_whitespace().map(|value| value.parse().unwrap());
            rows.push((end.parse().unwrap(), values.collect()));
        }
    }
    answers
}

/// Compares all rows that rrdtool shows with those in the archives; how many were known.
fn compare(rrdtool_at: &Path, dir: &Path, made: &[Made], last_s: i64) -> usize {
    let disk = Arc::new(OsDisk);
    let (store, damage) = Store::open(disk, &dir.join("data/archives"), u64::MAX).unwrap();
    assert_eq!(damage, []);
    let mut series: BTreeMap<(String, String, String), SeriesInfo> = BTreeMap::new();
    for info in store.select(&[]) {
        let label = |name| info.labels.get(name).unwrap().to_owned();
        series.insert((label("instance"), label("id"), label(rrd::NAME)), info);
    }
    let mut lines = Vec::new();
    for file in made {
        for (function, (steps, _)) in
            ["AVERAGE", "MAX"].iter().flat_map(|function| WIDTHS.map(|width| (function, width)))
        {
            let (width, span) = (steps * STEP_S, (WIDTHS[0].1 * STEP_S).max(steps * STEP_S * 14));
            let newest = last_s - last_s % width;
            let oldest = newest - span.min(14 * 86_400) / width * width;
            let (name, end) = (&file.name, newest - 1);
            lines.push(format!("fetch {name} {function} -r {width} -s {oldest} -e {end}"));
        }
    }
    let answers = fetches(&rrdtool(rrdtool_at, &dir.join("rrd"), &lines));
    assert_eq!(answers.len(), lines.len());
    let mut known = 0;
    for (file, answers) in made.iter().zip(answers.chunks(2 * WIDTHS.len())) {
        for (place, source) in file.sources.iter().enumerate() {
            let id = file.number.to_string();
            let info = &series[&(file.host.clone(), id, (*source).to_owned())];
            for (number, answer) in answers.iter().enumerate() {
                let (archive, is_max) = (number % WIDTHS.len(), number >= WIDTHS.len());
                let (first, last) = (answer[0].0, answer[answer.len() - 1].0);
                let (from, to) = (Timestamp::from_secs(first - 1), Timestamp::from_secs(last));
                let rows = store.rows(info.series, archive, Span::new(from, to).unwrap());
                let width = WIDTHS[archive].0 * STEP_S;
                let begins = rows.first_end.as_millis() / 1000;
                for (end, values) in answer {
                    let index = usize::try_from((end - begins).div_euclid(width)).ok();
                    let plane = if is_max { &rows.max } else { &rows.average };
                    let got = index.and_then(|index| plane.get(index)).copied().unwrap_or(f64::NAN);
                    let want = values[place];
                    let same = (got.is_nan() && want.is_nan())
                        || (got - want).abs() <= 1e-9 * want.abs().max(1e-3);
                    let name = &file.name;
                    assert!(same, "{name} {source} {width} s at {end}: {got}, rrdtool {want}");
                    known += usize::from(!want.is_nan());
                }
            }
        }
    }
    known
}

fn run(arguments: &[&str], dir: &Path) -> Output {
    roundel().current_dir(dir).args(arguments).output().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the server under test has the real time too")]
fn now_secs() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_cacti_is_imported_to_the_last_digit_and_goes_on() {
    let test = "a_folder_of_cacti_is_imported_to_the_last_digit_and_goes_on";
    let Some(rrdtool_at) = program(test, "rrdtool") else { return };
    let dir = folder();
    let files = dir.path().join("rrd");
    std::fs::create_dir(&files).unwrap();
    // The next reading, which comes to the running server, is not in the future.
    let last_s = now_secs() / STEP_S * STEP_S - STEP_S;
    let start_s = last_s - READINGS * STEP_S;
    let made: Vec<Made> = (0..FILES).map(Made::of).collect();
    let mut lines = Vec::new();
    for file in &made {
        lines.push(file.create(start_s));
        file.updates(start_s, &mut lines);
    }
    rrdtool(&rrdtool_at, &files, &lines);
    // Makes the small journal of tests.
    assert!(Server::start(dir.path(), &[]).stop().success());

    let import = ["rrd", "import", "--data", "data", "--preset", "cacti", "rrd"];
    let output = run(&import, dir.path());
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert!(said.contains("imported 500 files: 900 series of 50 instances"), "{said}");
    println!("{said}");
    let known = compare(&rrdtool_at, dir.path(), &made, last_s);
    assert!(known > 1_000_000, "only {known} known rows were compared");

    let again = run(&import, dir.path());
    let (said, errors) = (again.stdout, String::from_utf8(again.stderr).unwrap());
    assert!(again.status.success(), "{errors}");
    assert!(String::from_utf8(said).unwrap().contains("900 series were there already"), "{errors}");

    let server = Server::start(dir.path(), &[]);
    let (mut lines, mut series) = (Vec::new(), Vec::new());
    for file in &made {
        let mut line = format!("update {}", file.name);
        file.sample(start_s, READINGS + 1, &mut line);
        lines.push(line);
        let (id, middle) = (file.number.to_string(), file.sources[0]);
        for (place, source) in file.sources.iter().enumerate() {
            let labels = [
                (rrd::NAME, *source),
                ("id", id.as_str()),
                ("source", middle),
                ("job", "cacti"),
                ("instance", file.host.as_str()),
            ];
            let at_ms = (last_s + STEP_S) * 1000;
            series.push(Series::new(&labels).reading(at_ms, file.reading(place, READINGS + 1)));
        }
    }
    for part in series.chunks(SERIES_OF_A_REQUEST) {
        let answer = http::remote_write(&server.url, part).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    rrdtool(&rrdtool_at, &files, &lines);
    let found = http::query(&server.url, "count(traffic_in{job=\"cacti\"})", None).await;
    assert_eq!(found[0]["value"][1], "400", "{found:?}");
    assert!(server.stop().success());
    let more = compare(&rrdtool_at, dir.path(), &made, last_s + STEP_S);
    assert!(more > 1_000_000, "only {more} known rows were compared");
}

#[test]
fn what_is_exported_is_restored_and_fetched_alike() {
    let test = "what_is_exported_is_restored_and_fetched_alike";
    let Some(rrdtool_at) = program(test, "rrdtool") else { return };
    let dir = folder();
    let files = dir.path().join("rrd");
    std::fs::create_dir(&files).unwrap();
    let start_s = 1_699_920_000;
    let last_s = start_s + READINGS * STEP_S;
    let file = Made::of(1);
    let mut lines = vec![file.create(start_s)];
    file.updates(start_s, &mut lines);
    lines.push(format!("dump {} {}", file.name, file.name.replace(".rrd", ".xml")));
    rrdtool(&rrdtool_at, &files, &lines);
    assert!(Server::start(dir.path(), &[]).stop().success());
    let xml = format!("rrd/{}", file.name.replace(".rrd", ".xml"));
    let output = run(&["rrd", "import", "--data", "data", "--preset", "cacti", &xml], dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for format in ["xml", "csv", "json"] {
        let export = ["rrd", "export", "--data", "data", "--instance", "host0", "--to", "out"];
        let output = run(&[&export[..], &["--format", format]].concat(), dir.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let out = dir.path().join("out");
    let names = std::fs::read_dir(&out).unwrap();
    assert_eq!(names.count(), 6, "two series in three forms");
    for (place, source) in file.sources.iter().enumerate() {
        let name = format!("{source}-1-traffic_in");
        let mut lines = vec![format!("restore {name}.xml {name}.rrd")];
        let mut there = Vec::new();
        for (steps, _) in WIDTHS {
            let width = steps * STEP_S;
            let newest = last_s - last_s % width;
            let span = format!("-r {width} -s {} -e {}", newest - 20 * width, newest - 1);
            lines.push(format!("fetch {name}.rrd AVERAGE {span}"));
            there.push(format!("fetch {} AVERAGE {span}", file.name));
        }
        let ours = fetches(&rrdtool(&rrdtool_at, &out, &lines));
        let theirs = fetches(&rrdtool(&rrdtool_at, &files, &there));
        assert_eq!(ours.len(), theirs.len() + 1, "restore answers too");
        for (ours, theirs) in ours[1..].iter().zip(&theirs) {
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert_eq!(ours.0, theirs.0);
                let (got, want) = (ours.1[0], theirs.1[place]);
                let same = got.is_nan() && want.is_nan() || (got - want).abs() <= 1e-9 * want.abs();
                assert!(same, "{source} at {}: {got}, rrdtool {want}", ours.0);
            }
        }
    }
}

#[test]
fn what_cannot_be_imported_is_named_and_the_rest_goes_on() {
    let dir = folder();
    let files = dir.path().join("rrd");
    std::fs::create_dir_all(files.join("web-1")).unwrap();
    let good = include_str!("../../rrd/src/import/tests/small.xml");
    std::fs::write(files.join("web-1/good.xml"), good).unwrap();
    std::fs::write(files.join("web-1/cut.xml"), good.get(..1500).unwrap()).unwrap();
    std::fs::write(files.join("web-1/other.rrd"), "no file of rrdtool").unwrap();
    let dry = run(&["rrd", "import", "--data", "data", "--dry-run", "rrd"], dir.path());
    assert!(!dir.path().join("data").exists(), "a dry run makes nothing");
    let text = String::from_utf8(dry.stdout).unwrap();
    assert!(text.contains("COUNTER good_beta") && text.contains("1m:5m,3m:12m"), "{text}");
    assert!(Server::start(dir.path(), &[]).stop().success());
    let arguments = ["rrd", "import", "--data", "data", "rrd"];
    let output = run(&arguments, dir.path());
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    for part in ["cut.xml: not imported: it ends too soon", "other.rrd: not imported: not a file"] {
        assert!(errors.contains(part), "{part} is missing in:\n{errors}");
    }
    assert!(String::from_utf8(output.stdout).unwrap().contains("2 series of 1 instance"));
    let server = Server::start(dir.path(), &[]);
    let output = run(&arguments, dir.path());
    let errors = String::from_utf8(output.stderr).unwrap();
    let pid = server.pid().to_string();
    assert!(errors.contains("stopped server") && errors.contains(&pid), "{errors}");
}

#[test]
fn a_damaged_archive_is_not_replaced_by_an_import() {
    let dir = folder();
    let files = dir.path().join("rrd/web-1");
    std::fs::create_dir_all(&files).unwrap();
    let good = include_str!("../../rrd/src/import/tests/small.xml");
    std::fs::write(files.join("good.xml"), good).unwrap();
    assert!(Server::start(dir.path(), &[]).stop().success());
    let arguments = ["rrd", "import", "--data", "data", "rrd"];
    let output = run(&arguments, dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(Server::start(dir.path(), &[]).stop().success());
    let archives = std::fs::read_dir(dir.path().join("data/archives")).unwrap();
    let archives: Vec<_> = archives.map(|entry| entry.unwrap().path()).collect();
    for archive in &archives {
        std::fs::write(archive, "damaged").unwrap();
    }
    let output = run(&arguments, dir.path());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("the archive of web-1 is damaged"), "{errors}");
    for archive in &archives {
        assert_eq!(std::fs::read(archive).unwrap(), b"damaged");
    }
}
