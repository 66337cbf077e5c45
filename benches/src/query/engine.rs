//! The three servers that are asked: our own program, `VictoriaMetrics`, Prometheus.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::client::Client;
use crate::procfs::Process;

const TOKEN: &str = "a-token-of-the-benchmark-alone";
/// Until a server answers.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// A running server. Dropped, it is killed.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    process: Child,
    address: SocketAddr,
    token: Option<&'static str>,
    /// What is added to each query.
    more: &'static str,
}

impl Engine {
    /// Our program, which lies beside this one.
    pub(crate) fn roundel(folder: &Path) -> Result<Self> {
        fs::write(folder.join("roundel.toml"), "journal_size = \"1GiB\"\n")?;
        let config = folder.join("roundel.toml").display().to_string();
        Self::roundel_with(folder, &["--config", &config])
    }

    /// Our program with these arguments.
    pub(crate) fn roundel_with(folder: &Path, arguments: &[&str]) -> Result<Self> {
        let program = beside("roundel")?;
        ensure!(
            program.exists(),
            "{} is missing; run `cargo build --release`, or `cargo xtask bench`",
            program.display()
        );
        let mut command = Command::new(program);
        command.args(["serve", "--no-local-agent", "--listen", "127.0.0.1:0"]).args(arguments);
        command.arg("--data").arg(folder.join("data"));
        command.env("ROUNDEL_ADMIN_TOKEN", TOKEN).env("NO_COLOR", "1");
        command.stdout(Stdio::piped()).stderr(File::create(folder.join("log.txt"))?);
        let mut process = command.spawn()?;
        let output = process.stdout.take().context("a server without its output")?;
        let address = listening(BufReader::new(output));
        let Ok(address) = address else {
            process.kill()?;
            let log = fs::read_to_string(folder.join("log.txt")).unwrap_or_default();
            bail!("roundel does not listen:\n{log}");
        };
        Ok(Self { name: "roundel", process, address, token: Some(TOKEN), more: "" })
    }

    /// `None` where it has not been brought.
    pub(crate) fn victoria(folder: &Path) -> Result<Option<Self>> {
        let Some(program) = peer("victoria-metrics")? else { return Ok(None) };
        let address = free_address()?;
        let mut command = Command::new(program);
        command.arg(format!("-httpListenAddr={address}")).arg("-retentionPeriod=2y");
        command.arg(format!("-storageDataPath={}", folder.join("data").display()));
        command.arg("-loggerLevel=ERROR");
        let process = start(&mut command, folder)?;
        // Its answers are computed each time, as the others' are, and not kept from the last time.
        let more = "&nocache=1";
        Ok(Some(Self { name: "Victoria", process, address, token: None, more }))
    }

    /// `None` where it has not been brought.
    pub(crate) fn prometheus(folder: &Path) -> Result<Option<Self>> {
        let Some(program) = peer("prometheus")? else { return Ok(None) };
        let (address, config) = (free_address()?, folder.join("prometheus.yml"));
        fs::write(&config, "global:\n  scrape_interval: 1m\n")?;
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.args(["--web.enable-remote-write-receiver", "--log.level=error"]);
        let process = start(&mut command, folder)?;
        Ok(Some(Self { name: "Prometheus", process, address, token: None, more: "" }))
    }

    /// A connection; waits until the server answers.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let mut waited = Duration::ZERO;
        loop {
            match Client::connect(self.address, self.token).await {
                Err(error) if waited > PATIENCE => return Err(error.context(self.name)),
                Err(_) => tokio::time::sleep(PAUSE).await,
                connected => return connected,
            }
            waited += PAUSE;
        }
    }

    /// Has our program write its archives within a minute, as it does when one of them is changed: one
    /// series of this name is dropped. The others are left alone.
    pub(crate) async fn bring_about_a_round(&self, series: &str) -> Result<()> {
        if self.token.is_none() {
            return Ok(());
        }
        let mut client = self.connect().await?;
        let list: serde_json::Value = serde_json::from_slice(&client.get("/v1/instances").await?)?;
        let mut all = list.as_array().into_iter().flatten();
        let one = all.find(|one| one["archive"]["series"].as_u64() > Some(1));
        let id = one.and_then(|one| one["id"].as_str()).context("an instance with series")?;
        let body = serde_json::json!({ "match": [format!("__name__={series}")] });
        client.post(&format!("/v1/instances/{id}/drop"), body.to_string()).await
    }

    /// The path of a range query.
    pub(crate) fn range(&self, text: &str, range: &Range) -> String {
        let Range { start, end, step_secs } = range;
        let (text, more) = (encoded(text), self.more);
        format!("/api/v1/query_range?query={text}&start={start}&end={end}&step={step_secs}{more}")
    }

    /// The path of a query of one moment, in seconds.
    pub(crate) fn instant(&self, text: &str, at: i64) -> String {
        let (text, more) = (encoded(text), self.more);
        format!("/api/v1/query?query={text}&time={at}{more}")
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it wants to see as a bearer token.
    pub(crate) const fn token(&self) -> Option<&'static str> {
        self.token
    }

    pub(crate) fn process(&self) -> Process {
        Process::Other(self.process.id())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        if self.process.kill().is_ok() {
            drop(self.process.wait());
        }
    }
}

/// Of a range query, in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) step_secs: i64,
}

/// The address in the link that the server prints first. What it prints later is read and dropped.
fn listening(mut output: impl BufRead + Send + 'static) -> Result<SocketAddr> {
    let mut line = String::new();
    while output.read_line(&mut line)? > 0 {
        let link = line.split_whitespace().find_map(|word| word.split_once("/login?"));
        if let Some((url, _)) = link {
            let address = url.trim_start_matches("http://").parse()?;
            std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(drop));
            return Ok(address);
        }
        line.clear();
    }
    bail!("it ended")
}

fn start(command: &mut Command, folder: &Path) -> Result<Child> {
    let log = File::create(folder.join("log.txt"))?;
    let started = command.stdout(log.try_clone()?).stderr(log).spawn();
    started.with_context(|| format!("{command:?} does not start"))
}

/// A program beside this one.
fn beside(name: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

/// A peer that `cargo xtask` has unpacked, or an installed one.
fn peer(name: &str) -> Result<Option<PathBuf>> {
    let unpacked = beside("../peers/usr/bin")?.join(name);
    let places = [unpacked, Path::new("/usr/bin").join(name)];
    Ok(places.into_iter().find(|path| path.exists()))
}

/// A port that was free a moment ago, for programs that cannot take port 0.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Percent-encoded, all but letters and digits.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
