//! Checks: the Nagios plugins of `agent.toml`, run in turn, each a state and its performance data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use tracing::info;

use super::crew::{Crew, Job};
use super::exec::Program;
use super::finding::Finding;
use super::nagios::{Answer, State};
use super::written::{Manner, read};
use crate::agent::source::Source;

/// Checks of one agent.
const CHECKS_MAX: usize = 200;
/// Bytes that a check may write.
const OUTPUT_MAX: usize = 64 << 10;

/// The table of a source `kind = "nagios"`.
#[derive(Debug, Deserialize)]
struct Written {
    #[serde(flatten)]
    manner: Manner,
    checks: BTreeMap<String, WrittenCheck>,
    #[serde(flatten)]
    rest: BTreeMap<String, toml::Value>,
}

/// The table of one check.
#[derive(Debug, Deserialize)]
struct WrittenCheck {
    command: Vec<String>,
    #[serde(flatten)]
    manner: Manner,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    thresholds: bool,
    #[serde(flatten)]
    rest: BTreeMap<String, toml::Value>,
}

/// The source that a table describes, running.
pub(in crate::agent) fn build(_: &str, table: toml::Table) -> Result<Box<dyn Source>, String> {
    Ok(Box::new(Crew::start(checks(table)?)))
}

fn checks(table: toml::Table) -> Result<Vec<Check>, String> {
    let written: Written = read(table)?;
    no_others(&written.rest)?;
    if written.checks.len() > CHECKS_MAX {
        return Err(format!("more than {CHECKS_MAX} checks; take some out"));
    }
    let check = |(name, check): (String, WrittenCheck)| {
        Check::new(&name, check, &written.manner).map_err(|why| format!("check {name:?}: {why}"))
    };
    written.checks.into_iter().map(check).collect()
}

/// A table that takes every key refuses here what nobody knows.
fn no_others(rest: &BTreeMap<String, toml::Value>) -> Result<(), String> {
    rest.keys().next().map_or(Ok(()), |key| Err(format!("there is no key {key:?}")))
}

/// One check, and how it was when it was last run.
struct Check {
    name: String,
    every: Duration,
    program: Program,
    with_thresholds: bool,
    last: Option<State>,
}

impl Check {
    fn new(name: &str, written: WrittenCheck, shared: &Manner) -> Result<Self, String> {
        no_others(&written.rest)?;
        let manner = written.manner.or(shared);
        let (every, timeout) = manner.times();
        let mut words = written.command.into_iter();
        let path = words.next().map(PathBuf::from).filter(|path| path.is_absolute());
        let path = path.ok_or(
            "command must begin with the whole path of a program; write it as \
             command = [\"/usr/lib/nagios/plugins/check_load\", \"-w\", \"5\"]",
        )?;
        let program = Program {
            path,
            arguments: words.collect(),
            environment: written.env.into_iter().collect(),
            account: manner.account()?,
            timeout,
            output_max: OUTPUT_MAX,
        };
        let with_thresholds = written.thresholds;
        Ok(Self { name: name.to_owned(), every, program, with_thresholds, last: None })
    }

    /// What the check says is for people: the log has it whenever the state is another one.
    fn log(&mut self, answer: &Answer) {
        let state = answer.state;
        let is_news = self.last.replace(state).unwrap_or(State::Ok) != state;
        if is_news {
            info!(check = self.name, state = state.word(), message = answer.message, "check");
        }
    }
}

impl Job for Check {
    fn name(&self) -> &str {
        &self.name
    }

    fn every(&self) -> Duration {
        self.every
    }

    async fn run(&mut self) -> Vec<Finding> {
        let begin = Instant::now();
        let answer = Answer::of(&self.program.run().await);
        self.log(&answer);
        let mut findings = answer.findings(&self.name, self.with_thresholds);
        let of_check = [("check", self.name.as_str())];
        let took_s = begin.elapsed().as_secs_f64();
        findings.push(Finding::gauge("nagios_duration_seconds", &of_check, took_s));
        if answer.unreadable > 0 {
            let count = f64::from(u32::try_from(answer.unreadable).unwrap_or(u32::MAX));
            findings.push(Finding::gauge("nagios_perfdata_unreadable", &of_check, count));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Check>, String> {
        checks(toml::from_str(text).unwrap())
    }

    #[test]
    fn a_check_says_what_it_does_another_way_than_the_others() {
        let all = read(
            "every = \"5m\"\ntimeout = \"30s\"\nuser = \"0\"\n\
             [checks.disk]\ncommand = [\"/bin/check_disk\", \"-w\", \"10%\"]\nenv = { A = \"b\" }\n\
             [checks.load]\ncommand = [\"/bin/check_load\"]\nevery = \"10s\"\nthresholds = true\n",
        )
        .unwrap();
        let [disk, load] = all.as_slice() else { panic!("two checks") };
        assert_eq!((disk.name.as_str(), disk.every), ("disk", Duration::from_mins(5)));
        assert_eq!(disk.program.arguments, ["-w", "10%"]);
        assert_eq!(disk.program.environment, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(disk.program.timeout, Duration::from_secs(30));
        assert_eq!(
            load.program.timeout,
            Duration::from_secs(10),
            "not longer than the time between"
        );
        assert!(load.program.account.is_some() && load.with_thresholds && !disk.with_thresholds);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("", "checks"),
            ("[checks.a]\ncommand = []", "check \"a\": command must begin with the whole path"),
            ("[checks.a]\ncommand = [\"check_load\"]", "whole path"),
            ("[checks.a]\ncommand = [\"/x\"]\nargs = 1", "check \"a\": there is no key \"args\""),
            ("often = \"1m\"\n[checks.a]\ncommand = [\"/x\"]", "there is no key \"often\""),
            ("every = \"1\"\n[checks.a]\ncommand = [\"/x\"]", "write it as \"1m\""),
            ("[checks.a]\ncommand = [\"/x\"]\ntimeout = \"1h\"", "write it as \"10s\""),
            ("user = \"no one\"\n[checks.a]\ncommand = [\"/x\"]", "there is no user \"no one\""),
            ("[checks.a]\ncommand = [\"/x\"]\ngroup = \"0\"", "a group without a user"),
        ] {
            let problem = read(text).err().unwrap();
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }

    #[tokio::test]
    async fn a_check_is_one_run_with_its_state_its_values_and_its_time() {
        let text = "[checks.a]\ncommand = [\"/bin/sh\", \"-c\", \"echo 'x | a=1 b'; exit 1\"]\n";
        let mut check = read(text).unwrap().remove(0);
        let found: Vec<String> = check.run().await.iter().map(Finding::text).collect();
        assert_eq!(
            found[..2],
            [r#"nagios_state{check="a"} 1"#, r#"nagios_perfdata{check="a",label="a"} 1"#]
        );
        assert!(found[2].starts_with("nagios_duration_seconds{check=\"a\"} 0."), "{found:?}");
        assert_eq!(found[3], r#"nagios_perfdata_unreadable{check="a"} 1"#);
        assert_eq!(check.last, Some(State::Warning));
    }
}
