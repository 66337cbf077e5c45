//! `roundel instances`: the instances of a running server, and what becomes of their archives.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use collector::agent::{Operator, Secret};
use serde_json::{Value, json};

use super::words::{bytes, count, reach};
use crate::args::{Instances, InstancesCommand};
use crate::report;

/// Asks the server and prints what it says.
pub(crate) fn run(arguments: Instances) -> Result<()> {
    let Some(token) = arguments.admin_token.filter(|token| !token.is_empty()) else {
        bail!("no admin token; put the server's into ROUNDEL_ADMIN_TOKEN");
    };
    let server = Operator::to(&arguments.server, Secret::new(&token))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asking = Asking { server, url: arguments.server };
    let answer = runtime.block_on(asking.answer(&arguments.command))?;
    report::print(&if arguments.json {
        format!("{answer:#}\n")
    } else {
        text(&arguments.command, &answer)
    });
    Ok(())
}

struct Asking {
    server: Operator,
    url: String,
}

impl Asking {
    async fn answer(&self, command: &InstancesCommand) -> Result<Value> {
        let (instance, action, body) = match command {
            InstancesCommand::List => return self.list().await,
            InstancesCommand::Withdraw { instance, reason } => {
                (instance, "withdraw", json!({ "reason": reason }))
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
        let path = format!("/v1/instances/{}/{action}", self.id(instance).await?);
        let answer = self.server.post(&path, body.to_string().into_bytes()).await;
        self.read(answer)
    }

    async fn list(&self) -> Result<Value> {
        self.read(self.server.get("/v1/instances").await)
    }

    /// The id of an instance by its id or its name.
    async fn id(&self, instance: &str) -> Result<String> {
        if let Ok(id) = instance.parse::<rrd::InstanceId>() {
            return Ok(id.to_string());
        }
        let list = self.list().await?;
        let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let named: Vec<&str> = all
            .iter()
            .filter(|one| one["name"] == instance)
            .filter_map(|one| one["id"].as_str())
            .collect();
        match named[..] {
            [id] => Ok(id.to_owned()),
            [] => {
                bail!("{instance}: no instance has this name or id; see \"roundel instances list\"")
            }
            _ => bail!("{instance}: {} instances have this name; give an id", named.len()),
        }
    }

    fn read(&self, answer: Result<(u16, Vec<u8>), String>) -> Result<Value> {
        let (status, body) = answer.map_err(|reason| {
            anyhow::anyhow!(
                "{}: {reason}; is the server running, and is this its --server?",
                self.url
            )
        })?;
        if status == 204 {
            return Ok(Value::Null);
        }
        let answer: Value = serde_json::from_slice(&body)
            .with_context(|| format!("{}: status {status}, and no answer of ours", self.url))?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        if status == 401 {
            bail!(
                "{}: ROUNDEL_ADMIN_TOKEN is not the one that this server was started with",
                self.url
            );
        }
        bail!("{} (status {status})", answer["message"].as_str().unwrap_or("refused"))
    }
}

fn text(command: &InstancesCommand, answer: &Value) -> String {
    match command {
        InstancesCommand::List => list(answer.as_array().map(Vec::as_slice).unwrap_or_default()),
        InstancesCommand::Withdraw { .. } => "withdrawn\n".to_owned(),
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

/// A line for each instance, in columns; names come from senders, and are no commands to a terminal.
fn list(instances: &[Value]) -> String {
    let lines: Vec<[String; 6]> = instances.iter().map(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let [name_width, series_width, size_width] = [2, 3, 4].map(|at| width(at).unwrap_or(0));
    let mut text = String::new();
    for [id, state, name, series, size, policy] in &lines {
        let line = format!(
            "{id}  {state:<9}  {name:<name_width$}  {series:>series_width$}  {size:>size_width$}  {policy}"
        );
        // A text cannot refuse to be written to.
        let _written = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Id, state, name, series, bytes and the rows it keeps, which are longest.
fn cells(one: &Value) -> [String; 6] {
    let archive = &one["archive"];
    let [series, size, policy] = if archive.is_null() {
        [String::new(), "no archive".to_owned(), String::new()]
    } else {
        let series = of_series(number(&archive["series"]));
        [series, bytes(number(&archive["bytes"])), shown(&archive["policy"])]
    };
    [shown(&one["id"]), shown(&one["state"]), shown(&one["name"]), series, size, policy]
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

fn shown(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).collect()
}
