//! `roundel policy`: who is let in without a person, listed, added, tried and taken back.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::asking::{Asking, ago, ask, entries, shown};
use super::tokens::{labels, put_spans};
use crate::args::{PolicyArguments, PolicyCommand, PolicyWish};
use crate::report;

/// Asks the server and prints what it says.
pub(crate) fn run(arguments: &PolicyArguments) -> Result<()> {
    let command = &arguments.command;
    let answer = ask(&arguments.asked, async |server| answer(server, command).await)?;
    report::print(&match command {
        _ if arguments.asked.json => format!("{answer:#}\n"),
        PolicyCommand::List => list(&answer),
        PolicyCommand::Add(wish) => format!("{}: holds from now on\n", wish.name),
        PolicyCommand::Try { .. } => tried(&answer),
        PolicyCommand::Remove { name } => format!("{name}: removed; whoever came by it stays\n"),
    });
    Ok(())
}

async fn answer(server: &Asking, command: &PolicyCommand) -> Result<Value> {
    match command {
        PolicyCommand::List => server.get("/v1/policies").await,
        PolicyCommand::Add(wish) => server.post("/v1/policies", &body(wish)).await,
        PolicyCommand::Try { wish, days } => {
            let asked = json!({ "policy": body(wish), "days": days });
            server.post("/v1/policies/try", &asked).await
        }
        PolicyCommand::Remove { name } => server.delete(&format!("/v1/policies/{name}")).await,
    }
}

/// What is asked for, without what nobody said.
fn body(wish: &PolicyWish) -> Value {
    let mut body = Map::new();
    body.insert("name".to_owned(), json!(wish.name));
    body.insert("cidr".to_owned(), json!(wish.cidr));
    body.insert("labels".to_owned(), Value::from(labels(&wish.labels)));
    body.insert("forced_labels".to_owned(), Value::from(labels(&wish.forced)));
    if !wish.accounts.is_empty() {
        body.insert("accounts".to_owned(), json!(wish.accounts));
    }
    for (name, value) in
        [("name_like", &wish.name_like), ("token", &wish.token), ("require", &wish.require)]
    {
        if let Some(value) = value {
            body.insert(name.to_owned(), json!(value));
        }
    }
    if let Some(within_ms) = wish.started_within_ms {
        body.insert("started_within_secs".to_owned(), json!(within_ms / 1000));
    }
    put_spans(&mut body, &wish.spans);
    Value::from(body)
}

/// A paragraph for each: its name, a line for each thing that has to hold, and what it gives.
fn list(answer: &Value) -> String {
    let mut text = String::new();
    for policy in entries(answer) {
        let _written = writeln!(text, "{}", shown(&policy["name"]));
        for line in conditions(policy).into_iter().chain(gifts(policy)) {
            let _written = writeln!(text, "    {line}");
        }
    }
    if text.is_empty() {
        return "there are no policies; \"roundel policy try\" says whom one would let in\n"
            .to_owned();
    }
    text
}

fn conditions(policy: &Value) -> Vec<String> {
    let listed =
        |name: &str| entries(&policy[name]).iter().map(shown).collect::<Vec<_>>().join(", ");
    let (networks, accounts) = (listed("cidr"), listed("accounts"));
    let mut lines = Vec::new();
    if !networks.is_empty() {
        lines.push(format!("from {networks}"));
    }
    for (name, words) in [("name_like", "name like"), ("token", "shows token")] {
        if policy[name].is_string() {
            lines.push(format!("{words} {}", shown(&policy[name])));
        }
    }
    let declared = pairs(&policy["labels"]);
    lines.extend((!declared.is_empty()).then(|| format!("labels {declared}")));
    lines.extend(policy["require"].is_string().then(|| "verified by its cloud".to_owned()));
    lines.extend((!accounts.is_empty()).then(|| format!("its cloud says it is of {accounts}")));
    let within = policy["started_within_secs"].as_u64();
    lines.extend(within.map(|secs| format!("started at most {secs} s before it asks")));
    lines
}

/// What whom it lets in is given.
fn gifts(policy: &Value) -> Vec<String> {
    let forced = pairs(&policy["forced_labels"]);
    let mut lines = Vec::new();
    lines.extend((!forced.is_empty()).then(|| format!("-> labels {forced}")));
    lines.extend((policy["lifecycle"] == "ephemeral").then(|| "-> ephemeral".to_owned()));
    for (name, word) in
        [("silent_secs", "silent"), ("lost_secs", "lost"), ("withdraw_secs", "withdrawn")]
    {
        lines.extend(policy[name].as_u64().map(|secs| format!("-> {word} after {secs} s")));
    }
    lines
}

fn pairs(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let pairs = pairs.map(|(name, value)| format!("{name}={}", shown(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn tried(answer: &Value) -> String {
    let (admitted, refused) = (entries(&answer["admitted"]), entries(&answer["refused"]));
    let mut text = format!(
        "of the last {} days it would have let in {} and left {} to a person; nothing is changed\n",
        answer["days"],
        admitted.len(),
        refused.len()
    );
    for one in admitted {
        let (name, state) = (shown(&one["name"]), shown(&one["state"]));
        let _written = writeln!(text, "+ {name}  asked {}, was {state}", ago(&one["at_ms"]));
    }
    for one in refused {
        let (name, why_not) = (shown(&one["name"]), shown(&one["why_not"]));
        let _written = writeln!(text, "- {name}  {why_not}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_listed_with_what_has_to_hold_and_what_it_gives() {
        let policy = json!([{"name": "fleet", "cidr": ["10.0.0.0/8", "192.0.2.0/24"],
                             "name_like": "web-*", "labels": {"cloud_account": "123"},
                             "require": "verified", "started_within_secs": 3600,
                             "accounts": ["aws:123", "gcp:shop"],
                             "forced_labels": {"role": "web"}, "lifecycle": "ephemeral",
                             "lost_secs": 60}]);
        let text = "fleet\n    from 10.0.0.0/8, 192.0.2.0/24\n    name like web-*\n    \
                    labels cloud_account=123\n    verified by its cloud\n    \
                    its cloud says it is of aws:123, gcp:shop\n    \
                    started at most 3600 s before it asks\n    -> labels role=web\n    \
                    -> ephemeral\n    -> lost after 60 s\n";
        assert_eq!(list(&policy), text);
        assert!(list(&json!([])).starts_with("there are no policies"));
    }
}
