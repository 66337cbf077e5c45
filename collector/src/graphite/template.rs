//! Templates: which parts of a path are the metric's name, and which are labels.
//!
//! They are written as Graphite inputs elsewhere have them: `FILTER TEMPLATE TAGS`, the first and
//! the last optional. The first whose filter fits is taken.

use rrd::NAME;
use thiserror::Error;

use crate::collectd::Identity;
use crate::foreign::spelling::{Pairs, label_name, metric_name};

/// Templates at most: each new path is compared with all.
const TEMPLATE_LIMIT: usize = 100;
/// Parts of a template or filter.
const PART_LIMIT: usize = 64;

/// Paths of collectd's `write_graphite` as Debian's configuration sets it up.
const DEFAULT: &str = "collectd.* .host.collectd";

/// The templates of a listener, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Templates(Vec<Template>);

/// Why a template is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// Not one to three words.
    #[error("template {0:?} is not FILTER TEMPLATE TAG=VALUE,... with the first and last optional")]
    Words(String),
    /// No part of it is the metric.
    #[error("template {0:?} has no part `measurement`; say which parts are the metric's name")]
    Nameless(String),
    /// Something behind what takes all the rest.
    #[error("template {0:?} has parts after one that takes all the rest; remove them")]
    Beyond(String),
    /// Over a limit.
    #[error("there are more than {TEMPLATE_LIMIT} templates, or {PART_LIMIT} parts in one")]
    Many,
}

impl Default for Templates {
    fn default() -> Self {
        Self(Template::parse(DEFAULT).into_iter().collect())
    }
}

impl Templates {
    /// The templates that these texts say; those of collectd's default paths come after them.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, TemplateError> {
        if texts.len() > TEMPLATE_LIMIT {
            return Err(TemplateError::Many);
        }
        let mut templates = texts
            .iter()
            .map(|text| Template::parse(text.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        templates.extend(Self::default().0);
        Ok(Self(templates))
    }

    /// The labels of a path; `None` when no template fits it.
    pub(super) fn apply(&self, path: &str) -> Option<Pairs> {
        self.0.iter().find_map(|template| template.apply(path))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Template {
    /// What the first parts of a path must be.
    filter: Vec<String>,
    parts: Vec<Part>,
    tags: Vec<(String, String)>,
}

/// What a part of a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Skipped,
    Label(String),
    /// A piece of the metric's name.
    Metric,
    /// All pieces from here on.
    MetricRest,
    /// collectd's `plugin-instance.type-instance`, and perhaps a data source.
    CollectdRest,
}

impl Part {
    fn of(word: &str) -> Self {
        match word {
            "" => Self::Skipped,
            "measurement" | "field" => Self::Metric,
            "measurement*" | "field*" => Self::MetricRest,
            "collectd" => Self::CollectdRest,
            label => Self::Label(label_name(label)),
        }
    }

    const fn names(&self) -> bool {
        matches!(self, Self::Metric | Self::MetricRest | Self::CollectdRest)
    }

    const fn takes_the_rest(&self) -> bool {
        matches!(self, Self::MetricRest | Self::CollectdRest)
    }
}

impl Template {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (filter, parts, tags) = match words[..] {
            [parts] => ("", parts, ""),
            [parts, tags] if tags.contains('=') => ("", parts, tags),
            [filter, parts] => (filter, parts, ""),
            [filter, parts, tags] => (filter, parts, tags),
            _ => return Err(TemplateError::Words(text.to_owned())),
        };
        let parts: Vec<Part> = parts.split('.').map(Part::of).collect();
        let filter: Vec<String> =
            filter.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let tags = tags.split(',').filter(|tag| !tag.is_empty()).map(|tag| {
            let (name, value) = tag.split_once('=')?;
            Some((label_name(name), value.to_owned()))
        });
        let tags: Option<Vec<_>> = tags.collect();
        if parts.len().max(filter.len()) > PART_LIMIT {
            return Err(TemplateError::Many);
        }
        if !parts.iter().any(Part::names) {
            return Err(TemplateError::Nameless(text.to_owned()));
        }
        if parts.iter().rev().skip(1).any(Part::takes_the_rest) {
            return Err(TemplateError::Beyond(text.to_owned()));
        }
        let tags = tags.ok_or_else(|| TemplateError::Words(text.to_owned()))?;
        Ok(Self { filter, parts, tags })
    }

    fn apply(&self, path: &str) -> Option<Pairs> {
        let given: Vec<&str> = path.split('.').collect();
        let fits = given.len() >= self.filter.len()
            && self.filter.iter().zip(&given).all(|(want, part)| want == "*" || want == part);
        if !fits {
            return None;
        }
        let mut labels = Pairs::new();
        let mut metric = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            let rest = given.get(at..).filter(|rest| !rest.is_empty());
            let Some(rest) = rest else { break };
            match part {
                Part::Skipped => {}
                Part::Label(name) => add(&mut labels, name, rest[0]),
                Part::Metric => metric.push(rest[0]),
                Part::MetricRest => metric.extend(rest),
                Part::CollectdRest => return self.collectd(labels, rest),
            }
        }
        if metric.is_empty() {
            return None;
        }
        labels.push((NAME.to_owned(), metric_name(&metric.join("_"))));
        Some(self.tagged(labels))
    }

    /// The labels of collectd's path behind its host.
    fn collectd(&self, labels: Pairs, rest: &[&str]) -> Option<Pairs> {
        let (plugin, kind, source) = match rest {
            [plugin, kind] => (plugin, kind, ""),
            [plugin, kind, source] => (plugin, kind, *source),
            _ => return None,
        };
        let (plugin, plugin_instance) = plugin.split_once('-').unwrap_or((plugin, ""));
        let (kind, kind_instance) = kind.split_once('-').unwrap_or((kind, ""));
        let identity = Identity { host: "", plugin, plugin_instance, kind, kind_instance };
        // The path does not tell what counts, and write_graphite sends rates unless told otherwise.
        let mut pairs = identity.pairs(source, false);
        pairs.retain(|(name, value)| !value.is_empty() && name != "job");
        pairs.extend(labels);
        Some(self.tagged(pairs))
    }

    fn tagged(&self, mut labels: Pairs) -> Pairs {
        let missing = |(name, _): &&(String, String)| labels.iter().all(|(held, _)| held != name);
        let tags: Pairs = self.tags.iter().filter(missing).cloned().collect();
        labels.extend(tags);
        labels
    }
}

/// Adds a part to a label; a label that has several joins them with dots, as host names are.
fn add(labels: &mut Pairs, name: &str, part: &str) {
    match labels.iter_mut().find(|(held, _)| held == name) {
        Some((_, value)) => {
            value.push('.');
            value.push_str(part);
        }
        None => labels.push((name.to_owned(), part.to_owned())),
    }
}
