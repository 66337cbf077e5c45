//! Random files and updates, given to the installed rrdtool and to ours: every row the same.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rrd::MemDisk;

use super::file::run_on;
use super::schedule::Schedule;

/// Schedules of one run; `ROUNDEL_SCHEDULES` asks for another number.
const USUAL_COUNT: u64 = 10_000;
/// Each waits for its pipe half of the time.
const PEERS: u64 = 2;

#[test]
fn rows_are_those_of_the_installed_rrdtool() {
    let peers: Option<Vec<_>> = (0..PEERS).map(|_| Rrdtool::start()).collect();
    let Some(peers) = peers else {
        return not_run("rows_are_those_of_the_installed_rrdtool", "rrdtool");
    };
    let number = |name, usual| {
        std::env::var(name).map_or(usual, |text: String| text.parse::<u64>().unwrap())
    };
    let (first, count) = (number("ROUNDEL_SEED", 1), number("ROUNDEL_SCHEDULES", USUAL_COUNT));
    let compared: usize = std::thread::scope(|scope| {
        let share = |(number, mut peer): (u64, Rrdtool)| {
            let seeds = (first..first + count).filter(move |seed| seed % PEERS == number);
            scope.spawn(move || seeds.map(|seed| check(&mut peer, seed)).sum::<usize>())
        };
        let workers: Vec<_> = (0..).zip(peers).map(share).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    eprintln!("seeds {first} to {}: {compared} lines compared", first + count - 1);
    assert!(count < 1000 || compared as u64 > count, "hardly anything was compared");
}

/// How many lines of output were the same.
fn check(peer: &mut Rrdtool, seed: u64) -> usize {
    let schedule = Schedule::of(seed);
    let disk = MemDisk::new();
    let mut compared = 0;
    let mut both = |command: &str, words: &[String]| {
        let theirs = peer.run(command, words);
        let mut ours = vec![command];
        ours.extend(file_of(command));
        ours.extend(words.iter().map(String::as_str));
        let ours = run_on(&disk, &ours);
        let ours = if ours.is_ok() { Ok(ours.output) } else { Err(ours.error) };
        let same = match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => difference(ours, theirs),
            (Err(_), Err(_)) => Ok(1),
            _ => Err(format!("{ours:?}\nrrdtool: {theirs:?}")),
        };
        compared +=
            same.unwrap_or_else(|what| panic!("seed {seed}, {command}: {what}\n{schedule:#?}"));
    };
    both("create", &schedule.create);
    for words in &schedule.updates {
        both("update", words);
        both("last", &[]);
    }
    for words in &schedule.fetches {
        both("fetch", words);
    }
    both("dump", &[]);
    both("xport", &schedule.xport);
    compared
}

/// The file that a command is about; `xport` names files in its definitions.
fn file_of(command: &str) -> Option<&'static str> {
    (command != "xport").then_some("f")
}

/// The number of lines with rows that are the same, or the first that is not.
fn difference(ours: &str, theirs: &str) -> Result<usize, String> {
    let is_row = |line: &&str| {
        line.contains("<row>") || line.contains("<v>") || line.contains(": ") || !line.contains('<')
    };
    let (our_rows, their_rows): (Vec<_>, Vec<_>) =
        (ours.lines().filter(is_row).collect(), theirs.lines().filter(is_row).collect());
    if our_rows.len() != their_rows.len() {
        return Err(format!("{ours}\nrrdtool:\n{theirs}"));
    }
    for (our, their) in our_rows.iter().zip(&their_rows) {
        if our != their && !are_close(our, their) {
            return Err(format!("{our}\nrrdtool: {their}\nin {ours}"));
        }
    }
    Ok(our_rows.len())
}

/// Word for word the same, numbers to nine digits.
fn are_close(ours: &str, theirs: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.split([' ', '<', '>']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let (ours, theirs) = (words(ours), words(theirs));
    let close = |a: &str, b: &str| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 + 1e-9 * b.abs(),
        _ => a == b,
    };
    ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| close(a, b))
}

/// One rrdtool that takes commands from a pipe.
struct Rrdtool {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _dir: tempfile::TempDir,
}

impl Rrdtool {
    /// `None` where it is not installed.
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("rrdtool");
        command.arg("-").current_dir(dir.path()).env("TZ", "UTC").env("LC_ALL", "C");
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { child, input, output: BufReader::new(output), _dir: dir })
    }

    /// What a command prints, or its complaint.
    fn run(&mut self, command: &str, words: &[String]) -> Result<String, String> {
        let file = file_of(command).unwrap_or_default();
        writeln!(self.input, "{command} {file} {}", words.join(" ")).unwrap();
        self.input.flush().unwrap();
        let mut printed = String::new();
        loop {
            let start = printed.len();
            assert!(self.output.read_line(&mut printed).unwrap() > 0, "rrdtool ended: {printed}");
            let line = printed.split_at(start).1;
            if line.starts_with("OK ") {
                printed.truncate(start);
                // After a complaint of `xport` an empty line is left over.
                return Ok(printed.trim_start_matches('\n').to_owned());
            }
            if line.starts_with("ERROR") {
                return Err(line.to_owned());
            }
        }
    }
}

impl Drop for Rrdtool {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Says that a test did not run, and what it lacks, where `cargo xtask test` reads it.
#[expect(clippy::print_stderr, reason = "the runner shows it")]
fn not_run(test: &str, needs: &str) {
    let line = format!("not run: {test} (needs {needs})\n");
    eprint!("{line}");
    if let Some(file) = std::env::var_os("ROUNDEL_NOT_RUN") {
        let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}
