//! collectd as Debian has it, which posts to us and shows its own Prometheus text beside it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::docs::{block, filled, relay};
use crate::http;
use crate::peers::{Peer, free_port, libraries, program, unpacked};
use crate::server::{Server, eventually, folder};

const PATIENCE: Duration = Duration::from_mins(1);

/// Starts collectd with readers of this machine and `writers`.
pub(crate) fn collectd(program: &Path, dir: &Path, writers: &str) -> Peer {
    let root = unpacked();
    let shown = |path: &str| root.join(path).display().to_string();
    let mut text = format!(
        "Hostname \"web-1\"\nInterval 1\nBaseDir \"{0}\"\nPIDFile \"{0}/collectd.pid\"\n\
         PluginDir \"{1}\"\nTypesDB \"{2}\"\n",
        dir.display(),
        shown("usr/lib/collectd"),
        shown("usr/share/collectd/types.db"),
    );
    for plugin in ["logfile", "cpu", "load", "memory", "interface", "df", "processes"] {
        text.push_str(&format!("LoadPlugin {plugin}\n"));
    }
    text.push_str("<Plugin logfile>\n  File stderr\n</Plugin>\n");
    text.push_str(writers);
    let file = dir.join("collectd.conf");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(program);
    command.arg("-f").arg("-C").arg(file).env("LD_LIBRARY_PATH", libraries());
    Peer::start(&mut command, &dir.join("collectd.log"))
}

/// A series' name and labels, without those of the target.
type Name = (String, Vec<(String, String)>);

/// What collectd's own exporter shows.
async fn shown(port: u16) -> Option<BTreeSet<Name>> {
    let answer = http::send_get(&format!("http://127.0.0.1:{port}/metrics")).await?;
    let text = answer.text();
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let scrape = prometheus_parse::Scrape::parse(lines).unwrap();
    let name = |sample: &prometheus_parse::Sample| {
        let labels = sample.labels.iter().filter(|(name, _)| *name != "instance");
        let mut labels: Vec<_> = labels.map(|(n, v)| (n.clone(), v.clone())).collect();
        labels.sort();
        (sample.metric.clone(), labels)
    };
    Some(scrape.samples.iter().map(name).collect())
}

/// What we keep of it.
async fn kept(url: &str) -> BTreeSet<Name> {
    let query = [("match[]", "{job=\"collectd\"}".to_owned())];
    let answer = http::get(&format!("{url}/api/v1/series?{}", http::encoded(&query))).await.json();
    let all = answer["data"].as_array().cloned().unwrap_or_default();
    let name = |series: &serde_json::Value| {
        let labels = series.as_object().unwrap();
        let word = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let ours = ["__name__", "job", "instance"];
        let rest = labels.iter().filter(|(name, _)| !ours.contains(&name.as_str()));
        let mut rest: Vec<_> = rest.map(|(n, v)| (n.clone(), word(v))).collect();
        rest.sort();
        (word(&labels["__name__"]), rest)
    };
    all.iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn collectd_posts_what_its_own_exporter_shows_and_goes_on_after_a_kill() {
    let Some(program) = program("collectd's write_http", "collectd") else { return };
    let dir = folder();
    let listen = format!("127.0.0.1:{}", free_port());
    let arguments = ["--policy", "1s:1h", "--listen", &listen];
    let server = Server::start(dir.path(), &arguments);
    let relay = relay(&server, "collectd").await;
    let port = free_port();
    let writers = filled(&block("collectd", "", 0), &server.url, &relay)
        + &format!(
            "LoadPlugin write_prometheus\n<Plugin write_prometheus>\n  Port \"{port}\"\n</Plugin>\n"
        );
    let _collectd = collectd(&program, dir.path(), &writers);
    let found = eventually("the same series on both sides", PATIENCE, async || {
        let (ours, theirs) = (kept(&server.url).await, shown(port).await?);
        (ours.len() > 20 && ours == theirs).then_some(ours)
    })
    .await;
    assert!(found.iter().any(|(name, _)| name == "collectd_load_shortterm"), "{found:?}");
    rates(&server.url).await;
    server.kill();
    let server = Server::start(dir.path(), &arguments);
    rates(&server.url).await;
    let books = http::get(&format!("{}/api/v1/accounting", server.url)).await.json();
    assert!(books["total"]["refused"].as_object().unwrap().is_empty(), "{books}");
}

/// Waits for rates of the processor's counters and a level of memory.
async fn rates(url: &str) {
    let cpu = "sum(rate(collectd_cpu_total{instance=\"web-1\"}[5s]))";
    for query in [cpu, "collectd_memory{instance=\"web-1\",memory=\"free\"}"] {
        eventually(query, PATIENCE, async || http::query(url, query, None).await.pop()).await;
    }
}
