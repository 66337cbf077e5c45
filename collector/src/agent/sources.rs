//! The sources of one agent: made from the configuration, asked in tasks of their own, and counted.

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use rrd::Timestamp;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::error::AgentError;
use super::reading::Readings;
use super::source::{Look, Source, Trouble};
use super::{exporters, plugins, statsd, textfile};

/// An answer that comes this soon after its look belongs to the look's moment: readings on the
/// boundary fill whole rows, and an error of one hundredth of the usual step is less than a timer's.
pub(super) const PROMPT: Duration = Duration::from_millis(100);

/// Sources of one agent.
pub(super) const SOURCES_MAX: usize = 64;

/// Makes a source from its name and its table in `agent.toml`, or says what is wrong with the table.
pub(super) type Build = fn(&str, toml::Table) -> Result<Box<dyn Source>, String>;

/// What `kind = "…"` in a source's table may say.
const KINDS: &[(&str, Build)] = &[
    ("exporter", exporters::build),
    ("munin", plugins::munin),
    ("nagios", plugins::nagios),
    ("probe", plugins::probe),
    ("statsd", statsd::build),
    ("textfile", textfile::build),
];

/// When a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Always.
    Always,
    /// While the machine's descriptor names it.
    Asked,
}

/// When the source of this table is asked. Errors name the remedy.
pub(super) fn when(name: &str, table: &toml::Table) -> Result<When, AgentError> {
    match table.get("when").map(toml::Value::as_str) {
        None | Some(Some("always")) => Ok(When::Always),
        Some(Some("asked")) => Ok(When::Asked),
        Some(_) => Err(AgentError::Source {
            name: name.to_owned(),
            problem: "when: write \"always\", or \"asked\" for one that a descriptor turns on"
                .to_owned(),
        }),
    }
}

/// Makes the source `name` of its table. Runs inside the runtime, so that a source may listen.
pub(super) fn build(name: &str, table: &toml::Table) -> Result<Box<dyn Source>, AgentError> {
    build_of(KINDS, name, table)
        .map_err(|problem| AgentError::Source { name: name.to_owned(), problem })
}

fn build_of(
    kinds: &[(&str, Build)],
    name: &str,
    table: &toml::Table,
) -> Result<Box<dyn Source>, String> {
    let mut table = table.clone();
    table.remove("when");
    let known = || kinds.iter().map(|(kind, _)| *kind).collect::<Vec<_>>().join(", ");
    let Some(toml::Value::String(kind)) = table.remove("kind") else {
        return Err(format!("it has no kind; write kind = \"…\", one of: {}", known()));
    };
    match kinds.iter().find(|(known, _)| *known == kind) {
        Some((_, build)) => build(name, table),
        None => Err(format!("there is no kind {kind:?}; write one of: {}", known())),
    }
}

/// All sources, each either at rest or being asked.
#[derive(Default)]
pub(super) struct Sources {
    slots: BTreeMap<String, Slot>,
    asked: JoinSet<Answered>,
}

/// One source and what is known of it.
#[derive(Default)]
struct Slot {
    /// Absent while it is asked.
    rest: Option<Rest>,
    /// Its task; a source that is removed meanwhile ends with it.
    task: Option<AbortHandle>,
    /// The moment it was last asked for.
    asked_at: Option<Timestamp>,
    took_s: Option<f64>,
    failures: u64,
    /// Looks that found it still being asked.
    missed: u64,
    is_troubled: bool,
}

/// A source at rest, with the buffer for what it will say.
type Rest = (Box<dyn Source>, Readings);

/// What became of a source that was asked.
pub(super) struct Answered {
    name: String,
    /// The look it was asked for.
    pub(super) look: Look,
    rest: Rest,
    outcome: Result<(), Trouble>,
    /// True when it belongs to the look's moment.
    pub(super) is_prompt: bool,
    took: Duration,
}

impl Answered {
    /// What it found, in part when it failed.
    pub(super) fn readings(&self) -> &Readings {
        &self.rest.1
    }
}

impl Sources {
    /// Adds a source, or replaces the one of that name.
    pub(super) fn set(&mut self, name: &str, source: Box<dyn Source>) {
        self.remove(name);
        let rest = Some((source, Readings::default()));
        self.slots.insert(name.to_owned(), Slot { rest, ..Slot::default() });
    }

    /// Ends a source.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(task) = self.slots.remove(name).and_then(|slot| slot.task) {
            task.abort();
        }
    }

    /// True when there is a source of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.slots.contains_key(name)
    }

    /// Asks every source that rests and is due.
    pub(super) fn ask(&mut self, look: Look) {
        for (name, slot) in &mut self.slots {
            let Some((source, _)) = &slot.rest else {
                slot.missed += 1;
                continue;
            };
            let step = source.step().unwrap_or(look.step).max(look.step);
            let is_due = slot.asked_at.is_none_or(|last| last.floor(step) != look.at.floor(step));
            if !is_due {
                continue;
            }
            slot.asked_at = Some(look.at);
            let rest = slot.rest.take().expect("just seen");
            slot.task = Some(self.asked.spawn(answer(name.clone(), look, rest)));
        }
    }

    /// True while one is being asked.
    pub(super) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The next answer; never ready when nobody is asked. Dropping this loses nothing.
    pub(super) async fn answered(&mut self) -> Answered {
        loop {
            match self.asked.join_next().await {
                Some(Ok(answered)) => return answered,
                // Removed while it was asked, or it panicked: then it is gone, and its slot stays empty.
                Some(Err(_)) => {}
                None => return pending().await,
            }
        }
    }

    /// Puts a source back at rest and notes how it did.
    pub(super) fn put_back(&mut self, answered: Answered) {
        let Answered { name, rest, outcome, took, .. } = answered;
        let Some(slot) = self.slots.get_mut(&name).filter(|slot| slot.rest.is_none()) else {
            return;
        };
        slot.took_s = Some(took.as_secs_f64());
        match outcome {
            Ok(()) if std::mem::take(&mut slot.is_troubled) => info!(source = name, "works again"),
            Ok(()) => {}
            Err(why) => {
                slot.failures += 1;
                if std::mem::replace(&mut slot.is_troubled, true) {
                    debug!(source = name, %why, "gives no readings");
                } else {
                    warn!(source = name, %why, "gives no readings");
                }
            }
        }
        let (source, mut readings) = rest;
        readings.clear();
        slot.rest = Some((source, readings));
    }

    /// Adds how each source does to the readings of this moment.
    #[expect(clippy::cast_precision_loss, reason = "counts of one process stay below 2^53")]
    pub(super) fn report(&self, out: &mut Readings) {
        for (name, slot) in &self.slots {
            if let Some(took_s) = slot.took_s {
                out.gauge("agent_collect_duration_seconds", &[("collector", name)], took_s);
            }
            for (metric, count) in [
                ("agent_source_errors_total", slot.failures),
                ("agent_source_missed_looks_total", slot.missed),
            ] {
                if count > 0 {
                    out.total(metric, &[("source", name)], count as f64);
                }
            }
        }
    }
}

/// Asks one source within its time.
async fn answer(name: String, look: Look, rest: Rest) -> Answered {
    let (mut source, mut readings) = rest;
    let started = tokio::time::Instant::now();
    let limit = source.timeout();
    let outcome = match timeout(limit, source.read(look, &mut readings)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Trouble(format!("no answer in {} s", limit.as_secs_f64()))),
    };
    let took = started.elapsed();
    let is_prompt = took <= PROMPT;
    Answered { name, look, rest: (source, readings), outcome, is_prompt, took }
}

#[cfg(test)]
mod tests {
    use rrd::Step;

    use super::super::source::Answer;
    use super::*;

    /// Answers after some time with the number of times it was asked.
    struct Slow {
        delay: Duration,
        asked: f64,
        step: Option<Step>,
    }

    impl Slow {
        fn by_millis(delay: u64) -> Self {
            Self { delay: Duration::from_millis(delay), asked: 0.0, step: None }
        }
    }

    impl Source for Slow {
        fn read<'a>(&'a mut self, _: Look, out: &'a mut Readings) -> Answer<'a> {
            self.asked += 1.0;
            Box::pin(async move {
                tokio::time::sleep(self.delay).await;
                out.gauge("asked", &[], self.asked);
                Ok(())
            })
        }

        fn timeout(&self) -> Duration {
            Duration::from_secs(2)
        }

        fn step(&self) -> Option<Step> {
            self.step
        }
    }

    fn look(second: i64) -> Look {
        Look { at: Timestamp::from_secs(second), step: Step::from_secs(10).unwrap() }
    }

    fn reported(sources: &Sources, metric: &str, source: &str) -> Option<f64> {
        let mut out = Readings::default();
        sources.report(&mut out);
        out.value(metric, &[("source", source)])
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_source_is_not_asked_twice_at_a_time_and_delays_nobody() {
        let mut sources = Sources::default();
        sources.set("slow", Box::new(Slow::by_millis(1500)));
        sources.set("quick", Box::new(Slow::by_millis(1)));
        sources.ask(look(10));
        let first = sources.answered().await;
        assert!((first.name.as_str(), first.is_prompt) == ("quick", true));
        sources.put_back(first);
        sources.ask(look(20));
        let again = sources.answered().await;
        assert_eq!(again.readings().value("asked", &[]), Some(2.0));
        sources.put_back(again);
        assert_eq!(reported(&sources, "agent_source_missed_looks_total", "slow"), Some(1.0));
        let late = sources.answered().await;
        assert!((late.name.as_str(), late.is_prompt, late.look) == ("slow", false, look(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_never_answers_is_given_up_and_asked_again() {
        let mut sources = Sources::default();
        sources.set("hung", Box::new(Slow::by_millis(1_000_000)));
        for (second, failures) in [(10, 1.0), (20, 2.0)] {
            sources.ask(look(second));
            let answered = sources.answered().await;
            assert_eq!(answered.outcome, Err(Trouble("no answer in 2 s".into())));
            sources.put_back(answered);
            assert_eq!(reported(&sources, "agent_source_errors_total", "hung"), Some(failures));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_with_a_longer_step_is_asked_once_in_it() {
        let mut sources = Sources::default();
        sources.set("hourly", Box::new(Slow { step: Step::from_secs(60), ..Slow::by_millis(1) }));
        let mut asked = Vec::new();
        for second in [10, 20, 50, 60, 70, 130] {
            sources.ask(look(second));
            if sources.is_asking() {
                let answered = sources.answered().await;
                sources.put_back(answered);
                asked.push(second);
            }
        }
        assert_eq!(asked, [10, 60, 130]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_removed_while_it_is_asked_says_nothing_more() {
        let mut sources = Sources::default();
        sources.set("gone", Box::new(Slow::by_millis(5)));
        sources.ask(look(10));
        sources.remove("gone");
        sources.set("here", Box::new(Slow::by_millis(9)));
        sources.ask(look(20));
        assert_eq!(sources.answered().await.name, "here");
    }

    #[test]
    fn a_table_must_name_a_kind_that_there_is() {
        let build: Build = |_, table| match table.get("bad") {
            None => Ok(Box::new(Slow::by_millis(1))),
            Some(_) => Err("bad: take it out".to_owned()),
        };
        let kinds = [("slow", build)];
        let built = |text: &str| build_of(&kinds, "x", &toml::from_str(text).unwrap()).err();
        assert_eq!(built("kind = \"slow\""), None);
        for (text, problem) in [
            ("", "it has no kind; write kind = \"…\", one of: slow"),
            ("kind = \"fast\"", "there is no kind \"fast\"; write one of: slow"),
            ("kind = \"slow\"\nbad = 1", "bad: take it out"),
        ] {
            assert_eq!(built(text).as_deref(), Some(problem));
        }
    }
}
