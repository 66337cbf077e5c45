//! `roundel token`: what enrols machines or lets others in, made, listed and taken back.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::asking::{Asking, ago, ask, columns, entries, is_ahead, shown};
use crate::args::{SpanArguments, TokenArguments, TokenCommand, TokenWish};
use crate::report;

/// Asks the server and prints what it says.
pub(crate) fn run(arguments: &TokenArguments) -> Result<()> {
    let command = &arguments.command;
    let answer = ask(&arguments.asked, async |server| answer(server, command).await)?;
    report::print(&if arguments.asked.json {
        format!("{answer:#}\n")
    } else {
        text(command, &answer, &arguments.asked.server)
    });
    Ok(())
}

async fn answer(server: &Asking, command: &TokenCommand) -> Result<Value> {
    match command {
        TokenCommand::Create(wish) => server.post("/v1/tokens", &body(wish)).await,
        TokenCommand::List => server.get("/v1/tokens").await,
        TokenCommand::Revoke { token } => server.delete(&format!("/v1/tokens/{token}")).await,
    }
}

/// What is asked for, without what nobody said.
fn body(wish: &TokenWish) -> Value {
    let mut body = Map::new();
    body.insert("kind".to_owned(), json!(wish.kind));
    body.insert("name".to_owned(), json!(wish.name));
    body.insert("labels".to_owned(), Value::from(labels(&wish.labels)));
    body.insert("cidr".to_owned(), json!(wish.cidr));
    body.insert("auto_approve".to_owned(), json!(!wish.wait));
    let secs = |span_ms: Option<u64>| span_ms.map(|span_ms| span_ms / 1000);
    for (name, value) in [
        ("ttl_secs", secs(wish.ttl_ms)),
        ("uses", wish.uses.map(u64::from)),
        ("series_quota", wish.series.map(u64::from)),
    ] {
        if let Some(value) = value {
            body.insert(name.to_owned(), json!(value));
        }
    }
    if !wish.allow_labels.is_empty() {
        body.insert("allowed_label_keys".to_owned(), json!(wish.allow_labels));
    }
    put_spans(&mut body, &wish.spans);
    Value::from(body)
}

/// How silence is judged, as the server reads it.
pub(super) fn put_spans(body: &mut Map<String, Value>, spans: &SpanArguments) {
    if spans.ephemeral {
        body.insert("lifecycle".to_owned(), json!("ephemeral"));
    }
    for (name, span_ms) in [
        ("silent_secs", spans.silent_ms),
        ("lost_secs", spans.lost_ms),
        ("withdraw_secs", spans.withdraw_ms),
    ] {
        if let Some(span_ms) = span_ms {
            body.insert(name.to_owned(), json!(span_ms / 1000));
        }
    }
}

pub(super) fn labels(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
}

fn text(command: &TokenCommand, answer: &Value, server: &str) -> String {
    match command {
        TokenCommand::Create(wish) => made(wish, answer, server),
        TokenCommand::List => columns(&entries(answer).iter().map(cells).collect::<Vec<_>>()),
        TokenCommand::Revoke { .. } => {
            "revoked: whoever came by it stays, and nobody else comes\n".to_owned()
        }
    }
}

/// The secret on a line of its own, and what to do with it.
fn made(wish: &TokenWish, answer: &Value, server: &str) -> String {
    let (secret, id) = (shown(&answer["token"]), shown(&answer["id"]));
    let mut text = format!("{secret}\n\n");
    let use_ = match wish.kind.as_str() {
        "join" => format!("on the machine: roundel agent --collector {server} --token {secret}"),
        "relay" => {
            format!("for senders: {server}/api/v1/write with this as bearer token or password")
        }
        "events" => {
            format!("for the cloud: POST {server}/v1/cloud-events with this as bearer token")
        }
        _ => format!("for readers: {server}/v1/sd/prometheus with this as bearer token"),
    };
    let _written = writeln!(text, "It is shown this once. {use_}");
    if wish.wait {
        let _written = match wish.kind.as_str() {
            "join" => writeln!(text, "Each machine waits for approval; see \"roundel approve\"."),
            _ => writeln!(text, "It waits for approval: roundel approve {id}"),
        };
    }
    text
}

/// Id, kind, name, labels and how long it is good for.
fn cells(token: &Value) -> [String; 6] {
    let pairs = token["labels"].as_object().into_iter().flatten();
    let labels = pairs.map(|(name, value)| format!("{name}={}", shown(value)));
    let left = match (token["revoked"] == true, token["uses_left"].as_u64()) {
        (true, _) => "revoked".to_owned(),
        (false, Some(0)) => "used up".to_owned(),
        (false, Some(uses)) => format!("{uses} uses left"),
        (false, None) => String::new(),
    };
    let waits = match (token["waits"] == true, token["kind"] == "join") {
        (true, true) => "machines wait for approval".to_owned(),
        (true, false) => "waits for approval".to_owned(),
        (false, _) => String::new(),
    };
    let made = format!("made {}", ago(&token["created_ms"]));
    let labels = labels.collect::<Vec<_>>().join(",");
    let notes = [left, waits, labels].into_iter().filter(|note| !note.is_empty());
    [
        shown(&token["id"]),
        shown(&token["kind"]),
        shown(&token["name"]),
        made,
        ends(token),
        notes.collect::<Vec<_>>().join("; "),
    ]
}

fn ends(token: &Value) -> String {
    match token["expires_ms"].as_i64() {
        None => "does not end".to_owned(),
        Some(end_ms) if is_ahead(end_ms) => "ends by itself".to_owned(),
        Some(end_ms) => format!("ended {}", ago(&json!(end_ms))),
    }
}
