//! `roundel approve` and `roundel reject`: the queue of who waits for a person.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::asking::{Asking, ago, ask, entries, shown};
use super::tokens::{labels, put_spans};
use crate::args::{Approve, Reject};
use crate::report;

/// Digits of a token's id; that of a request has twice as many.
const TOKEN_DIGITS: usize = 16;

/// Approves a machine or a token; without one, says who waits.
pub(crate) fn approve(arguments: &Approve) -> Result<()> {
    let answer = ask(&arguments.asked, async |server| decide(server, arguments).await)?;
    report::print(&match (&arguments.id, arguments.asked.json) {
        (_, true) => format!("{answer:#}\n"),
        (None, false) => queue(&answer),
        (Some(_), false) if answer.is_null() => "approved: it is good from now on\n".to_owned(),
        (Some(_), false) => {
            let (name, id) = (shown(&answer["name"]), shown(&answer["id"]));
            format!("approved: {name} is instance {id}; it hears of it within a minute\n")
        }
    });
    Ok(())
}

/// Rejects a machine.
pub(crate) fn reject(arguments: &Reject) -> Result<()> {
    let path = format!("/v1/enrollments/{}/reject", arguments.id);
    let body = json!({ "reason": arguments.reason });
    ask(&arguments.asked, async |server| server.post(&path, &body).await)?;
    report::print("rejected: it is told so, with the reason\n");
    Ok(())
}

async fn decide(server: &Asking, arguments: &Approve) -> Result<Value> {
    let Some(id) = &arguments.id else { return waiting(server).await };
    if id.len() == TOKEN_DIGITS {
        return server.post(&format!("/v1/tokens/{id}/approve"), &json!({})).await;
    }
    let mut body = Map::new();
    body.insert("labels".to_owned(), Value::from(labels(&arguments.labels)));
    if let Some(fingerprint) = &arguments.fingerprint {
        body.insert("fingerprint".to_owned(), json!(fingerprint));
    }
    if let Some(series) = arguments.series {
        body.insert("series_quota".to_owned(), json!(series));
    }
    put_spans(&mut body, &arguments.spans);
    server.post(&format!("/v1/enrollments/{id}/approve"), &Value::from(body)).await
}

/// Machines and tokens that wait.
async fn waiting(server: &Asking) -> Result<Value> {
    let requests = server.get("/v1/enrollments?state=pending").await?;
    let tokens = server.get("/v1/tokens").await?;
    let waits = |token: &&Value| {
        token["waits"] == true && token["kind"] != "join" && token["revoked"] == false
    };
    let tokens: Vec<Value> = entries(&tokens).iter().filter(waits).cloned().collect();
    Ok(json!({ "machines": requests, "tokens": tokens }))
}

fn queue(answer: &Value) -> String {
    let mut text = String::new();
    for one in entries(&answer["machines"]) {
        let _written = writeln!(
            text,
            "{}  {}  asked {} from {}\n    fingerprint {}  {}",
            shown(&one["id"]),
            shown(&one["name"]),
            ago(&one["at_ms"]),
            shown(&one["peer"]),
            shown(&one["fingerprint"]),
            shown(&one["os"]),
        );
        if one["document"].is_string() {
            let _written = writeln!(text, "    document {}", shown(&one["document"]));
        }
    }
    for token in entries(&answer["tokens"]) {
        let (id, kind, name) = (&token["id"], &token["kind"], &token["name"]);
        let _written = writeln!(text, "{}  {} token  {}", shown(id), shown(kind), shown(name));
    }
    if text.is_empty() {
        return "nobody waits for approval\n".to_owned();
    }
    format!("{text}Approve with: roundel approve ID\n")
}
