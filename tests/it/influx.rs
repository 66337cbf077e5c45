//! InfluxDB's clients as Debian has them: its shell and its Python library, through two kills.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ::http::Request;
use http_body_util::Full;

use crate::docs::{Relay, block, filled, relay, seconds};
use crate::http;
use crate::peers::{Peer, free_port, program, unpacked};
use crate::server::{Server, eventually, folder};
use crate::steady::now_secs;

const SECTION: &str = "InfluxDB clients and Telegraf";
const PATIENCE: Duration = Duration::from_mins(1);
/// Points that the Python client writes, one for each second.
const POINTS: u64 = 120;

fn start(dir: &Path, port: u16) -> Server {
    let listen = format!("127.0.0.1:{port}");
    Server::start(dir, &["--policy", "1s:1h", "--listen", &listen])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_of_influxdb_inserts_and_imports() {
    let Some(influx) = program("the shell of InfluxDB", "influx") else { return };
    let dir = folder();
    let server = start(dir.path(), free_port());
    let relay = relay(&server, "shell").await;
    let script = filled(&block(SECTION, "sh", 0), &server.url, &relay);
    let path = influx.parent().unwrap().display().to_string();
    let mut shell = Command::new("sh");
    shell.arg("-euc").arg(&script).env("PATH", format!("{path}:/usr/bin:/bin"));
    shell.env("HOME", dir.path());
    let query = "orders_open{job=\"shop\",instance=\"web-1\"}";
    // A row is seen when a later reading has closed it.
    let found = eventually(query, PATIENCE, async || {
        let told = shell.output().unwrap();
        assert!(told.status.success() && told.stderr.is_empty(), "{told:?}");
        http::query(&server.url, query, None).await.pop()
    })
    .await;
    assert_eq!(found["value"][1], "12", "{found}");

    let now = now_secs();
    let file = dir.path().join("import.txt");
    let text = format!(
        "# DDL\nCREATE DATABASE shop\n# DML\n# CONTEXT-DATABASE: shop\n\
         orders,host=web-2 open=7 {}\norders,host=web-2 open=7 {now}\norders,host=web-2 note=\"a text\" {now}\n",
        now - 1
    );
    std::fs::write(&file, text).unwrap();
    let port = server.url.rsplit(':').next().unwrap();
    let mut import = Command::new(influx);
    import.args(["-import", "-precision", "s", "-host", "127.0.0.1", "-port", port]);
    import.args(["-username", "x", "-password", &relay.secret]).arg("-path").arg(&file);
    let told = import.env("HOME", dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success() && said.contains("Failed 0 inserts"), "{told:?}");
    value(&server.url, "orders_open{instance=\"web-2\"}", "7").await;
}

async fn value(url: &str, expr: &str, expected: &str) {
    let found = eventually(expr, PATIENCE, async || http::query(url, expr, None).await.pop()).await;
    assert_eq!(found["value"][1], expected, "{found}");
}

/// Writes a point for each second and tells which are acknowledged; what fails it sends again.
const LOOP: &str = r#"
import sys, time
client._retries = 1
for second in range(START, START + POINTS):
    fields = {"open": float(second % 1000), "note": "a text"}
    point = {"measurement": "steady", "tags": {"host": "web-1"}, "time": second, "fields": fields}
    while True:
        try:
            client.write_points([point], time_precision="s")
            break
        except Exception as error:
            print(error, file=sys.stderr)
            time.sleep(0.02)
    time.sleep(0.03)
print("done", flush=True)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_loses_no_second_through_two_kills() {
    let test = "the Python client of InfluxDB";
    let Some(python) = program(test, "python3") else { return };
    let Some(_) = program(test, "influx") else { return };
    let dir = folder();
    let port = free_port();
    let mut server = start(dir.path(), port);
    let relay = relay(&server, "python").await;
    let start_at = now_secs() - POINTS - 10;
    let script = filled(&block(SECTION, "python", 0), &server.url, &relay)
        + &LOOP.replace("START", &start_at.to_string()).replace("POINTS", &POINTS.to_string());
    let log = dir.path().join("python.log");
    let mut command = Command::new(python);
    command.arg("-c").arg(script);
    command.env("PYTHONPATH", unpacked().join("usr/lib/python3/dist-packages"));
    let _client = Peer::start(&mut command, &log);
    let query = "steady_open{job=\"shop\",instance=\"web-1\"}";
    for part in [POINTS / 4, POINTS / 2] {
        eventually("a part of the points", PATIENCE, async || {
            let found = seconds(&server.url, query, (start_at, start_at + POINTS)).await;
            (found.len() as u64 >= part).then_some(())
        })
        .await;
        server.kill();
        server = start(dir.path(), port);
    }
    eventually("the end of the client", PATIENCE, async || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.contains("done").then_some(())
    })
    .await;
    let found = eventually("all points", PATIENCE, async || {
        let found = seconds(&server.url, query, (start_at, start_at + POINTS - 1)).await;
        (found.len() as u64 >= POINTS).then_some(found)
    })
    .await;
    for (at, value) in found {
        assert_eq!(value.to_bits(), f64::from((at % 1000) as u32).to_bits(), "at {at}");
    }
}

/// A write as Telegraf sends one with these settings: Debian has no Telegraf.
#[tokio::test(flavor = "multi_thread")]
async fn telegrafs_settings_lead_to_a_write_that_is_taken() {
    let dir = folder();
    let server = start(dir.path(), free_port());
    let relay: Relay = relay(&server, "telegraf").await;
    let block = filled(&block(SECTION, "toml", 0), &server.url, &relay);
    let settings: toml::Table = block.parse().unwrap();
    let output = &settings["outputs"]["influxdb_v2"][0];
    let word = |key: &str| output[key].as_str().unwrap().to_owned();
    let url = output["urls"][0].as_str().unwrap();
    let query = [("bucket", word("bucket")), ("org", word("organization"))];
    assert_eq!(word("content_encoding"), "gzip");
    let line = |at| format!("cpu,cpu=cpu0,host=web-1 usage_idle=93.5 {at}000000000\n");
    let lines = line(now_secs() - 1) + &line(now_secs());
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, lines.as_bytes()).unwrap();
    let request = Request::post(format!("{url}/api/v2/write?{}", http::encoded(&query)))
        .header("authorization", format!("Token {}", word("token")))
        .header("content-encoding", "gzip")
        .header("user-agent", "Telegraf/1.29")
        .body(Full::from(packed.finish().unwrap()))
        .unwrap();
    let answer = http::send(request).await.unwrap();
    assert_eq!(answer.status, 204, "{}", answer.text());
    value(&server.url, "cpu_usage_idle{job=\"telegraf\",instance=\"web-1\",cpu=\"cpu0\"}", "93.5")
        .await;
}
