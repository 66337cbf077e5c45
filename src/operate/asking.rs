//! Asking a running server as its operator: one line to it, and what its answers mean.

use anyhow::{Context as _, Result, bail};
use collector::agent::{Operator, Secret, Trust};
use rrd::Clock as _;
use serde_json::Value;

use crate::args::Asked;
use crate::clock::SystemClock;

/// Speaks to the server that the command line names.
pub(crate) struct Asking {
    server: Operator,
    url: String,
}

impl Asking {
    /// Errors without an admin token, or when the address is none.
    pub(crate) fn of(asked: &Asked) -> Result<Self> {
        let Some(token) = asked.admin_token.as_deref().filter(|token| !token.is_empty()) else {
            bail!("no admin token; put the server's into ROUNDEL_ADMIN_TOKEN");
        };
        let trust = Trust { authority: asked.ca.clone(), pin: asked.ca_hash, identity: None };
        let server = Operator::trusting(&asked.server, Secret::new(token), &trust)?;
        Ok(Self { server, url: asked.server.clone() })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.read(self.server.get(path).await)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.read(self.server.post(path, body.to_string().into_bytes()).await)
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value> {
        self.read(self.server.delete(path).await)
    }

    /// The id of an instance by its id or its name. Of those with one name it is the one not gone.
    pub(crate) async fn id(&self, instance: &str) -> Result<String> {
        if let Ok(id) = instance.parse::<rrd::InstanceId>() {
            return Ok(id.to_string());
        }
        let list = self.get("/v1/instances").await?;
        let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let named: Vec<&Value> = all.iter().filter(|one| one["name"] == instance).collect();
        let is_there = |one: &&&Value| !GONE.iter().any(|word| one["state"] == **word);
        let there: Vec<&&Value> = named.iter().filter(is_there).collect();
        let found = match (there.as_slice(), named.as_slice()) {
            ([one], _) => one["id"].as_str(),
            ([], [one]) => one["id"].as_str(),
            ([], []) => {
                bail!("{instance}: no instance has this name or id; see \"roundel instances list\"")
            }
            _ => bail!("{instance}: {} instances have this name; give an id", named.len()),
        };
        found.map(str::to_owned).context("the server lists an instance without an id")
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

/// States of instances of which nothing is expected.
const GONE: [&str; 6] = ["withdrawn", "terminated", "archived", "reclaimed", "revoked", "expired"];

/// Runs what a command asks, on one thread.
pub(crate) fn ask<T>(asked: &Asked, work: impl AsyncFnOnce(&Asking) -> Result<T>) -> Result<T> {
    let asking = Asking::of(asked)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(&asking))
}

/// A text of the server's without what would be a command to a terminal: names come from senders.
pub(crate) fn shown(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).collect()
}

/// The entries of a list.
pub(crate) fn entries(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Lines of columns, each as wide as its widest cell; the last one is as long as it is.
pub(crate) fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// True of a moment that is still to come.
pub(crate) fn is_ahead(at_ms: i64) -> bool {
    at_ms > now_ms()
}

fn now_ms() -> i64 {
    SystemClock::start().wall().as_millis()
}

/// How long ago a moment of the server's is, by our clock.
pub(crate) fn ago(at_ms: &Value) -> String {
    let Some(at_ms) = at_ms.as_i64() else { return "never".to_owned() };
    match now_ms().saturating_sub(at_ms) / 1000 {
        secs @ ..120 => format!("{} s ago", secs.max(0)),
        secs @ ..7_200 => format!("{} min ago", secs / 60),
        secs @ ..172_800 => format!("{} h ago", secs / 3_600),
        secs => format!("{} days ago", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let line = |cells: [&str; 3]| cells.map(str::to_owned);
        let text = columns(&[line(["a", "long name", "x"]), line(["abc", "b", ""])]);
        assert_eq!(text, "a    long name  x\nabc  b\n");
    }
}
