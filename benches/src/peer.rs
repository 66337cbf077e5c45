//! rrdtool in its pipe mode, `rrdtool -`: one process, a command a line.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::procfs::Process;

/// A running rrdtool.
pub(crate) struct Rrdtool {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Rrdtool {
    /// Starts rrdtool with `folder` as its current one; `None` where it is not installed.
    pub(crate) fn start(folder: &Path) -> Result<Option<Self>> {
        let mut command = Command::new("rrdtool");
        command.arg("-").current_dir(folder).env("TZ", "UTC");
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = match spawned {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("rrdtool does not start"),
        };
        let commands = process.stdin.take().context("rrdtool without its input")?;
        let answers = process.stdout.take().context("rrdtool without its output")?;
        Ok(Some(Self { process, commands, answers: BufReader::new(answers) }))
    }

    /// Runs one command and reads its whole answer; returns the lines before the final `OK`.
    pub(crate) fn run(&mut self, command: &str) -> Result<String> {
        writeln!(self.commands, "{command}")?;
        self.commands.flush()?;
        let mut answer = String::new();
        loop {
            let start = answer.len();
            if self.answers.read_line(&mut answer)? == 0 {
                bail!("rrdtool ended in the midst of: {command}");
            }
            let line = answer.get(start..).unwrap_or_default();
            if line.starts_with("OK ") {
                answer.truncate(start);
                return Ok(answer);
            }
            if line.starts_with("ERROR") {
                bail!("{command}: {}", line.trim_end());
            }
        }
    }
}

impl Rrdtool {
    pub(crate) fn process(&self) -> Process {
        Process::Other(self.process.id())
    }

    /// Processor time it has used so far.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        self.process().processor_time()
    }
}

impl Drop for Rrdtool {
    fn drop(&mut self) {
        // It ends by itself at the end of its input, but that only closes with us.
        if self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}
