//! The same samples in Roundel and in Debian's Prometheus, the same questions to both.
//!
//! Questions are asked 30 s off the grid of the samples: there Prometheus 2, whose windows are
//! closed on the left, agrees with Prometheus 3.

mod data;
mod expressions;
mod flow;
mod promtool;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use self::data::Data;
use self::expressions::{Family, expressions};
use crate::http;
use crate::peers::{Peer, free_port, program};
use crate::server::{Server, eventually, folder};
use crate::steady::now_secs;

const PATIENCE: Duration = Duration::from_mins(1);
/// Expressions at least, and how many of a hundred may differ.
const EXPRESSIONS: usize = 250;
const DIFFERING: usize = 5;
/// True while the language of this tree lacks functions that `expressions.toml` uses: what is refused
/// as "not evaluated by this program" is then passed over, and so are families that await something.
const NOT_YET: bool = false;

/// Both servers with the same samples.
pub(crate) struct Pair {
    ours: Server,
    /// Such as `http://127.0.0.1:41234`.
    theirs: String,
    data: Data,
    _prometheus: Peer,
    _dir: TempDir,
}

impl Pair {
    /// Starts both and loads them; `None`, and said, without Prometheus.
    async fn start(test: &str) -> Option<Self> {
        let prometheus = program(test, "prometheus")?;
        let dir = folder();
        let ours = Server::start(dir.path(), &["--policy", "1m:1d;f64"]);
        let (theirs, peer) = start_prometheus(&prometheus, &dir);
        let up = async || http::send_get(&format!("{theirs}/-/ready")).await;
        eventually("Prometheus", PATIENCE, up).await;
        let data = Data::until(i64::try_from(now_secs()).unwrap() * 1000);
        for (at_ms, samples) in data.batches() {
            for url in [&ours.url, &theirs] {
                let answer = http::remote_write(url, &samples).await.unwrap();
                assert!(answer.status.is_success(), "{at_ms} {url}: {}", answer.text());
            }
        }
        let pair = Self { ours, theirs, data, _prometheus: peer, _dir: dir };
        let newest = [("query", "count(cpus)".to_owned()), ("time", pair.data.newest_secs())];
        eventually("the last sample", PATIENCE, async || {
            let (_, answer) = ask(&pair.ours.url, "query", &newest).await;
            (answer["data"]["result"][0]["value"][1] == "3").then_some(())
        })
        .await;
        Some(pair)
    }

    /// Both answers to the same request.
    async fn both(&self, path: &str, pairs: &[(&str, String)]) -> [(u16, Value); 2] {
        [ask(&self.ours.url, path, pairs).await, ask(&self.theirs, path, pairs).await]
    }

    /// Parameters of an instant query in the middle of the data.
    fn instant(&self, expr: &str) -> Vec<(&'static str, String)> {
        vec![("query", expr.to_owned()), ("time", self.data.asked_secs().to_string())]
    }

    /// Parameters of a range query of half an hour.
    fn range(&self, expr: &str) -> Vec<(&'static str, String)> {
        let end = self.data.asked_secs();
        vec![
            ("query", expr.to_owned()),
            ("start", (end - 1800).to_string()),
            ("end", end.to_string()),
            ("step", "120".to_owned()),
        ]
    }
}

fn start_prometheus(program: &PathBuf, dir: &TempDir) -> (String, Peer) {
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, "global: {}\n").unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let peer = Peer::start(
        Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--web.enable-remote-write-receiver"),
        &dir.path().join("prometheus.log"),
    );
    (format!("http://{address}"), peer)
}

/// POST of a form, with our token: status and JSON.
async fn ask(url: &str, path: &str, pairs: &[(&str, String)]) -> (u16, Value) {
    let (status, text) = ask_text(url, path, pairs).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}")))
}

async fn ask_text(url: &str, path: &str, pairs: &[(&str, String)]) -> (u16, String) {
    let answer = http::post_form(&format!("{url}/api/v1/{path}"), pairs).await;
    (answer.status.as_u16(), answer.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_are_those_of_prometheus() {
    let Some(pair) = Pair::start("PromQL against Prometheus").await else { return };
    let book = expressions(&pair.data);
    let (mut count, mut not_yet, mut wrong, mut differing) = (0, 0, Vec::new(), Vec::new());
    for (family, expr) in book.all() {
        count += 1;
        match compare_both(&pair, family, &expr).await {
            Outcome::Same => {}
            Outcome::NotYet => not_yet += 1,
            Outcome::Differs(_) if NOT_YET && family.awaits.is_some() => not_yet += 1,
            Outcome::Differs(how) if book.reason(&expr).is_some() => differing.push((expr, how)),
            Outcome::Differs(how) => wrong.push(format!("{expr}\n    {how}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
    let excused = |expr: &&str| !differing.iter().any(|(differs, _)| differs == expr);
    let stale: Vec<_> = book.excused().filter(excused).collect();
    assert!(stale.is_empty() || not_yet > 0, "these differ no longer, or are not asked: {stale:?}");
    assert!(count >= EXPRESSIONS, "only {count} expressions");
    assert!(differing.len() * 100 <= count * DIFFERING, "{} of {count} differ", differing.len());
    assert!(NOT_YET || not_yet == 0, "{not_yet} are not evaluated");
}

enum Outcome {
    Same,
    NotYet,
    Differs(String),
}

/// Asks for the instant and for the range.
async fn compare_both(pair: &Pair, family: &Family, expr: &str) -> Outcome {
    for (path, pairs) in [("query", pair.instant(expr)), ("query_range", pair.range(expr))] {
        let [ours, theirs] = pair.both(path, &pairs).await;
        if NOT_YET && ours.0 == 400 && theirs.0 == 200 {
            let said = ours.1["error"].as_str().unwrap_or_default();
            if said.contains("is not evaluated by this program") {
                return Outcome::NotYet;
            }
        }
        if let Err(how) = same(family, expr, &ours, &theirs) {
            return Outcome::Differs(format!("{path}: {how}"));
        }
    }
    Outcome::Same
}

/// Errors with how two answers differ.
fn same(
    family: &Family,
    expr: &str,
    ours: &(u16, Value),
    theirs: &(u16, Value),
) -> Result<(), String> {
    let kind = |answer: &(u16, Value)| (answer.0, answer.1["errorType"].clone());
    if kind(ours) != kind(theirs) {
        return Err(format!("{} against {}", short(&ours.1), short(&theirs.1)));
    }
    if ours.0 != 200 {
        return if family.fails { Ok(()) } else { Err(short(&theirs.1)) };
    }
    if family.fails {
        return Err("neither refuses it".to_owned());
    }
    let (ours, theirs) = (&ours.1["data"], &theirs.1["data"]);
    if ours["resultType"] != theirs["resultType"] {
        return Err(format!("{} against {}", ours["resultType"], theirs["resultType"]));
    }
    if !ours["result"][0].is_object() && !theirs["result"][0].is_object() {
        return same_values(family, &ours["result"], &theirs["result"]);
    }
    let is_sorted = expr.starts_with("sort") && ours["resultType"] == "vector";
    same_series(family, lines(ours, is_sorted), lines(theirs, is_sorted))
}

/// Series of a result; sorted by labels unless their order is the answer.
fn lines(data: &Value, keep_order: bool) -> Vec<Value> {
    let mut lines = data["result"].as_array().cloned().unwrap_or_default();
    if !keep_order {
        lines.sort_by_key(|line| line["metric"].to_string());
    }
    lines
}

fn same_series(family: &Family, ours: Vec<Value>, theirs: Vec<Value>) -> Result<(), String> {
    if ours.len() != theirs.len() {
        return Err(format!(
            "{} series against {}: {} against {}",
            ours.len(),
            theirs.len(),
            short(&ours.into()),
            short(&theirs.into())
        ));
    }
    for (ours, theirs) in ours.iter().zip(&theirs) {
        if ours["metric"] != theirs["metric"] {
            return Err(format!("{} against {}", ours["metric"], theirs["metric"]));
        }
        for part in ["value", "values"] {
            same_values(family, &ours[part], &theirs[part])
                .map_err(|how| format!("{}: {how}", ours["metric"]))?;
        }
    }
    Ok(())
}

/// Compares `[moment, "value"]`, or a list of them.
fn same_values(family: &Family, ours: &Value, theirs: &Value) -> Result<(), String> {
    let points = |of: &Value| -> Vec<Value> {
        match of.as_array() {
            Some(all) if all.first().is_some_and(Value::is_array) => all.clone(),
            Some(all) if !all.is_empty() => vec![of.clone()],
            _ => Vec::new(),
        }
    };
    let (ours, theirs) = (points(ours), points(theirs));
    let fits = |ours: &Value, theirs: &Value| {
        ours[0].as_f64() == theirs[0].as_f64()
            && family.is_near(number(&ours[1]), number(&theirs[1]))
    };
    if ours.len() != theirs.len() {
        return Err(format!("{} points against {}", ours.len(), theirs.len()));
    }
    match ours.iter().zip(&theirs).find(|(ours, theirs)| !fits(ours, theirs)) {
        Some((ours, theirs)) => Err(format!("{ours} against {theirs}")),
        None => Ok(()),
    }
}

fn number(text: &Value) -> f64 {
    let text = text.as_str().unwrap_or_else(|| panic!("a value is a string, not {text}"));
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_answers_is_that_of_prometheus() {
    let Some(pair) = Pair::start("answers against Prometheus").await else { return };
    let end = pair.data.asked_secs();
    let times = [("start", (end - 1800).to_string()), ("end", end.to_string())];
    for (path, pairs) in [
        ("query", pair.instant("cpus == 8")),
        ("query", pair.instant("sort_desc(cpus)")),
        ("query", pair.instant("temperature{instance=\"host-1\"} / 3e9")),
        ("query", pair.instant("vector(1e21)")),
        ("query", pair.instant("vector(-1e-7)")),
        ("query", pair.instant("1e300")),
        ("query", pair.instant("1e-7")),
        ("query", pair.instant("-Inf")),
        ("query", pair.instant("\"a<b>\"")),
        ("query", pair.instant("nothing_of_this_name")),
        ("query", pair.instant("sum(")),
        ("query", vec![("query", "vector(1)".to_owned()), ("time", "1.05".to_owned())]),
        ("query", vec![("query", "1".to_owned()), ("time", "-1.5".to_owned())]),
        ("query", vec![("query", "1".to_owned()), ("time", "x".to_owned())]),
        ("query", Vec::new()),
        ("query_range", pair.range("cpus")),
        ("query_range", pair.range("sum by (type) (memory_bytes)")),
        ("query_range", pair.range("temperature")),
        ("query_range", pair.range("1")),
        ("query_range", pair.range("cpus[5m]")),
        ("series", [vec![("match[]", "cpus".to_owned())], times.to_vec()].concat()),
        ("labels", times.to_vec()),
        ("format_query", vec![("query", "sum(rate(cpus[5m]))by(job)/2".to_owned())]),
        ("query_exemplars", [vec![("query", "cpus".to_owned())], times.to_vec()].concat()),
    ] {
        let ours = ask_text(&pair.ours.url, path, &pairs).await;
        let theirs = ask_text(&pair.theirs, path, &pairs).await;
        if ours.0 == 400 && pairs.first().is_some_and(|(_, expr)| expr == "sum(") {
            assert_eq!(ours.0, theirs.0);
            continue; // Where and what is wrong is said by another parser.
        }
        assert_eq!(bare(&ours.1), bare(&theirs.1), "{path} {pairs:?}");
        assert_eq!(ours.0, theirs.0, "{path} {pairs:?}");
    }
}

/// Without the words that Prometheus 2 puts before a bad time, and Prometheus 3 does not.
fn bare(text: &str) -> String {
    text.replace("Invalid time value for 'time': ", "")
}
