//! Pushes of jobs: Debian's Python client, as a job uses it, and a line of shell.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;

use crate::http as asked;
use crate::peers::{file, program};
use crate::server::{ADMIN, Server, eventually, folder};

const PATIENCE: Duration = Duration::from_mins(1);
/// Steps of a second, so that rows close soon.
const POLICY: [&str; 2] = ["--policy", "1s:1h,1m:1d"];
const CLIENT: &str = "usr/lib/python3/dist-packages/prometheus_client/__init__.py";

/// A job that pushes, adds and deletes as its first argument says.
const JOB: &str = r#"
import sys
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import delete_from_gateway, push_to_gateway, pushadd_to_gateway
from prometheus_client.exposition import default_handler

verb, url, token = sys.argv[1:4]

def bearer(url, method, timeout, headers, data):
    return default_handler(url, method, timeout, list(headers) + [("Authorization", "Bearer " + token)], data)

registry = CollectorRegistry()
group = {"instance": "db-1", "path": "/var/lib/a b", "empty": ""}
where = dict(job="backup", grouping_key=group, handler=bearer)
if verb == "push":
    Gauge("backup_bytes", "Size", ["of"], registry=registry).labels(of='a, "b" {c}=\\d').set(7)
    Counter("backup_runs", "Runs", registry=registry).inc(3)
    Histogram("backup_seconds", "Time", registry=registry).observe(2.5)
    push_to_gateway(url, registry=registry, **where)
elif verb == "add":
    Gauge("backup_files", "Files", registry=registry).set(9)
    pushadd_to_gateway(url, registry=registry, **where)
else:
    delete_from_gateway(url, **where)
"#;

struct Job<'a> {
    python: &'a Path,
    packages: &'a Path,
    url: &'a str,
}

impl Job<'_> {
    fn run(&self, verb: &str) {
        let mut command = Command::new(self.python);
        command.args(["-c", JOB, verb, self.url, ADMIN]).env("PYTHONPATH", self.packages);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

async fn first(server: &Server, expr: &str) -> Option<Value> {
    asked::query(&server.url, expr, None).await.first().cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_python_client_pushes_adds_and_deletes() {
    let test = "pushes of the Python client";
    let (Some(python), Some(client)) = (program(test, "python3"), file(test, CLIENT)) else {
        return;
    };
    let packages = client.parent().unwrap().parent().unwrap();
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let job = Job { python: &python, packages, url: &server.url };
    job.run("push");
    let of = "instance=\"db-1\",job=\"backup\",path=\"/var/lib/a b\"";
    let bytes = eventually("what was pushed", PATIENCE, async || {
        first(&server, &format!("backup_bytes{{{of}}}")).await
    })
    .await;
    assert_eq!(
        (&bytes["value"][1], &bytes["metric"]["of"]),
        (&"7".into(), &"a, \"b\" {c}=\\d".into())
    );
    assert_eq!(bytes["metric"].get("empty"), None);
    eventually("a value repeated for five seconds", PATIENCE, async || {
        first(&server, &format!("count_over_time(backup_bytes{{{of}}}[20s]) > 5")).await
    })
    .await;
    eventually("a counter that stands still", PATIENCE, async || {
        first(&server, &format!("rate(backup_runs_total{{{of}}}[5s]) == 0")).await
    })
    .await;
    eventually("a histogram", PATIENCE, async || {
        first(&server, &format!("backup_seconds_bucket{{{of},le=\"5.0\"}}")).await
    })
    .await;
    job.run("add");
    eventually("what was added", PATIENCE, async || {
        first(&server, &format!("backup_files{{{of}}}")).await
    })
    .await;
    assert!(first(&server, &format!("backup_bytes{{{of}}}")).await.is_some());
    job.run("delete");
    eventually("nothing is left", PATIENCE, async || {
        first(&server, &format!("{{{of}}}")).await.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_with_a_ttl_ends_by_itself_and_survives_a_killed_server() {
    let dir = folder();
    let server = Server::start(dir.path(), &POLICY);
    let push = async |url: &str, body: &'static str| {
        let request = Request::put(url).header("authorization", format!("Bearer {ADMIN}"));
        asked::send(request.body(Full::from(Bytes::from(body))).unwrap()).await.unwrap()
    };
    let answer = push(&format!("{}/metrics/job/short?ttl=3s", server.url), "short 1\n").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = push(&format!("{}/metrics/job/long?ttl=1h", server.url), "long 1\n").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    eventually("the short one", PATIENCE, async || first(&server, "short").await).await;
    eventually("the end of the short one", PATIENCE, async || {
        first(&server, "short").await.is_none().then_some(())
    })
    .await;
    assert!(first(&server, "long").await.is_some());
    drop(server);
    let server = Server::start(dir.path(), &POLICY);
    eventually("the long one goes on", PATIENCE, async || {
        first(&server, "count_over_time(long[3s]) >= 2").await
    })
    .await;
    assert!(first(&server, "short").await.is_none());
}
