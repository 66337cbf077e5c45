//! `cargo xtask demo`: a fleet of five on loopback, real load on one of them, and what Roundel makes of it.
//!
//! Four of the five are made up: their agents read a folder that this program keeps looking like a calm
//! host's /proc. The fifth reads this very machine, which is then kept busy.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::outcome::say;
use crate::{cargo, root};

const ADMIN: &str = "demo-admin-token";
/// A secret that is no secret: everything happens on loopback and ends by itself.
const SECRET: &str = "whsec_ZGVtby1zZWNyZXQtb2Ytcm91bmRlbC1kZW1vLTAxMjM=";
const FLEET: [(&str, &str); 5] = [
    ("web-1", "web"),
    ("web-2", "web"),
    ("db-1", "database"),
    ("cache-1", "cache"),
    ("batch-1", "batch"),
];
const RULES: &str = r#"
[[rule]]
name = "cpu busy"
expr = '100 * (1 - sum by (instance) (rate(node_cpu_seconds_total{mode="idle"}[4s])) / sum by (instance) (rate(node_cpu_seconds_total[4s])))'
warning = "> 60"
critical = "> 85"
clear = "< 40"
for = "3s"
every = "1s"
unit = "%"
annotations = { summary = "{instance} is busy" }
"#;
/// How long each act may take before the demo gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// A webhook as it came.
struct Told {
    body: String,
    signature: String,
}

impl Told {
    /// What it tells of the wanted state, in a line.
    fn line(&self, state: &str) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        let data = &body["data"];
        (data["state"] == state).then(|| {
            format!(
                "{} {} -> {} value {:.1} {}, signed {}",
                body["type"].as_str().unwrap_or_default(),
                data["prev_state"].as_str().unwrap_or_default(),
                state,
                data["value"].as_f64().unwrap_or(f64::NAN),
                data["incident"].as_str().unwrap_or_default(),
                self.signature
            )
        })
    }
}

/// Processes of the demo, ended with it.
struct Cast(Vec<Child>);

impl Drop for Cast {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Already gone is as good as killed.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// Plays the demo from an empty folder to the end.
pub(crate) fn play(listen: &str) -> Result<()> {
    crate::run(cargo().args(["build", "--release", "--quiet", "--bin", "roundel"]))?;
    let stage = root().join("target/demo");
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    fs::create_dir_all(stage.join("data/rules"))?;
    fs::write(stage.join("data/rules/demo.toml"), RULES)?;
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = receive_webhooks(Arc::clone(&told))?;
    let config = stage.join("roundel.toml");
    fs::write(
        &config,
        format!(
            "[mail]\nto = [\"night@example.org\"]\n\
             [[webhook]]\nname = \"scaler\"\nurl = \"{hook}\"\nsecret = \"{SECRET}\"\n"
        ),
    )?;
    let mut cast = Cast(Vec::new());
    let link = start_server(&stage, &config, listen, &mut cast)?;
    say(&format!("a server on an empty folder; look at {link}"));
    let url = link.split("/login").next().unwrap_or(&link).to_owned();
    let busy = Arc::new(AtomicU32::new(0));
    burn(&busy);
    for (number, (name, role)) in FLEET.iter().enumerate() {
        start_agent(&stage, &url, number, name, role, &mut cast)?;
    }
    say("five agents enrol: web-1 is this machine, the others are made up and calm");
    for (load, state) in [(75, "WARNING"), (100, "CRITICAL"), (0, "OK")] {
        busy.store(load, Ordering::SeqCst);
        say(&format!("\nload on web-1: {load} % of every core; waiting for {state}"));
        let subject = await_mail(&stage.join("data/mail"), state)?;
        say(&format!("  mail     {subject}"));
        let hook = await_hook(&told, state)?;
        say(&format!("  webhook  {hook}"));
    }
    say(&format!("\nmail files: {}", stage.join("data/mail").display()));
    Ok(())
}

fn start_server(stage: &Path, config: &Path, listen: &str, cast: &mut Cast) -> Result<String> {
    let mut child = program()
        .args([
            "serve",
            "--no-local-agent",
            "--policy",
            "1s:2h,1m:2d",
            "--listen",
            listen,
            "--data",
        ])
        .arg(stage.join("data"))
        .arg("--config")
        .arg(config)
        .env("ROUNDEL_ADMIN_TOKEN", ADMIN)
        .stdout(Stdio::piped())
        .stderr(fs::File::create(stage.join("server.log"))?)
        .spawn()?;
    let stdout = child.stdout.take().context("the server has no output")?;
    cast.0.push(child);
    for line in BufReader::new(stdout).lines() {
        if let Some(link) = line?.split_whitespace().find(|word| word.contains("/login?")) {
            return Ok(link.to_owned());
        }
    }
    bail!("the server ended; see {}", stage.join("server.log").display())
}

fn start_agent(
    stage: &Path,
    url: &str,
    number: usize,
    name: &str,
    role: &str,
    cast: &mut Cast,
) -> Result<()> {
    let mut command = program();
    command
        .args(["agent", "--collector", url, "--token", ADMIN, "--step", "1s", "--name", name])
        .args(["--label", &format!("role={role}"), "--state"])
        .arg(stage.join(name))
        .stdin(Stdio::null())
        .stderr(fs::File::create(stage.join(format!("{name}.log")))?);
    if number > 0 {
        let host = stage.join(format!("{name}-proc"));
        keep_calm_host(&host, number)?;
        command.arg("--proc").arg(host);
    }
    cast.0.push(command.spawn()?);
    Ok(())
}

fn program() -> Command {
    Command::new(root().join("target/release/roundel"))
}

/// Keeps a folder looking like the /proc of a calm host with two cores, until the demo ends.
fn keep_calm_host(folder: &Path, seed: usize) -> Result<()> {
    for name in ["meminfo", "vmstat", "diskstats", "net/dev", "sys/kernel/random/boot_id"] {
        let to = folder.join(name);
        fs::create_dir_all(to.parent().unwrap_or(folder))?;
        if let Ok(text) = fs::read(Path::new("/proc").join(name)) {
            fs::write(to, text)?;
        }
    }
    let folder = folder.to_owned();
    let mut second = 0_u64;
    write_calm_second(&folder, seed as u64, second)?;
    thread::spawn(move || {
        loop {
            pause(Duration::from_secs(1));
            second += 1;
            if write_calm_second(&folder, seed as u64, second).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// What a calm host's /proc says `second` seconds after its start: 200 ticks a second on two cores.
fn write_calm_second(folder: &Path, seed: u64, second: u64) -> std::io::Result<()> {
    let busy_ticks = second * (8 + 5 * seed) + (second * seed) % 7;
    let idle = 1_000_000 + second * 200 - busy_ticks.min(second * 200);
    let stat = format!(
        "cpu  {} 0 {} {idle} 0 0 0 0 0 0\nctxt {}\nbtime 1700000000\nprocesses {}\nprocs_running 1\nprocs_blocked 0\n",
        50_000 + busy_ticks * 3 / 4,
        20_000 + busy_ticks / 4,
        900_000 + second * 400,
        4000 + second / 3,
    );
    let load = seed * 7 + second % 5;
    replace(&folder.join("stat"), &stat)?;
    replace(&folder.join("loadavg"), &format!("0.{load:02} 0.{load:02} 0.{load:02} 1/99 4242\n"))
}

/// Replaces a file in one step, so that its reader never sees half of it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

/// Keeps every core busy for the wanted share of each tenth of a second, until the demo ends.
fn burn(share: &Arc<AtomicU32>) {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    for _ in 0..cores {
        let share = Arc::clone(share);
        thread::spawn(move || {
            loop {
                let wanted = share.load(Ordering::SeqCst);
                let end = now() + Duration::from_millis(u64::from(wanted));
                while now() < end {
                    std::hint::spin_loop();
                }
                pause(Duration::from_millis(u64::from(100 - wanted.min(100)).max(1)));
            }
        });
    }
}

/// Takes webhooks on a free port: keeps each body, answers 204.
fn receive_webhooks(told: Arc<Mutex<Vec<Told>>>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let Some((signature, body)) = read_request(&mut reader) else { continue };
            if (&stream)
                .write_all(
                    b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                )
                .is_ok()
                && let Ok(mut told) = told.lock()
            {
                told.push(Told { body, signature });
            }
        }
    });
    Ok(url)
}

fn read_request(reader: &mut impl std::io::BufRead) -> Option<(String, String)> {
    let (mut length, mut signature) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "webhook-signature" => value.clone_into(&mut signature),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((signature, String::from_utf8_lossy(&body).into_owned()))
}

fn await_mail(folder: &Path, state: &str) -> Result<String> {
    let wanted = format!("[{state}]");
    wait_for(&format!("a mail of {state}"), || {
        let files = fs::read_dir(folder).ok()?;
        let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
        paths.sort();
        paths.iter().rev().find_map(|path| {
            let text = fs::read_to_string(path).ok()?;
            let subject = text.lines().find(|line| line.starts_with("Subject: "))?;
            subject.contains(&wanted).then(|| subject.to_owned())
        })
    })
}

fn await_hook(told: &Mutex<Vec<Told>>, state: &str) -> Result<String> {
    wait_for(&format!("a webhook of {state}"), || {
        told.lock().ok()?.iter().rev().find_map(|told| told.line(state))
    })
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let end = now() + PATIENCE;
    while now() < end {
        if let Some(found) = look() {
            return Ok(found);
        }
        pause(Duration::from_millis(100));
    }
    bail!("waited {} s in vain for {what}", PATIENCE.as_secs())
}

#[expect(clippy::disallowed_methods, reason = "the demo plays in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the demo plays in real time")]
fn pause(time: Duration) {
    thread::sleep(time);
}
