//! The program under test: started on a folder and a free port, killed or stopped at will.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// The bearer token with every scope that every test server is given.
pub(crate) const ADMIN: &str = "a-token-of-the-tests-alone";

/// A running `roundel serve`. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    /// Kept open, so that the server's output has somewhere to go.
    _stdout: BufReader<ChildStdout>,
    /// Such as `http://127.0.0.1:41234`.
    pub(crate) url: String,
    /// The link that logs a person in once.
    pub(crate) link: String,
}

/// The program, with the tests' admin token.
pub(crate) fn roundel() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roundel"));
    command.env("ROUNDEL_ADMIN_TOKEN", ADMIN).env("NO_COLOR", "1");
    command
}

/// A folder for one test's server.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A configuration file in `dir` with a small journal, so that a test takes little disk.
pub(crate) fn config(dir: &Path, more: &str) -> PathBuf {
    let file = dir.join("roundel.toml");
    std::fs::write(&file, format!("journal_size = \"16MiB\"\n{more}")).unwrap();
    file
}

impl Server {
    /// Starts a server on `dir` without an agent of its own, and waits until it listens.
    pub(crate) fn start(dir: &Path, more: &[&str]) -> Self {
        let mut arguments = vec!["--no-local-agent"];
        if !more.contains(&"--config") {
            config(dir, "");
        }
        let file = dir.join("roundel.toml");
        let file = file.to_str().unwrap();
        if !more.contains(&"--config") {
            arguments.extend(["--config", file]);
        }
        arguments.extend(more);
        Self::spawn(dir, &arguments)
    }

    /// Starts a server with just these arguments.
    pub(crate) fn spawn(dir: &Path, arguments: &[&str]) -> Self {
        Self::run(roundel(), dir, arguments)
    }

    /// Starts a server through another program that executes it in its own place.
    pub(crate) fn spawn_in(wrapper: &[&str], dir: &Path, arguments: &[&str]) -> Self {
        let (program, before) = wrapper.split_first().unwrap();
        let mut command = Command::new(program);
        command.args(before).arg(env!("CARGO_BIN_EXE_roundel"));
        command.env("ROUNDEL_ADMIN_TOKEN", ADMIN).env("NO_COLOR", "1");
        Self::run(command, dir, arguments)
    }

    fn run(mut command: Command, dir: &Path, arguments: &[&str]) -> Self {
        let log = File::options().create(true).append(true).open(dir.join("log.txt")).unwrap();
        let mut child = command
            .args(["serve", "--data"])
            .arg(dir.join("data"))
            .args(arguments)
            .args(if arguments.contains(&"--listen") {
                &[][..]
            } else {
                &["--listen", "127.0.0.1:0"]
            })
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let link = first_link(&mut stdout).unwrap_or_else(|| {
            let log = std::fs::read_to_string(dir.join("log.txt")).unwrap_or_default();
            panic!("the server ended before it listened:\n{log}")
        });
        let url = link.split("/login").next().unwrap().to_owned();
        Self { child, _stdout: stdout, url, link }
    }

    /// What becomes of a command that asks this server.
    pub(crate) fn asked(&self, arguments: &[&str]) -> Output {
        roundel().args(arguments).args(["--server", &self.url]).output().unwrap()
    }

    /// What such a command prints, which succeeds.
    #[track_caller]
    pub(crate) fn said(&self, arguments: &[&str]) -> String {
        let output = self.asked(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// SIGKILL: no handler runs.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and what the program made of it.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// True while the process lives.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The first word of the program's output that is a link.
fn first_link(stdout: &mut BufReader<ChildStdout>) -> Option<String> {
    let mut line = String::new();
    while stdout.read_line(&mut line).unwrap() > 0 {
        if let Some(link) = line.split_whitespace().find(|word| word.contains("/login?")) {
            return Some(link.to_owned());
        }
        line.clear();
    }
    None
}

/// Waits until `look` finds something, at most `limit`; the failure says what was waited for.
pub(crate) async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let watch = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(limit, watch)
        .await
        .unwrap_or_else(|_| panic!("waited {limit:?} in vain for {what}"))
}
