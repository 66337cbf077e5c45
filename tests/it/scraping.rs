//! Scraping: Debian's exporter asked by the server and by our own agent.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http;
use crate::peers::{Peer, free_port, program};
use crate::server::{Server, eventually, folder, roundel};
use crate::steady::now_secs;
use crate::tls::{Authority, has_programs};

const PATIENCE: Duration = Duration::from_mins(1);
/// Steps of a second, so that rows close soon.
const POLICY: [&str; 2] = ["--policy", "1s:1h,1m:1d"];

/// Debian's exporter on a port of its own.
fn exporter(test: &str, dir: &Path) -> Option<(Peer, u16)> {
    let exporter = program(test, "prometheus-node-exporter")?;
    let port = free_port();
    let mut command = Command::new(exporter);
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Some((Peer::start(&mut command, &dir.join("exporter.log")), port))
}

/// Lists targets for the server of `dir`.
fn list(dir: &Path, file: &str, groups: &Value) {
    let targets = dir.join("data/targets");
    fs::create_dir_all(&targets).unwrap();
    fs::write(targets.join(file), groups.to_string()).unwrap();
}

async fn first(server: &Server, expr: &str) -> Option<Value> {
    http::query(&server.url, expr, None).await.first().cloned()
}

/// The value of a result of one series.
fn value(found: &Value) -> f64 {
    found["value"][1].as_str().unwrap().parse().unwrap()
}

/// Waits until the series `up` says that an exporter answers, or that it does not.
async fn turns(server: &Server, up: &str, is_up: bool) {
    let awaited = if is_up { "it is up" } else { "it is down" };
    eventually(awaited, PATIENCE, async || {
        first(server, up).await.filter(|found| (value(found) > 0.5) == is_up)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_scrapes_debians_exporter_and_ends_its_series_when_it_dies() {
    let dir = folder();
    let Some((exporter, port)) = exporter("scraping an exporter", dir.path()) else { return };
    let address = format!("127.0.0.1:{port}");
    let labels = json!({ "zone": "b", "__scrape_interval__": "1s" });
    list(dir.path(), "node.json", &json!([{ "targets": [address], "labels": labels }]));
    let server = Server::start(dir.path(), &POLICY);
    let of = format!("instance=\"{address}\",job=\"node\",zone=\"b\"");
    eventually("a rate of its CPU time", PATIENCE, async || {
        first(&server, &format!("sum(rate(node_cpu_seconds_total{{{of}}}[10s])) > 0")).await
    })
    .await;
    let page = http::get_bare(&format!("http://{address}/metrics")).await.text();
    let on_page = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
    let count = format!("count({{__name__!~\"up|scrape_.*\",{of}}})");
    eventually("all of its series", PATIENCE, async || {
        let found = value(&first(&server, &count).await?);
        // The exporter's page is not of one length: it counts its own scrapes and errors.
        let most = f64::from(u32::try_from(on_page).unwrap());
        ((found - most).abs() <= 5.0).then_some(())
    })
    .await;
    let up = format!("up{{{of}}}");
    turns(&server, &up, true).await;
    drop(exporter);
    turns(&server, &up, false).await;
    eventually("its series have ended", PATIENCE, async || {
        first(&server, &format!("node_load1{{{of}}}")).await.is_none().then_some(())
    })
    .await;
    let books = http::get(&format!("{}/api/v1/accounting", server.url)).await.json();
    let total = &books["total"];
    let number = |name: &str| total[name].as_i64().unwrap();
    assert_eq!(
        number("received"),
        number("stored")
            + number("duplicate")
            + number("late")
            + number("stale_generation")
            + number("in_flight"),
        "{total}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_behind_tls_and_a_password_is_scraped_by_who_has_both() {
    const TEST: &str = "scraping an exporter behind a password";
    /// Of the password "test", as the exporter keeps it.
    const HASH: &str = "$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay";
    let dir = folder();
    if !has_programs(TEST) {
        return;
    }
    let Some(exporter) = program(TEST, "prometheus-node-exporter") else { return };
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    ours.issue_server("server");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let settings = format!(
        "tls_server_config:\n  cert_file: {}\n  key_file: {}\nbasic_auth_users:\n  me: {HASH}\n",
        path("server.pem"),
        path("server.key")
    );
    fs::write(path("web.yml"), settings).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(exporter);
    command.arg(format!("--web.listen-address={address}"));
    command.arg(format!("--web.config.file={}", path("web.yml")));
    let _exporter = Peer::start(&mut command, &dir.path().join("exporter.log"));

    for (name, word) in [("good", "test\n"), ("bad", "guess\n"), ("open", "test\n")] {
        fs::write(path(name), word).unwrap();
        let mode = if name == "open" { 0o644 } else { 0o600 };
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let group = |instance: &str, authority: &Authority, password: &str| {
        json!({ "targets": [address], "labels": {
            "instance": instance, "__scheme__": "https", "__scrape_interval__": "5s",
            "__ca_file__": authority.file("pem"), "__username__": "me",
            "__password_file__": path(password) } })
    };
    let groups = [
        group("good", &ours, "good"),
        group("bad", &ours, "bad"),
        group("open", &ours, "open"),
        group("unknown", &theirs, "good"),
    ];
    list(dir.path(), "door.json", &Value::from(groups.to_vec()));
    let server = Server::start(dir.path(), &POLICY);
    eventually("its series", PATIENCE, async || {
        first(&server, "node_load1{instance=\"good\"} and up{instance=\"good\"} == 1").await
    })
    .await;
    for instance in ["bad", "open", "unknown"] {
        eventually(instance, PATIENCE, async || {
            first(&server, &format!("up{{instance=\"{instance}\"}} == 0")).await
        })
        .await;
        let found = first(&server, &format!("node_load1{{instance=\"{instance}\"}}")).await;
        assert_eq!(found, None, "{instance}");
    }
    let log = fs::read_to_string(dir.path().join("log.txt")).unwrap();
    for why in ["chmod o-rwx", "UnknownIssuer"] {
        assert!(log.contains(why), "{why}: {log}");
    }
    assert!(!log.contains("guess"), "{log}");
    // The right password, written in its file, is used from the next page on.
    fs::write(path("bad"), "test\n").unwrap();
    eventually("the other too", PATIENCE, async || {
        first(&server, "node_load1{instance=\"bad\"}").await
    })
    .await;
}

/// A Prometheus that scrapes the exporter on `port` every second, and its address.
fn prometheus(dir: &Path, port: u16) -> Option<(Peer, String)> {
    let prometheus = program("scraping beside Prometheus", "prometheus")?;
    let file = dir.join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: node\n  static_configs:\n  \
         - targets: ['127.0.0.1:{port}']\n"
    );
    fs::write(&file, text).unwrap();
    let listen = free_port();
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{listen}"));
    Some((
        Peer::start(&mut command, &dir.join("prometheus.log")),
        format!("http://127.0.0.1:{listen}"),
    ))
}

/// Rows of five seconds, and a heartbeat that a restart fits into.
const COARSE: [&str; 2] = ["--policy", "5s:1h,1m:1d;hb=15s"];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_twice_knows_every_row_and_counts_as_prometheus_does() {
    let dir = folder();
    let Some((_exporter, port)) = exporter("scraping under kills", dir.path()) else { return };
    let Some((_prometheus, reference)) = prometheus(dir.path(), port) else { return };
    let address = format!("127.0.0.1:{port}");
    let labels = json!({ "__scrape_interval__": "1s" });
    list(dir.path(), "node.json", &json!([{ "targets": [address], "labels": labels }]));
    let mut server = Server::start(dir.path(), &COARSE);
    let rows = async |server: &Server, time: u64| {
        let time = f64::from(u32::try_from(time).unwrap());
        let known = http::query(&server.url, "count_over_time(node_load1[10s])", Some(time)).await;
        known.first().is_some_and(|found| value(found) > 1.5)
    };
    // From here on every row is known on both sides.
    let begin = eventually("two rows", PATIENCE, async || {
        let now = now_secs() / 5 * 5;
        rows(&server, now).await.then_some(now)
    })
    .await;
    for part in [1, 2] {
        let until = begin + part * 10;
        eventually("ten seconds more", PATIENCE, async || (now_secs() >= until).then_some(()))
            .await;
        server.kill();
        server = Server::start(dir.path(), &COARSE);
    }
    let end = begin + 30;
    eventually("the rows up to the end", PATIENCE, async || rows(&server, end).await.then_some(()))
        .await;
    let time = Some(f64::from(u32::try_from(end).unwrap()));
    let known = http::query(&server.url, "count_over_time(node_load1[30s])", time).await;
    assert!((value(&known[0]) - 6.0).abs() < 0.1, "{known:?}: six rows are known");
    // All modes of a processor together are as long as time, whatever runs beside. The exporter holds what
    // the kernel counts backwards.
    let expr = "sum(increase(node_cpu_seconds_total[30s]))";
    let ours = value(&http::query(&server.url, expr, time).await[0]);
    let theirs = value(&http::query(&reference, expr, time).await[0]);
    assert!((ours / theirs - 1.0).abs() < 0.01, "{ours} here, {theirs} there");
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_of_the_registry_are_scraped_by_a_pattern() {
    let dir = folder();
    let Some((_exporter, port)) = exporter("scraping the registry", dir.path()) else { return };
    let server = Server::start(dir.path(), &POLICY);
    let labels = json!({ "exporter": format!("127.0.0.1:{port}"), "role": "web" });
    let wanted = json!({ "kind": "join", "name": "test", "labels": labels });
    let token = http::post_json(&format!("{}/v1/tokens", server.url), &wanted).await.json();
    let _agent = Peer::start(
        roundel()
            .args(["agent", "--collector", &server.url, "--name", "web-7", "--step", "1s"])
            .args(["--token", token["token"].as_str().unwrap(), "--state"])
            .arg(dir.path().join("agent"))
            .stdin(Stdio::null()),
        &dir.path().join("agent.log"),
    );
    let labels = json!({ "__registry__": "role=web", "__scrape_interval__": "1s" });
    list(dir.path(), "exporters.json", &json!([{ "targets": ["{exporter}"], "labels": labels }]));
    eventually("the exporter of web-7", PATIENCE, async || {
        let expr = "node_exporter_build_info{instance=\"web-7\",job=\"exporters\"}";
        first(&server, expr).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_scrapes_an_exporter_of_its_machine_and_reads_text_files() {
    let dir = folder();
    let Some((exporter, port)) = exporter("the agent scrapes", dir.path()) else { return };
    let server = Server::start(dir.path(), &POLICY);
    let wanted = json!({ "kind": "join", "name": "test", "labels": {} });
    let token = http::post_json(&format!("{}/v1/tokens", server.url), &wanted).await.json();
    let left = dir.path().join("left");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("job.prom"), "backup_bytes{of=\"a, \\\"b\\\"\"} 7\n").unwrap();
    let file = dir.path().join("agent.toml");
    let text = format!(
        "collector = \"{}\"\nname = \"web-8\"\nstep = \"1s\"\nstate = \"{}\"\n\
         [sources.node]\nkind = \"exporter\"\nurl = \"http://127.0.0.1:{port}/metrics\"\n\
         [sources.jobs]\nkind = \"textfile\"\ndirectory = \"{}\"\n",
        server.url,
        dir.path().join("agent").display(),
        left.display()
    );
    fs::write(&file, text).unwrap();
    let _agent = Peer::start(
        roundel()
            .args(["agent", "--token", token["token"].as_str().unwrap(), "--config"])
            .arg(&file)
            .stdin(Stdio::null()),
        &dir.path().join("agent.log"),
    );
    let of = "instance=\"web-8\",exporter=\"node\"";
    eventually("a rate of the exporter's CPU time", PATIENCE, async || {
        first(&server, &format!("sum(rate(node_cpu_seconds_total{{{of}}}[10s])) > 0")).await
    })
    .await;
    let up = format!("agent_exporter_up{{{of}}}");
    turns(&server, &up, true).await;
    let left = eventually("the job's file", PATIENCE, async || {
        first(&server, "backup_bytes{instance=\"web-8\"}").await
    })
    .await;
    assert_eq!(left["metric"]["of"], "a, \"b\"");
    drop(exporter);
    turns(&server, &up, false).await;
    eventually("its series have ended", PATIENCE, async || {
        first(&server, &format!("node_load1{{{of}}}")).await.is_none().then_some(())
    })
    .await;
}
