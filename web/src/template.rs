//! Graph templates: which graphs an instance gets, from TOML, matched to what it reports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::LazyLock;

use rrd::{Labels, Step};
use serde::Deserialize;
use thiserror::Error;

use crate::graph::Hue;

/// The graphs that are compiled in.
pub static BUILT_IN: LazyLock<Vec<Template>> = LazyLock::new(|| {
    parse(include_str!("../templates/graphs/linux-host.toml"))
        .expect("the built-in templates are read by a test")
});

/// A graph before it has an instance.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Names it in URLs: `a-z0-9-`.
    pub key: String,
    /// What a person calls it.
    pub title: String,
    /// The unit's symbol.
    pub unit: String,
    /// 1000 or 1024.
    #[serde(default = "thousand")]
    pub base: u32,
    /// Stacked areas instead of lines.
    #[serde(default)]
    pub stack: bool,
    /// Tint the area under lines.
    #[serde(default)]
    pub fill: bool,
    /// Where the y axis ends.
    pub max: Option<f64>,
    /// How far the y axis reaches at least.
    pub soft_max: Option<f64>,
    /// Metrics of which one must exist.
    pub needs: Vec<String>,
    /// Keys in the order of drawing; keys not named come after them.
    #[serde(default)]
    pub order: Vec<String>,
    /// Colours of keys; others get one that is free.
    #[serde(default)]
    pub hues: BTreeMap<String, String>,
    /// What is drawn.
    #[serde(rename = "line")]
    pub lines: Vec<TemplateLine>,
}

/// One expression of a graph; it may give several lines.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateLine {
    /// PromQL with `$instance` and `$window`.
    pub expr: String,
    /// The legend: text with `{label}` in it.
    pub label: String,
    /// Drawn below zero.
    #[serde(default)]
    pub below: bool,
}

/// Why a template was refused.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// Not TOML, or not a template.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A key that cannot stand in a URL.
    #[error("graph {0:?}: a key is made of a-z, 0-9 and -")]
    Key(String),
    /// Two graphs of one key.
    #[error("graph {0:?} is defined twice; rename one")]
    Twice(String),
    /// A colour that is not in the palette.
    #[error("graph {key:?}: no colour is called {hue:?}")]
    Hue {
        /// The graph.
        key: String,
        /// The word.
        hue: String,
    },
    /// An expression that is not PromQL.
    #[error("graph {key:?}: {reason}")]
    Expr {
        /// The graph.
        key: String,
        /// What is wrong with it.
        reason: query::Error,
    },
}

#[derive(Deserialize)]
struct File {
    graph: Vec<Template>,
}

const fn thousand() -> u32 {
    1000
}

/// The templates of a file, each checked.
pub fn parse(text: &str) -> Result<Vec<Template>, TemplateError> {
    let file: File = toml::from_str(text)?;
    let mut seen = BTreeSet::new();
    for template in &file.graph {
        template.check()?;
        if !seen.insert(template.key.as_str()) {
            return Err(TemplateError::Twice(template.key.clone()));
        }
    }
    Ok(file.graph)
}

impl Template {
    fn check(&self) -> Result<(), TemplateError> {
        let key = || self.key.clone();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.key.is_empty() || !self.key.chars().all(plain) {
            return Err(TemplateError::Key(key()));
        }
        if let Some(hue) = self.hues.values().find(|hue| Hue::named(hue).is_none()) {
            return Err(TemplateError::Hue { key: key(), hue: hue.clone() });
        }
        let instance = Labels::from_pairs([("instance", "a")]).unwrap_or_default();
        let minute = Step::from_secs(60).unwrap_or(crate::period::DAY_STEP);
        for line in &self.lines {
            query::Expr::parse(&line.text(&instance, minute))
                .map_err(|reason| TemplateError::Expr { key: key(), reason })?;
        }
        Ok(())
    }

    /// True when one of the metrics it needs is among `metrics`.
    pub fn fits(&self, metrics: &BTreeSet<&str>) -> bool {
        self.needs.iter().any(|need| metrics.contains(need.as_str()))
    }
}

impl TemplateLine {
    /// The PromQL of this line for one instance.
    pub fn text(&self, instance: &Labels, window: Step) -> String {
        // The window first: a hostile instance name may contain `$window`.
        self.expr.replace("$window", &window.to_string()).replace("$instance", &matchers(instance))
    }

    /// The legend of a line with these labels.
    pub fn legend(&self, labels: &Labels) -> String {
        let mut text = String::new();
        let mut rest = self.label.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            let Some((name, tail)) = after.split_once('}') else { break };
            text.push_str(labels.get(name).unwrap_or("none"));
            rest = tail;
        }
        text + rest
    }
}

/// `instance="a",job="b"`: equality matchers for each label, escaped as PromQL's strings are.
pub fn matchers(labels: &Labels) -> String {
    let mut text = String::new();
    for (at, (name, value)) in labels.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(text, "{comma}{}={}", label_name(name), quoted(value)).expect("a string takes all");
    }
    text
}

/// A label name as PromQL has it: bare where that is allowed, quoted otherwise.
fn label_name(name: &str) -> String {
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if bare { name.to_owned() } else { quoted(name) }
}

/// A string of PromQL. Bytes outside printable ASCII are spelt out, so that nothing is left to
/// the parser's taste.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_control() => {
                write!(out, "\\u{:04x}", u32::from(letter)).expect("a string takes all");
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_templates_are_sound() {
        assert!(BUILT_IN.iter().any(|template| template.key == "cpu"));
    }

    #[test]
    fn a_hostile_instance_name_stays_one_matcher() {
        let line =
            TemplateLine { expr: "up{$instance}".into(), label: String::new(), below: false };
        for name in ["\"} or up{a=\"", "a\\", "a\nb", "$window", "$instance", "ü{}", "\u{7}"] {
            let labels = Labels::from_pairs([("instance", name), ("job", "node")]).unwrap();
            let text = line.text(&labels, Step::from_secs(60).unwrap());
            let read = query::memory::MemoryRead::default();
            let expr = query::Expr::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let answer =
                expr.instant(&read, rrd::Timestamp::from_secs(0), &query::Limits::default());
            assert!(answer.is_ok(), "{text}");
            assert_eq!(text.matches("up{").count() - name.matches("up{").count(), 1, "{text}");
        }
    }

    #[test]
    fn a_legend_takes_its_labels() {
        let line = TemplateLine { expr: String::new(), label: "{device} in".into(), below: false };
        let labels = Labels::from_pairs([("device", "eth0")]).unwrap();
        assert_eq!(line.legend(&labels), "eth0 in");
        assert_eq!(line.legend(&Labels::default()), "none in");
    }

    #[test]
    fn what_is_wrong_with_a_template_is_named() {
        let good = "[[graph]]\nkey='a'\ntitle='A'\nunit=''\nneeds=[]\n";
        let line = "[[graph.line]]\nexpr='up'\nlabel=''\n";
        for (text, said) in [
            (format!("{good}line=[{{expr='up(',label=''}}]"), "parse error"),
            (format!("{good}hues={{a='mauve'}}\n{line}"), "mauve"),
            (format!("{good}{line}{good}{line}"), "twice"),
            (format!("{}{line}", good.replace("'a'", "'A b'")), "a-z"),
            (format!("{good}colour=1\n{line}"), "colour"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}\n{error}");
        }
    }
}
