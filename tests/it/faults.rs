//! Disks that fail under the running program: what is acknowledged stays true, the others go on.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fixtures::remote_write::Series;
use http::StatusCode;

use crate::peers::{not_run, program};
use crate::server::{Server, eventually, folder};
use crate::steady::now_secs;
use crate::{http as client, server};

const POLICY: [&str; 2] = ["--policy", "1s:1h,1m:1d"];
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon a server that can no longer acknowledge must say so.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Readings of a series in one request that shall take much of the journal: some 300 KB.
const MANY: i64 = 15_000;

/// `count` readings of one series of an instance, one a second, the last `ago` seconds back; each is
/// its second modulo 1,000.
fn readings(instance: &str, count: i64, ago: i64) -> Series {
    let labels = [("__name__", "m"), ("job", "it"), ("instance", instance)];
    let last = i64::try_from(now_secs()).unwrap() - ago;
    (last + 1 - count..=last).fold(Series::new(&labels), |series, at| {
        series.reading(at * 1000, f64::from(i32::try_from(at % 1000).unwrap()))
    })
}

/// Sends readings of these instances; the status, 0 when there is no server.
async fn push(url: &str, instances: &[&str], count: i64, ago: i64) -> u16 {
    let series: Vec<_> = instances.iter().map(|name| readings(name, count, ago)).collect();
    let answer = client::remote_write(url, &series).await;
    answer.map_or(0, |answer| {
        let later = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::INSUFFICIENT_STORAGE];
        if later.contains(&answer.status) {
            assert!(answer.headers.contains_key("retry-after"), "{}", answer.text());
        }
        answer.status.as_u16()
    })
}

/// The values of an instance's series in a span, by second.
async fn stored(url: &str, instance: &str, from: i64, to: i64) -> BTreeMap<i64, f64> {
    let pairs = [
        ("query", format!("m{{instance=\"{instance}\"}}")),
        ("start", from.to_string()),
        ("end", to.to_string()),
        ("step", "1".to_owned()),
    ];
    let url = format!("{url}/api/v1/query_range?{}", client::encoded(&pairs));
    let json = client::get(&url).await.json();
    let values = json["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let point = |point: &serde_json::Value| {
        #[expect(clippy::cast_possible_truncation, reason = "whole seconds of this century")]
        let at = point[0].as_f64().unwrap() as i64;
        (at, point[1].as_str().unwrap().parse().unwrap())
    };
    values.iter().map(point).collect()
}

/// A family of the program's own metrics that has one series.
async fn metric(url: &str, name: &str) -> f64 {
    let text = client::get(&format!("{url}/metrics")).await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} is missing:\n{text}")).parse().unwrap()
}

/// The archive of the instance of this name.
async fn archive(url: &str, data: &Path, name: &str) -> PathBuf {
    let list = client::get(&format!("{url}/v1/instances")).await.json();
    let found = list.as_array().unwrap().iter().find(|instance| instance["name"] == name);
    let id = found.unwrap_or_else(|| panic!("{name} is not among {list}"))["id"].as_str().unwrap();
    data.join("archives").join(format!("{id}.rrd"))
}

/// Fills the journal until a round begins, which it does at three quarters.
async fn bring_about_a_round(url: &str, instance: &str) {
    let mut last = metric(url, "roundel_journal_fill_ratio").await;
    eventually("a round", PATIENCE, async || {
        let status = push(url, &[instance], MANY, 1).await;
        assert!([204, 503].contains(&status), "{status}");
        let now = metric(url, "roundel_journal_fill_ratio").await;
        let is_trimmed = now < last;
        last = now;
        is_trimmed.then_some(())
    })
    .await;
}

/// System calls of a running server that fail from now on, until this is dropped.
struct Injected {
    strace: Child,
    calls: PathBuf,
}

impl Injected {
    /// `None`, and said, where strace is missing or may not attach.
    async fn into(test: &str, server: &Server, dir: &Path, options: &[&str]) -> Option<Self> {
        let program = program(test, "strace")?;
        let (calls, log) = (dir.join("calls.txt"), dir.join("strace.txt"));
        let pid = server.pid().to_string();
        let strace = Command::new(program)
            .args(["-f", "-y", "-p", &pid, "-o"])
            .arg(&calls)
            .args(options)
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut injected = Self { strace, calls };
        let attached = eventually("strace", PATIENCE, async || {
            let said = std::fs::read_to_string(&log).unwrap();
            let has_ended = injected.strace.try_wait().unwrap().is_some();
            (said.contains("attached") || has_ended).then_some(!has_ended)
        })
        .await;
        if !attached {
            not_run(test, "strace that may attach to its processes");
        }
        attached.then_some(injected)
    }

    /// The calls that were made to fail.
    fn failed(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(&self.calls).unwrap();
        calls.lines().filter(|line| line.contains("(INJECTED)")).map(str::to_owned).collect()
    }
}

impl Drop for Injected {
    fn drop(&mut self) {
        // SIGTERM, so that it lets go of the server; already gone is as good.
        let pid = rustix::process::Pid::from_child(&self.strace);
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _reaped = self.strace.wait();
    }
}

/// R08. Nobody is told of a success after a sync has failed, and the sync is not tried again.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_of_the_journal_nothing_is_acknowledged() {
    let dir = folder();
    let mut server = Server::start(dir.path(), &POLICY);
    let url = server.url.clone();
    assert_eq!(push(&url, &["a"], 60, 60).await, 204);
    let options = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"];
    let test = "after a failed sync of the journal";
    let Some(injected) = Injected::into(test, &server, dir.path(), &options).await else { return };
    let refused = tokio::time::timeout(AT_ONCE, push(&url, &["a"], 1, 2)).await;
    assert_eq!(refused, Ok(503));
    let ready = client::get_bare(&format!("{url}/readyz")).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    for ago in 0..20 {
        assert_eq!(push(&url, &["a"], 1, ago).await, 503, "{ago}");
    }
    let health = client::get(&format!("{url}/status")).await.text();
    assert!(health.contains("stopped"), "the page says so: {health}");
    let failed = injected.failed();
    let syncs = failed.iter().filter(|call| call.contains("segment-")).count();
    assert_eq!(syncs, 1, "once and never again: {failed:#?}");
    assert!(server.lives());
    drop(injected);
    let now = i64::try_from(now_secs()).unwrap();
    server.kill();
    let server = Server::start(dir.path(), &POLICY);
    let found = stored(&server.url, "a", now - 120, now).await;
    assert!(found.len() >= 58, "what was acknowledged before is there: {}", found.len());
    assert_eq!(push(&server.url, &["a"], 1, 1).await, 204);
}

/// R09. One archive that cannot be written: the journal is trimmed for the others, and nothing of it
/// is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_cannot_be_written_is_set_apart_and_comes_back() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let url = server.url.clone();
    let now = i64::try_from(now_secs()).unwrap();
    assert_eq!(push(&url, &["a", "b", "c"], 100, 100).await, 204);
    let file = archive(&url, &dir.path().join("data"), "b").await;
    let options = ["-P", file.to_str().unwrap(), "-e", "trace=fdatasync,pwrite64"];
    let inject = ["-e", "inject=fdatasync,pwrite64:error=EIO"];
    let test = "an archive that cannot be written";
    let options = [&options[..], &inject[..]].concat();
    let Some(injected) = Injected::into(test, &server, dir.path(), &options).await else { return };
    bring_about_a_round(&url, "a").await;
    assert!(!injected.failed().is_empty(), "its writes fail");
    assert!((metric(&url, "roundel_instances_unavailable").await - 1.0).abs() < 1e-9);
    assert_eq!(push(&url, &["b"], 1, 50).await, 503);
    assert_eq!(push(&url, &["a", "c"], 1, 50).await, 204);
    assert_eq!(push(&url, &["a", "b"], 1, 49).await, 400, "partly stored, and said");
    bring_about_a_round(&url, "a").await;
    let health = client::get(&format!("{url}/status")).await.text();
    assert!(health.contains("cannot be written"), "the page names it: {health}");
    assert!(!stored(&url, "b", now - 120, now).await.is_empty(), "its rows can be read");
    let before = stored(&url, "b", now - 120, now - 5).await;
    server.kill();
    drop(injected);
    let server = Server::start(dir.path(), &POLICY);
    let url = server.url.clone();
    let after = stored(&url, "b", now - 120, now - 5).await;
    assert!(before.len() > 50, "{before:?}");
    assert_eq!(after, before);
    assert!(metric(&url, "roundel_instances_unavailable").await.abs() < 1e-9);
    assert_eq!(push(&url, &["b"], 1, 1).await, 204);
    assert!(server.stop().success());
    let aside = std::fs::read_dir(dir.path().join("data/aside")).unwrap();
    assert_eq!(aside.count(), 0, "the last round has written what was set aside");
}

/// A server whose data folder is a file system of its own, in a mount namespace of its own: gone with
/// the server, whatever becomes of the test.
fn server_on(test: &str, dir: &Path, mount: &str) -> Option<Server> {
    std::fs::create_dir_all(dir.join("data")).unwrap();
    server::config(dir, "");
    let probe = format!("cd {} && {mount}", dir.display());
    let tried = Command::new("unshare").args(["-m", "sh", "-c", &probe]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        not_run(test, "root and mounts of its own");
        return None;
    }
    let wrapped = format!("cd {} && {mount} && exec \"$@\"", dir.display());
    let file = dir.join("roundel.toml");
    let arguments = ["--no-local-agent", "--config", file.to_str().unwrap()];
    let arguments = [&arguments[..], &POLICY[..]].concat();
    Some(Server::spawn_in(&["unshare", "-m", "sh", "-c", &wrapped, "sh"], dir, &arguments))
}

/// A path as the server sees it.
fn inside(server: &Server, path: &Path) -> PathBuf {
    Path::new("/proc")
        .join(server.pid().to_string())
        .join("root")
        .join(path.strip_prefix("/").unwrap())
}

/// R10. A full disk refuses what it must, kills nothing, and is taken up again when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_with_a_time_to_come_back_and_recovers() {
    let dir = folder();
    let test = "a full disk";
    let mount = "mount -t tmpfs -o size=64m tmpfs data";
    let Some(mut server) = server_on(test, dir.path(), mount) else { return };
    let url = server.url.clone();
    let now = i64::try_from(now_secs()).unwrap();
    assert_eq!(push(&url, &["a"], 100, 100).await, 204);
    let filler = inside(&server, &dir.path().join("data/filler"));
    fill(&filler);
    for round in 0..30_i64 {
        let new = format!("new-{round}");
        let status = push(&url, &[&new], 1, 1).await;
        assert!([503, 507].contains(&status), "a new series: {status}");
        assert_eq!(push(&url, &["a"], 10, 1).await, 204, "known series go on");
    }
    // As long as the journal has room, which no round can make now.
    eventually("a full journal", PATIENCE, async || {
        let status = push(&url, &["a"], MANY, 1).await;
        assert!([204, 503].contains(&status), "a known series: {status}");
        (status == 503).then_some(())
    })
    .await;
    assert!(stored(&url, "a", now - 120, now - 5).await.len() > 90, "reads go on");
    for page in ["/", "/status", "/metrics", "/healthz"] {
        assert!(!client::get(&format!("{url}{page}")).await.status.is_server_error(), "{page}");
    }
    assert!(server.lives());
    std::fs::remove_file(&filler).unwrap();
    eventually("new series are taken", Duration::from_secs(5), async || {
        (push(&url, &["b"], 1, 1).await == 204).then_some(())
    })
    .await;
    eventually("known series are taken", Duration::from_secs(5), async || {
        (push(&url, &["a"], 1, 1).await == 204).then_some(())
    })
    .await;
}

/// Takes all the room that there is.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = File::create(path).unwrap();
    for len in [1 << 20, 4096, 1] {
        while file.write_all(&vec![7; len]).is_ok() {}
    }
}

/// R12. A disk that turns read-only under the server is told at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_is_told_at_once() {
    let dir = folder();
    let test = "a disk that turns read-only";
    let image = dir.path().join("image");
    File::create(&image).unwrap().set_len(96 << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).output();
    if !made.is_ok_and(|output| output.status.success()) {
        return not_run(test, "mkfs.ext4");
    }
    let mount = "mount -o loop,errors=remount-ro image data";
    let Some(mut server) = server_on(test, dir.path(), mount) else { return };
    let url = server.url.clone();
    assert_eq!(push(&url, &["a"], 60, 60).await, 204);
    let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", server.pid())).unwrap();
    let data = dir.path().join("data");
    let line = mounts.lines().find(|line| line.contains(data.to_str().unwrap())).unwrap();
    let device = line.split([' ', '/']).find(|word| word.starts_with("loop")).unwrap();
    let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
    if std::fs::write(&trigger, "a test").is_err() {
        return not_run(test, &trigger);
    }
    let told = async {
        assert_eq!(push(&url, &["a"], 1, 2).await, 503);
        client::get_bare(&format!("{url}/readyz")).await.status
    };
    let ready = tokio::time::timeout(AT_ONCE, told).await;
    assert_eq!(ready, Ok(StatusCode::SERVICE_UNAVAILABLE));
    let now = i64::try_from(now_secs()).unwrap();
    let rows = stored(&url, "a", now - 120, now).await;
    assert!(rows.len() > 50, "reads go on: {rows:?}");
    assert!(server.lives());
}

/// R13. An archive that is cut under its map costs its own rows, not the process.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_cut_under_its_map_is_set_apart() {
    let dir = folder();
    let names: Vec<String> = (0..11).map(|n| format!("i{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let server = Server::start(dir.path(), &POLICY);
    let now = i64::try_from(now_secs()).unwrap();
    assert_eq!(push(&server.url, &names, 300, 10).await, 204);
    assert!(server.stop().success(), "the last round writes the rows");
    let mut server = Server::start(dir.path(), &POLICY);
    let url = server.url.clone();
    for name in &names {
        // Not all of them: rows that were read stay in memory, whatever becomes of the file.
        assert!(
            stored(&url, name, now - 400, now - 100).await.len() > 190,
            "{name}, through its map"
        );
    }
    let file = archive(&url, &dir.path().join("data"), "i5").await;
    File::options().write(true).open(&file).unwrap().set_len(4096).unwrap();
    for name in &names {
        let found = stored(&url, name, now - 400, now).await.len();
        assert!((found > 290) != (*name == "i5"), "{name}: {found}");
    }
    assert!(server.lives());
    assert!((metric(&url, "roundel_instances_unavailable").await - 1.0).abs() < 1e-9);
    assert_eq!(push(&url, &["i5"], 1, 1).await, 503);
    assert_eq!(push(&url, &["i4"], 1, 1).await, 204);
    bring_about_a_round(&url, "i4").await;
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 4096, "not written to with holes");
    assert!(server.lives());
}
