//! `roundel instances`: the instances of a running server, and what becomes of their archives.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use super::asking::{Asking, ago, ask, columns, entries, shown};
use super::words::{bytes, count, reach};
use crate::args::{Instances, InstancesCommand};
use crate::report;

/// Asks the server and prints what it says.
pub(crate) fn run(arguments: &Instances) -> Result<()> {
    let command = &arguments.command;
    let answer = ask(&arguments.asked, async |server| answer(server, command).await)?;
    report::print(&if arguments.asked.json {
        format!("{answer:#}\n")
    } else {
        text(command, &answer)
    });
    Ok(())
}

async fn answer(server: &Asking, command: &InstancesCommand) -> Result<Value> {
    let (instance, action, body) = match command {
        InstancesCommand::List { state, labels } => {
            return server.get(&list_path(state.as_deref(), labels)).await;
        }
        InstancesCommand::Show { instance } => return one(server, instance).await,
        InstancesCommand::Events { after } => {
            return server.get(&format!("/v1/events?after={after}")).await;
        }
        InstancesCommand::Withdraw { instance, reason } => {
            (instance, "withdraw", json!({ "reason": reason }))
        }
        InstancesCommand::Quarantine { instance, reason } => {
            (instance, "quarantine", json!({ "reason": reason }))
        }
        InstancesCommand::Release { instance, reason } => {
            (instance, "release", json!({ "reason": reason }))
        }
        InstancesCommand::Revoke { instance, reason } => {
            (instance, "revoke", json!({ "reason": reason }))
        }
        InstancesCommand::Policy { instance, policy, dry_run } => {
            (instance, "policy", json!({ "policy": policy, "dry_run": dry_run }))
        }
        InstancesCommand::Drop { instance, matchers, dry_run } => {
            (instance, "drop", json!({ "match": matchers, "dry_run": dry_run }))
        }
        InstancesCommand::Reclaim { instance, dry_run } => {
            (instance, "reclaim", json!({ "dry_run": dry_run }))
        }
    };
    let path = format!("/v1/instances/{}/{action}", server.id(instance).await?);
    server.post(&path, &body).await
}

fn list_path(state: Option<&str>, labels: &[(String, String)]) -> String {
    let state = state.map(|state| format!("state={}", escaped(state)));
    let label =
        |(name, value): &(String, String)| format!("label={}", escaped(&format!("{name}={value}")));
    let wanted: Vec<String> = state.into_iter().chain(labels.iter().map(label)).collect();
    if wanted.is_empty() {
        return "/v1/instances".to_owned();
    }
    format!("/v1/instances?{}", wanted.join("&"))
}

/// A text as a query of an address has it.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

async fn one(server: &Asking, instance: &str) -> Result<Value> {
    let id = server.id(instance).await?;
    let list = server.get("/v1/instances").await?;
    let found = entries(&list).iter().find(|one| one["id"] == id.as_str());
    Ok(found.cloned().unwrap_or_default())
}

fn text(command: &InstancesCommand, answer: &Value) -> String {
    match command {
        InstancesCommand::List { .. } => list(entries(answer)),
        InstancesCommand::Show { .. } => life(answer),
        InstancesCommand::Events { .. } => events(entries(&answer["events"])),
        InstancesCommand::Withdraw { .. } => "withdrawn\n".to_owned(),
        InstancesCommand::Quarantine { .. } => {
            "in quarantine: what it sends is kept, and nothing is judged by it\n".to_owned()
        }
        InstancesCommand::Release { .. } => "released\n".to_owned(),
        InstancesCommand::Revoke { .. } => "revoked: it cannot come back with its key\n".to_owned(),
        InstancesCommand::Policy { .. } => policy(answer),
        InstancesCommand::Drop { .. } => dropped(answer),
        InstancesCommand::Reclaim { .. } => {
            let size = bytes(number(&answer["bytes"]));
            if answer["reclaimed"] == true {
                format!("reclaimed: {size} are free within a minute\n")
            } else {
                format!("{size} would be free; nothing was changed\n")
            }
        }
    }
}

/// A line for each instance: id, state, name, series, bytes and rows, and why it does not report.
fn list(instances: &[Value]) -> String {
    let lines: Vec<[String; 6]> = instances.iter().map(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let [state_width, name_width, series_width, size_width] =
        [1, 2, 3, 4].map(|at| width(at).unwrap_or(0));
    let mut text = String::new();
    for [id, state, name, series, size, rest] in &lines {
        let line = format!(
            "{id}  {state:<state_width$}  {name:<name_width$}  {series:>series_width$}  {size:>size_width$}  {rest}"
        );
        // A text cannot refuse to be written to.
        let _written = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn cells(one: &Value) -> [String; 6] {
    let archive = &one["archive"];
    let [series, size, policy] = if archive.is_null() {
        [String::new(), "no archive".to_owned(), String::new()]
    } else {
        let series = of_series(number(&archive["series"]));
        [series, bytes(number(&archive["bytes"])), shown(&archive["policy"])]
    };
    let rest = match one["state"].as_str() {
        Some("active") => policy,
        _ => format!("{policy}  ({}: {})", ago(&one["since_ms"]), shown(&one["evidence"])),
    };
    [shown(&one["id"]), shown(&one["state"]), shown(&one["name"]), series, size, rest]
}

/// One instance, and how it came to be where it is.
fn life(one: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _written = writeln!(text, "{name:<13} {value}");
        }
    };
    line("name", shown(&one["name"]));
    line("id", shown(&one["id"]));
    line("state", format!("{}: {}", shown(&one["state"]), shown(&one["evidence"])));
    line("last heard", ago(&one["last_seen_ms"]));
    line("enrolled", ago(&one["enrolled_ms"]));
    line("lifecycle", shown(&one["lifecycle"]));
    line("fingerprint", shown(&one["fingerprint"]));
    line("predecessor", shown(&one["predecessor"]));
    for (name, value) in one["labels"].as_object().into_iter().flatten() {
        line("label", format!("{}={}", shown(&Value::from(name.as_str())), shown(value)));
    }
    let now = [one.clone()];
    for step in entries(&one["past"]).iter().chain(&now) {
        let (state, who) = (shown(&step["state"]), shown(&step["who"]));
        let said = format!("{state:<11} {who:<9} {}", shown(&step["evidence"]));
        line(&ago(&step["since_ms"]), said);
    }
    text
}

/// A line for each event, oldest first.
fn events(events: &[Value]) -> String {
    let cells = |event: &Value| {
        let what = match event["to"].as_str() {
            Some(_) => shown(&event["to"]),
            None => shown(&event["what"]),
        };
        let number = event["number"].as_u64().unwrap_or_default().to_string();
        let (name, who) = (shown(&event["name"]), shown(&event["who"]));
        [number, ago(&event["at_ms"]), what, name, who, shown(&event["evidence"])]
    };
    columns(&events.iter().map(cells).collect::<Vec<_>>())
}

fn policy(answer: &Value) -> String {
    let (needed, there) = (bytes(number(&answer["bytes_needed"])), bytes(number(&answer["bytes"])));
    let mut text =
        format!("{} becomes {}\n", shown(&answer["former_policy"]), shown(&answer["policy"]));
    let _written =
        writeln!(text, "needs {needed} beside the {there} there are, which then come back");
    for lost in answer["loses"].as_array().into_iter().flatten() {
        let _written = writeln!(text, "{}", loss(lost));
    }
    let is_changed = answer["changed"] == true;
    let changed = "changed; the file follows within a minute\n";
    text.push_str(if is_changed { changed } else { "nothing was changed\n" });
    text
}

/// Which rows go, and what becomes of those that stay.
fn loss(lost: &Value) -> String {
    let step = shown(&lost["step"]);
    let (kept, keeps) = (reach(number(&lost["kept_ms"])), number(&lost["keeps_ms"]));
    let mut text = match keeps {
        0 => format!("loses rows of {step}, of which there are {kept}"),
        keeps => format!("loses rows of {step} older than {}, of {kept}", reach(keeps)),
    };
    if lost["other_days"] == true {
        text.push_str("; days of another zone are made of narrower rows alone");
    } else if keeps == 0 && lost["has_wider"] == true {
        text.push_str("; wider ones follow from them");
    }
    text
}

fn dropped(answer: &Value) -> String {
    let series = answer["series"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = String::new();
    for one in series {
        let _written = writeln!(text, "{}", shown(one));
    }
    let count = of_series(series.len() as u64);
    let _written = match (answer["dropped"] == true, series.is_empty()) {
        (true, _) => writeln!(text, "{count} dropped; one that is sent again begins anew"),
        (false, true) => writeln!(text, "no series of the instance is like that"),
        (false, false) => writeln!(text, "{count} would go; nothing was changed"),
    };
    text
}

fn of_series(number: u64) -> String {
    format!("{} series", count(number))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}
