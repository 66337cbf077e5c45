//! One Munin plugin and what is known of it: asked for its configuration now and then, and for its values.

use std::collections::BTreeMap;
use std::time::Duration;

use rrd::Kind;
use tokio::time::Instant;
use tracing::{info, warn};

use super::said::{Field, FieldKind, Key, Said};
use crate::agent::plugins::crew::Job;
use crate::agent::plugins::exec::Program;
use crate::agent::plugins::finding::Finding;

/// How long a configuration is believed: disks and interfaces come and go.
const CONFIGURED_FOR: Duration = Duration::from_hours(1);

/// A plugin.
pub(super) struct Plugin {
    name: String,
    every: Duration,
    program: Program,
    /// What its configuration said, and when.
    configured: Option<(BTreeMap<Key, Field>, Instant)>,
    /// Its configuration brings the values along, so that one run is enough.
    is_dirty: bool,
    /// The sums of counts that begin anew with every value.
    sums: BTreeMap<Key, f64>,
    is_troubled: bool,
}

impl Plugin {
    /// A plugin that was not asked yet.
    pub(super) fn new(name: &str, every: Duration, program: Program) -> Self {
        Self {
            name: name.to_owned(),
            every,
            program,
            configured: None,
            is_dirty: false,
            sums: BTreeMap::new(),
            is_troubled: false,
        }
    }

    /// What it says now. Errors in words.
    async fn ask(&mut self) -> Result<Said, String> {
        let is_old = |asked: &Instant| asked.elapsed() >= CONFIGURED_FOR;
        if self.is_dirty || self.configured.as_ref().is_none_or(|(_, asked)| is_old(asked)) {
            let mut said = self.started(&["config"]).await?;
            let fields = std::mem::take(&mut said.fields);
            self.sums.retain(|key, _| fields.contains_key(key));
            self.configured = Some((fields, Instant::now()));
            self.is_dirty = !said.values.is_empty();
            if self.is_dirty {
                return Ok(said);
            }
        }
        self.started(&[]).await
    }

    async fn started(&self, arguments: &[&str]) -> Result<Said, String> {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        let program = Program { arguments, ..self.program.clone() };
        let output = program.run().await.map_err(|failure| failure.to_string())?;
        if output.code == Some(0) {
            return Ok(Said::by(&self.name, &output.text));
        }
        let code = output.code.map_or("a signal".to_owned(), |code| format!("code {code}"));
        let first = output.errors.lines().next().unwrap_or_default();
        Err(format!("it ended with {code}: {}", first.chars().take(200).collect::<String>()))
    }

    /// What it said as series.
    fn findings(&mut self, said: &Said) -> Vec<Finding> {
        let usual = Field::default();
        let fields = self.configured.as_ref().map(|(fields, _)| fields);
        let mut found = Vec::with_capacity(said.values.len());
        for (key, value) in &said.values {
            let Some(number) = value.number else { continue };
            let field = fields.and_then(|fields| fields.get(key)).unwrap_or(&usual);
            let (metric, kind, number) = match field.kind {
                FieldKind::Gauge if field.allows(number) => ("munin_value", Kind::Gauge, number),
                FieldKind::Gauge => continue,
                FieldKind::Counter => ("munin_total", Kind::Counter, number),
                FieldKind::Derive if field.min.is_some_and(|min| min >= 0.0) => {
                    ("munin_total", Kind::Total, number)
                }
                FieldKind::Derive => ("munin_total", Kind::DDerive, number),
                // It is said again at every look, and would count again each time.
                FieldKind::Absolute => {
                    let sum = self.sums.entry(key.clone()).or_default();
                    *sum += number.max(0.0);
                    ("munin_total", Kind::Total, *sum)
                }
            };
            let (graph, field) = key;
            let graph = if *graph == self.name { "" } else { graph.as_str() };
            let labels =
                [("plugin", self.name.as_str()), ("graph", graph), ("field", field.as_str())];
            found.push(Finding::of(metric, &labels, (kind, number)));
        }
        found
    }

    fn log(&mut self, outcome: &Result<Said, String>) {
        let was_troubled = std::mem::replace(&mut self.is_troubled, outcome.is_err());
        match outcome {
            Ok(_) if was_troubled => info!(plugin = self.name, "works again"),
            Err(why) if !was_troubled => warn!(plugin = self.name, why, "gives no values"),
            _ => {}
        }
    }
}

impl Job for Plugin {
    fn name(&self) -> &str {
        &self.name
    }

    fn every(&self) -> Duration {
        self.every
    }

    async fn run(&mut self) -> Vec<Finding> {
        let begin = Instant::now();
        let outcome = self.ask().await;
        self.log(&outcome);
        let mut found = outcome.as_ref().map(|said| self.findings(said)).unwrap_or_default();
        let of_plugin = [("plugin", self.name.as_str())];
        let is_up = f64::from(u8::from(outcome.is_ok()));
        found.push(Finding::gauge("munin_plugin_up", &of_plugin, is_up));
        let took_s = begin.elapsed().as_secs_f64();
        found.push(Finding::gauge("munin_plugin_duration_seconds", &of_plugin, took_s));
        found
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A plugin of these words, and the folder that holds it.
    fn plugin(script: &str) -> (Plugin, TempDir) {
        let program = Program {
            path: "/bin/sh".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            account: None,
            timeout: Duration::from_secs(20),
            output_max: 1000,
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        (Plugin::new("p", Duration::from_mins(1), Program { path, ..program }), dir)
    }

    /// All but how long it took.
    async fn texts(plugin: &mut Plugin) -> Vec<String> {
        let mut found = Job::run(plugin).await;
        found.pop();
        found.iter().map(Finding::text).collect()
    }

    #[tokio::test]
    async fn a_configuration_is_asked_for_once_and_kinds_follow_from_it() {
        let (mut plugin, _dir) = plugin(
            "echo x >> ${0%/p}/$1.log\nif [ \"$1\" = config ]; then\n\
             printf 'g.max 9\\nc.type COUNTER\\nd.type DERIVE\\nd.min 0\\na.type ABSOLUTE\\n'\n\
             else printf 'g.value 5\\nc.value 7\\nd.value 8\\na.value 3\\nu.value U\\n'; fi",
        );
        let first = [
            r#"munin_total{plugin="p",field="a"} 3"#,
            r#"munin_total{plugin="p",field="c"} 7"#,
            r#"munin_total{plugin="p",field="d"} 8"#,
            r#"munin_value{plugin="p",field="g"} 5"#,
            r#"munin_plugin_up{plugin="p"} 1"#,
        ];
        assert_eq!(texts(&mut plugin).await, first);
        assert_eq!(texts(&mut plugin).await[0], r#"munin_total{plugin="p",field="a"} 6"#);
        let runs = |name: &str| {
            let file = plugin.program.path.with_file_name(name);
            std::fs::read_to_string(file).unwrap().lines().count()
        };
        assert_eq!((runs("config.log"), runs(".log")), (1, 2));
    }

    #[tokio::test]
    async fn a_plugin_that_configures_and_measures_in_one_is_run_once_a_time() {
        let (mut plugin, _dir) = plugin(
            "echo x >> ${0%/p}/log\n\
             [ \"$1\" = config ] && printf 'multigraph q\\nm.min 0\\nm.value 4\\n'",
        );
        for _ in 0..2 {
            let graph = r#"munin_value{plugin="p",graph="q",field="m"} 4"#;
            assert_eq!(texts(&mut plugin).await[0], graph);
        }
        let log = std::fs::read_to_string(plugin.program.path.with_file_name("log")).unwrap();
        assert_eq!(log.lines().count(), 2);
    }

    #[tokio::test]
    async fn a_level_out_of_its_bounds_is_unknown() {
        let (mut plugin, _dir) =
            plugin("if [ \"$1\" ]; then echo g.max 9; else echo g.value 10; echo h.value 10; fi");
        let found = texts(&mut plugin).await;
        assert_eq!(found[0], r#"munin_value{plugin="p",field="h"} 10"#);
    }

    #[tokio::test]
    async fn a_plugin_that_fails_is_down_and_says_nothing() {
        let (mut plugin, _dir) = plugin("echo g.value 10; echo why >&2; exit 3");
        assert_eq!(plugin.ask().await.unwrap_err(), "it ended with code 3: why");
        assert_eq!(texts(&mut plugin).await, [r#"munin_plugin_up{plugin="p"} 0"#]);
    }
}
