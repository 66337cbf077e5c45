//! rrdcached on a socket: updates in batches, with its journal, as rrdtool's answer to many files.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::meter::Wall;
use crate::procfs::Process;

/// Long enough for a daemon to open its socket.
const START_SECS: u64 = 10;

/// A running rrdcached, and a connection to it.
pub(crate) struct Rrdcached {
    process: Child,
    commands: UnixStream,
    answers: BufReader<UnixStream>,
}

impl Rrdcached {
    /// Starts it for the rrdtool files in `folder`; `None` where it is not installed.
    pub(crate) fn start(folder: &Path) -> Result<Option<Self>> {
        let (socket, journal) = (folder.join("cached.sock"), folder.join("cached-journal"));
        std::fs::create_dir_all(&journal)?;
        let mut command = Command::new("rrdcached");
        command.arg("-g").arg("-l").arg(format!("unix:{}", socket.display()));
        command.arg("-b").arg(folder).arg("-j").arg(&journal).arg("-p").arg(folder.join("pid"));
        // Values wait until they are asked to be flushed: at most half an hour, as -w says.
        command.args(["-w", "1800", "-f", "7200", "-V", "LOG_ERR"]);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = match spawned.spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("rrdcached does not start"),
        };
        match connect(&mut process, &socket) {
            Ok(commands) => {
                let answers = BufReader::new(commands.try_clone()?);
                Ok(Some(Self { process, commands, answers }))
            }
            Err(error) => {
                process.kill()?;
                process.wait()?;
                Err(error)
            }
        }
    }

    pub(crate) fn process(&self) -> Process {
        Process::Other(self.process.id())
    }

    /// Sends commands as one batch; all must succeed.
    pub(crate) fn batch(&mut self, commands: &str) -> Result<()> {
        self.commands.write_all(b"BATCH\n")?;
        self.answer()?;
        self.commands.write_all(commands.as_bytes())?;
        self.commands.write_all(b".\n")?;
        let answer = self.answer()?;
        if !answer.starts_with("0 ") {
            bail!("rrdcached refuses: {answer}");
        }
        Ok(())
    }

    /// Waits until the values of a file are in it.
    pub(crate) fn flush(&mut self, file: &str) -> Result<()> {
        writeln!(self.commands, "FLUSH {file}")?;
        let answer = self.answer()?;
        if !answer.starts_with("0 ") {
            bail!("rrdcached does not flush {file}: {answer}");
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<String> {
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            bail!("rrdcached ended");
        }
        Ok(answer.trim_end().to_owned())
    }
}

fn connect(process: &mut Child, socket: &Path) -> Result<UnixStream> {
    let wall = Wall::start();
    while wall.elapsed().as_secs() < START_SECS {
        if let Ok(stream) = UnixStream::connect(socket) {
            return Ok(stream);
        }
        if let Some(status) = process.try_wait()? {
            bail!("rrdcached ended with {status}");
        }
        std::thread::yield_now();
    }
    bail!("rrdcached opened no socket within {START_SECS} s");
}

impl Drop for Rrdcached {
    fn drop(&mut self) {
        if self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}
