//! Targets: what to scrape, read from files as Prometheus' `file_sd` writes them.
//!
//! A group whose label `__registry__` is there names no targets itself: its `targets` are patterns
//! that are filled in for every enrolled instance that the label's value chooses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Uri;
use rrd::Step;
use serde::Deserialize;

use super::access::Access;
use crate::limits::{LABEL_COUNT_LIMIT, LABEL_VALUE_LIMIT};
use crate::registry::{Instance, Source};

/// Targets of all files: ten thousand at the usual interval are 700 pages a second.
pub(super) const TARGETS: usize = 10_000;
/// Time between two pages of a target, unless its labels say otherwise.
const INTERVAL_MS: u64 = 15_000;
/// Shortest and longest interval, in milliseconds.
const INTERVAL_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
/// Longest time for a page, unless a target's labels say otherwise.
const TIMEOUT_MS: u64 = 10_000;

/// One target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    /// The labels of all its series, `job` and `instance` among them, sorted.
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) interval: Step,
    pub(crate) timeout: Duration,
    /// What opens it.
    pub(crate) access: Access,
}

/// What tells one target from another: its job and its instance.
pub(crate) type Name = (String, String);

impl Target {
    pub(crate) fn name(&self) -> Name {
        (self.label("job").to_owned(), self.label("instance").to_owned())
    }

    fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map_or("", |(_, value)| value)
    }
}

/// A group of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What a file lists.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) targets: Vec<Target>,
    /// Machines that the file chooses and that cannot be scraped, for a person.
    pub(super) passed_over: Option<String>,
}

/// The targets of a file whose name without its ending is `stem`, which is their job unless a label
/// says otherwise. Errors with the first thing that is wrong; a file is taken whole or not at all. What
/// a machine says of itself is no fault of the file's, and costs that machine alone.
pub(super) fn read(
    stem: &str,
    text: &str,
    instances: &[impl AsRef<Instance>],
) -> Result<Found, String> {
    let groups: Vec<Group> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut taking = Taking::default();
    let (chosen, literal): (Vec<_>, Vec<_>) = groups.iter().partition(|group| group.is_chosen());
    for group in literal {
        for address in &group.targets {
            taking.literal(group.target(stem, address, None)?)?;
        }
    }
    if taking.targets.len() > TARGETS {
        return Err(format!("more than {TARGETS} targets; spread them over servers"));
    }
    // The eldest first: it keeps its name, whoever comes with the same one.
    let mut machines: Vec<&Instance> = instances.iter().map(AsRef::as_ref).collect();
    machines.sort_by_key(|one| (one.enrolled_at, one.id));
    for group in chosen {
        let chosen = group.chosen(stem)?;
        for machine in machines.iter().filter(|one| chosen.holds(one)) {
            for address in group.targets.iter().filter_map(|pattern| filled(pattern, machine)) {
                taking.machine(machine, |name| group.target(stem, &address, Some(name)));
            }
        }
    }
    let passed_over = taking
        .first_over
        .map(|(name, why)| format!("{} are not scraped; first: {name}: {why}", taking.over_count));
    Ok(Found { targets: taking.targets, passed_over })
}

/// The targets of a file as they are taken.
#[derive(Default)]
struct Taking {
    targets: Vec<Target>,
    names: BTreeSet<Name>,
    over_count: usize,
    /// The first machine that is passed over, and why.
    first_over: Option<(String, String)>,
}

impl Taking {
    fn literal(&mut self, target: Target) -> Result<(), String> {
        let (job, instance) = target.name();
        let is_new = self.add(target);
        let twice =
            || format!("{instance} of job {job} is there twice; give one another instance label");
        is_new.then_some(()).ok_or_else(twice)
    }

    /// Takes a machine's target under its name; where another job has a machine of that name, its job
    /// is put in front.
    fn machine(&mut self, machine: &Instance, target: impl Fn(&str) -> Result<Target, String>) {
        let job = machine.labels.get("job").unwrap_or_default();
        let longer = format!("{job}/{}", machine.name);
        if let Err(why) = self.first_free(&[&machine.name, &longer], target) {
            self.over_count += 1;
            self.first_over.get_or_insert((longer, why));
        }
    }

    fn first_free(
        &mut self,
        names: &[&str],
        target: impl Fn(&str) -> Result<Target, String>,
    ) -> Result<(), String> {
        if self.targets.len() >= TARGETS {
            return Err(format!("more than {TARGETS} targets; spread them over servers"));
        }
        for name in names {
            if self.add(target(name)?) {
                return Ok(());
            }
        }
        Err("another target has its job and instance".to_owned())
    }

    /// False where another target has its name.
    fn add(&mut self, target: Target) -> bool {
        let is_new = self.names.insert(target.name());
        if is_new {
            self.targets.push(target);
        }
        is_new
    }
}

impl Group {
    fn is_chosen(&self) -> bool {
        self.labels.contains_key("__registry__")
    }

    /// Which machines are meant. Errors with what would be wrong for each of them.
    fn chosen(&self, stem: &str) -> Result<Chosen<'_>, String> {
        for pattern in &self.targets {
            self.target(stem, &literal(pattern), None)?;
        }
        Chosen::read(self.labels.get("__registry__").map_or("", String::as_str))
    }

    fn target(&self, stem: &str, address: &str, name: Option<&str>) -> Result<Target, String> {
        let label = |name: &str| self.labels.get(name).map(String::as_str);
        let scheme = label("__scheme__").unwrap_or("http");
        let path = label("__metrics_path__").unwrap_or("/metrics");
        let query = self.query();
        let uri: Uri = format!("{scheme}://{address}{path}{query}")
            .parse()
            .map_err(|error| format!("target {address:?}: {error}; write HOST:PORT"))?;
        let is_whole = matches!(scheme, "http" | "https")
            && path.starts_with('/')
            && uri.authority().is_some_and(|authority| authority.as_str() == address)
            && !address.contains('@');
        if !is_whole {
            return Err(format!("target {address:?} is no address; write HOST:PORT"));
        }
        let millis = |name: &str, usual: u64| match label(name) {
            None => Ok(usual),
            Some(text) => rrd::time::parse_duration_ms(text)
                .filter(|millis| INTERVAL_RANGE_MS.contains(millis))
                .ok_or_else(|| {
                    format!("{name} {text:?} is not a time from 1s to 1d; write \"30s\"")
                }),
        };
        let interval_ms = millis("__scrape_interval__", INTERVAL_MS)?;
        let timeout_ms = millis("__scrape_timeout__", TIMEOUT_MS.min(interval_ms))?;
        let shown = self.labels.iter().filter(|(name, _)| !name.starts_with("__"));
        let mut labels: BTreeMap<&str, &str> =
            shown.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        labels.entry("job").or_insert(stem);
        labels.entry("instance").or_insert(name.unwrap_or(address));
        let is_long =
            |(name, value): (&&str, &&str)| name.len().max(value.len()) > LABEL_VALUE_LIMIT;
        if labels.len() > LABEL_COUNT_LIMIT / 2 || labels.iter().any(is_long) {
            return Err(format!("target {address:?} has too many labels or too long ones"));
        }
        let access = Access::read(&self.labels)?;
        if access.shown.is_some() && self.is_chosen() && scheme != "https" {
            return Err(
                "a password or token goes to machines of the registry by https alone: what \
                        they say of themselves decides where it is sent"
                    .to_owned(),
            );
        }
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Ok(Target {
            uri,
            labels: labels.into_iter().map(owned).collect(),
            interval: Step::from_millis(interval_ms).expect("from a second on"),
            timeout: Duration::from_millis(timeout_ms.min(interval_ms)),
            access,
        })
    }

    /// What `__param_…` labels ask for.
    fn query(&self) -> String {
        let asked = |(name, value): (&String, &String)| {
            let name = name.strip_prefix("__param_")?;
            Some(format!("{}={}", escaped(name), escaped(value)))
        };
        let asked: Vec<String> = self.labels.iter().filter_map(asked).collect();
        if asked.is_empty() { String::new() } else { format!("?{}", asked.join("&")) }
    }
}

fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let letter = |byte: u8| {
        if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(letter).collect()
}

/// Which instances of the registry are meant: those with all of these labels.
struct Chosen<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Chosen<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let pair = |pair: &'a str| {
            pair.split_once('=')
                .ok_or_else(|| format!("__registry__ {text:?}: write label=value,label=value"))
        };
        Ok(Self(pairs.map(pair).collect::<Result<_, _>>()?))
    }

    /// Instances that relays name are scraped by somebody else already.
    fn holds(&self, instance: &Instance) -> bool {
        matches!(instance.source, Source::Enrolled(_))
            && instance.is_active()
            && self.0.iter().all(|(name, value)| instance.labels.get(name) == Some(value))
    }
}

/// A pattern such as `{hostname}:9100` with what is known of an instance. `None` where it lacks
/// something, or where what it says of itself would be more than a part of an address.
fn filled(pattern: &str, instance: &Instance) -> Option<String> {
    let mut address = String::new();
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, after) = behind.split_once('}')?;
        let value = match name {
            "name" => &instance.name,
            "hostname" => &instance.facts.hostname,
            label => instance.labels.get(label)?,
        };
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        if value.is_empty() || !value.bytes().all(is_part) {
            return None;
        }
        address.push_str(before);
        address.push_str(value);
        rest = after;
    }
    address.push_str(rest);
    Some(address)
}

/// A pattern with something in place of what is filled in: as good an address as any of it.
fn literal(pattern: &str) -> String {
    let mut address = String::new();
    let mut rest = pattern;
    while let Some((before, (_, after))) =
        rest.split_once('{').and_then(|(before, behind)| Some((before, behind.split_once('}')?)))
    {
        address.extend([before, "1"]);
        rest = after;
    }
    address + rest
}

#[cfg(test)]
mod tests;
