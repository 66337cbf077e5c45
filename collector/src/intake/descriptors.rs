//! Descriptors: what agents are told of their work, by the labels of their instances.
//!
//! Agents ask once a minute. A descriptor says how often to look, which of the sources that the
//! machine's own configuration allows are asked, and labels of the instance; it holds no commands, no
//! paths and no addresses, because nothing that comes over the network may say what a machine runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::State;
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rrd::Labels;
use serde::Deserialize;

use super::enroll::check_reserved;
use super::{Denial, Inner, Intake, to_the_end};
use crate::auth::Caller;
use crate::limits::checked_labels;
use crate::native::{Descriptor, SERVER_TIME};
use crate::registry::{Change, Instance};

/// Sources that one descriptor may name; an agent has no more.
const SOURCES_MAX: usize = 64;

/// Steps that an agent may be told, in milliseconds.
const STEP_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;

/// Labels that say who an instance is; enrolment alone gives them.
const IDENTITY: [&str; 2] = ["instance", "job"];

/// All descriptors, in the order they apply. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Descriptors(Arc<RwLock<Vec<Rule>>>);

/// One file of the folder.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Rule {
    /// Labels an instance must have.
    #[serde(rename = "match")]
    matches: BTreeMap<String, String>,
    step: Option<String>,
    sources: BTreeSet<String>,
    labels: BTreeMap<String, String>,
    #[serde(skip)]
    step_ms: Option<u64>,
}

impl Descriptors {
    /// Takes the files of the folder, names and texts, in the order they apply. Errors with a line
    /// for each that is wrong; then nothing changes.
    pub fn set(&self, texts: &[(String, String)]) -> Result<(), Vec<String>> {
        let (mut rules, mut problems) = (Vec::new(), Vec::new());
        for (name, text) in texts {
            match Rule::parse(text) {
                Ok(rule) => rules.push(rule),
                Err(problem) => problems.push(format!("{name}: {problem}")),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }

    /// What an instance with these labels is told: later files win over earlier ones.
    fn of(&self, labels: &Labels) -> Descriptor {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut told = Descriptor::default();
        for rule in rules.iter().filter(|rule| rule.fits(labels)) {
            told.step_ms = rule.step_ms.or(told.step_ms);
            told.sources.extend(rule.sources.iter().cloned());
            let new = rule.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
            told.labels.extend(new);
        }
        told
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let mut rule: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if let Some(step) = &rule.step {
            let step_ms = rrd::time::parse_duration_ms(step);
            rule.step_ms = step_ms.filter(|millis| STEP_RANGE_MS.contains(millis));
            if rule.step_ms.is_none() {
                return Err(format!("step {step:?}: write a time from \"1s\" to \"1h\""));
            }
        }
        if rule.sources.len() > SOURCES_MAX {
            return Err(format!("sources: more than {SOURCES_MAX}"));
        }
        if let Some(name) = IDENTITY.iter().find(|name| rule.labels.contains_key(**name)) {
            return Err(format!("label {name}: it says who an instance is; take it out"));
        }
        check_reserved(&rule.labels).map_err(|denial| denial.to_string())?;
        let pairs: Vec<(&str, &str)> =
            rule.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        checked_labels(&pairs).map_err(|(_, message)| message)?;
        Ok(rule)
    }

    fn fits(&self, labels: &Labels) -> bool {
        self.matches.iter().all(|(name, value)| labels.get(name).unwrap_or_default() == value)
    }
}

/// `GET /v1/agent/descriptor`, with the credential of an instance.
pub(super) async fn get(
    State(intake): State<Intake>,
    headers: HeaderMap,
) -> Result<Response, Denial> {
    let inner = intake.0;
    let Caller::Instance(instance) = inner.caller(&headers)? else {
        return Err(Denial::forbidden("this needs the credential of an instance"));
    };
    let told = inner.descriptors.of(&instance.labels);
    if !has_labels(&instance, &told) {
        to_the_end(inner.clone().relabel(instance.id, told.clone())).await?;
    }
    let body = serde_json::to_vec(&told).map_err(|_| super::broken())?;
    let tag = format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(&body));
    let tag = HeaderValue::try_from(tag).expect("hexadecimal digits");
    let is_known = headers.get(IF_NONE_MATCH) == Some(&tag);
    let mut answer = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([("content-type", "application/json")], body).into_response()
    };
    let now_ms = inner.parts.clock.wall().as_millis();
    answer.headers_mut().insert(ETAG, tag);
    answer.headers_mut().insert(HeaderName::from_static(SERVER_TIME), HeaderValue::from(now_ms));
    Ok(answer)
}

fn has_labels(instance: &Instance, told: &Descriptor) -> bool {
    told.labels.iter().all(|(name, value)| instance.labels.get(name) == Some(value))
}

impl Inner {
    /// Gives an instance the labels that its descriptor names.
    async fn relabel(self: Arc<Self>, id: rrd::InstanceId, told: Descriptor) -> Result<(), Denial> {
        let mut turn = self.turn().await?;
        let gone = || Denial::missing("no instance has this id");
        let instance = self.parts.registry.instance(id).ok_or_else(gone)?;
        if has_labels(&instance, &told) {
            return Ok(());
        }
        let mut labels = instance.labels.clone();
        for (name, value) in &told.labels {
            labels = labels.with(name, value);
        }
        let changed = Instance { labels, ..(*instance).clone() };
        self.change(&mut turn, &[Change::Instance(changed)]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(files: &[(&str, &str)]) -> Result<Descriptors, Vec<String>> {
        let descriptors = Descriptors::default();
        let texts: Vec<_> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        descriptors.set(&texts).map(|()| descriptors)
    }

    #[test]
    fn files_apply_in_order_to_instances_with_their_labels() {
        let descriptors = set(&[
            ("00-all.toml", "step = \"30s\"\nsources = [\"ntp\"]"),
            (
                "10-web.toml",
                "sources = [\"nginx\"]\n[match]\nrole = \"web\"\n[labels]\ntier = \"1\"",
            ),
            ("20-busy.toml", "step = \"5s\"\nmatch = { role = \"web\", size = \"big\" }"),
        ])
        .unwrap();
        let of = |pairs: &[(&str, &str)]| {
            let labels = pairs.iter().fold(Labels::default(), |all, (n, v)| all.with(n, v));
            let told = descriptors.of(&labels);
            (told.step_ms, told.sources.into_iter().collect::<Vec<_>>(), told.labels.len())
        };
        assert_eq!(of(&[]), (Some(30_000), vec!["ntp".into()], 0));
        let web = (Some(30_000), vec!["nginx".into(), "ntp".into()], 1);
        assert_eq!(of(&[("role", "web")]), web);
        assert_eq!(of(&[("role", "web"), ("size", "big")]).0, Some(5_000));
    }

    #[test]
    fn a_bad_file_is_named_and_changes_nothing() {
        for (text, said) in [
            ("step = \"0s\"", "a.toml: step"),
            ("command = \"rm\"", "unknown field"),
            ("[labels]\ninstance = \"x\"", "who an instance is"),
            ("[labels]\n__name__ = \"x\"", "reserved"),
            ("sources = 3", "sources"),
        ] {
            let problems = set(&[("a.toml", text)]).unwrap_err();
            assert!(problems[0].contains(said), "{text}: {problems:?}");
        }
    }
}
