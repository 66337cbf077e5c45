//! One run of a program of the operator's: bounded in time and output, ended with all that it started.

use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::account::Account;

/// What a program may write while it is told to end, before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How long what a program leaves behind may hold its output open after it has ended.
const DRAIN: Duration = Duration::from_millis(200);
/// Bytes of errors that are kept for a message; the rest is read and forgotten.
const ERRORS_MAX: usize = 4 << 10;
/// Where programs are looked for by those we start.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run, and how far it may go.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Its environment beside `PATH` and `LC_ALL=C`; nothing of ours is passed on.
    pub(crate) environment: Vec<(String, String)>,
    /// Whom it runs as; as we do when nobody is named.
    pub(crate) account: Option<Account>,
    pub(crate) timeout: Duration,
    /// Bytes that it may write. Half of a value is another value, so one that writes more has failed.
    pub(crate) output_max: usize,
}

/// What a program did that ended by itself.
#[derive(Debug)]
pub(crate) struct Output {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
    pub(crate) errors: String,
}

/// Why there is no output.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("{}: cannot be started: {error}", path.display())]
    NotStarted { path: PathBuf, error: std::io::Error },
    #[error("it did not end in {} s and was killed", .0.as_secs())]
    TimedOut(Duration),
    #[error("it wrote more than {0} bytes and was killed")]
    TooLong(usize),
    #[error("its output cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
}

impl Program {
    /// Runs it once. Dropped before its end, the program and all it started are killed.
    pub(crate) async fn run(&self) -> Result<Output, Failure> {
        let mut child = self.start()?;
        let group = Group::of(&child);
        match timeout(self.timeout, self.finished(&mut child)).await {
            Ok(Ok(output)) => {
                group.release();
                Ok(output)
            }
            Ok(Err(failure)) => {
                group.end(&mut child).await;
                Err(failure)
            }
            Err(_) => {
                group.end(&mut child).await;
                Err(Failure::TimedOut(self.timeout))
            }
        }
    }

    fn start(&self) -> Result<Child, Failure> {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(account) = self.account {
            command.uid(account.user).gid(account.group);
        }
        let failed = |error| Failure::NotStarted { path: self.path.clone(), error };
        command.spawn().map_err(failed)
    }

    async fn finished(&self, child: &mut Child) -> Result<Output, Failure> {
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut text, mut errors) = (Vec::new(), Vec::new());
        let status = {
            let text = gather(stdout, &mut text, self.output_max);
            let mut reading = pin!(async { tokio::join!(text, sip(stderr, &mut errors)).0 });
            tokio::select! {
                read = &mut reading => {
                    read?;
                    child.wait().await?
                }
                status = child.wait() => {
                    if let Ok(read) = timeout(DRAIN, &mut reading).await {
                        read?;
                    }
                    status?
                }
            }
        };
        Ok(Output::new(status, &text, &errors))
    }
}

impl Output {
    fn new(status: ExitStatus, text: &[u8], errors: &[u8]) -> Self {
        Self {
            code: status.code(),
            text: String::from_utf8_lossy(text).into_owned(),
            errors: String::from_utf8_lossy(errors).into_owned(),
        }
    }
}

/// Reads to the end, or to the limit.
async fn gather(
    from: Option<impl AsyncRead + Unpin>,
    into: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Failure> {
    let Some(from) = from else { return Ok(()) };
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    from.take(most).read_to_end(into).await?;
    if into.len() > limit { Err(Failure::TooLong(limit)) } else { Ok(()) }
}

/// Reads to the end and keeps the beginning; a full pipe would stop the program.
async fn sip(from: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut piece = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        let room = ERRORS_MAX.saturating_sub(into.len()).min(read);
        into.extend(piece.iter().take(room));
    }
}

/// The process group of a program: itself and what it started and did not send away.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// Asks it to end, then ends it.
    async fn end(self, child: &mut Child) {
        self.signal(Signal::TERM);
        // An error of waiting says that there is nothing to wait for.
        let _ended = timeout(GRACE, child.wait()).await;
        self.signal(Signal::KILL);
        let _reaped = child.wait().await;
    }

    /// The program has ended; what it left behind and still holds is ended with the drop.
    fn release(mut self) {
        self.signal(Signal::KILL);
        self.0 = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // Nobody there any more is what is wanted.
            let _gone = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("GIVEN".into(), "here".into())],
            account: None,
            timeout: Duration::from_secs(20),
            output_max: 1000,
        }
    }

    #[tokio::test]
    async fn a_program_sees_its_own_environment_and_none_of_ours() {
        let output = shell("echo $GIVEN $LC_ALL [$HOME$CARGO_MANIFEST_DIR]; echo no >&2; exit 2");
        let output = output.run().await.unwrap();
        assert_eq!((output.code, output.text.as_str()), (Some(2), "here C []\n"));
        assert_eq!(output.errors, "no\n");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        // It ignores the first request, and so does what it started.
        let script = format!("trap '' TERM; sleep 1000 & echo $! > {}; wait; wait", file.display());
        let program = Program { timeout: Duration::from_millis(300), ..shell(&script) };
        assert!(matches!(program.run().await, Err(Failure::TimedOut(_))));
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        wait_until_gone(pid).await;
    }

    #[tokio::test]
    async fn a_program_that_writes_without_end_is_killed() {
        let failure = shell("yes").run().await.unwrap_err();
        assert!(matches!(failure, Failure::TooLong(1000)), "{failure}");
    }

    #[tokio::test]
    async fn what_is_left_behind_does_not_hold_up_the_answer() {
        let output = shell("sleep 1000 & echo $!; exit 0").run().await.unwrap();
        assert_eq!(output.code, Some(0));
        wait_until_gone(output.text.trim().parse().unwrap()).await;
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let program = Program { path: "/nonexistent/check".into(), ..shell("") };
        let failure = program.run().await.unwrap_err().to_string();
        assert!(failure.starts_with("/nonexistent/check: cannot be started"), "{failure}");
    }

    /// Until the process ended; a zombie that nobody has reaped yet has.
    async fn wait_until_gone(pid: i32) {
        let gone = async {
            loop {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
                if stat.map_or(true, |text| text.contains(") Z ")) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(20), gone).await.expect("it ends");
    }
}
