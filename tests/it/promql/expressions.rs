//! The expressions of `fixtures/promql`, with their words filled in.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::data::Data;

/// Gauges are exact but for the order of sums.
const EXACT: f64 = 1e-9;

/// All expressions, and those that may differ.
pub(crate) struct Book {
    written: Written,
    differences: Vec<Difference>,
    at: String,
}

/// Expressions that are compared alike.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Family {
    #[serde(rename = "about")]
    _about: String,
    #[serde(default = "exact")]
    tolerance: f64,
    /// Both refuse these, and with the same kind of error.
    #[serde(default)]
    pub(crate) fails: bool,
    /// What this tree does not have yet, and these need.
    pub(crate) awaits: Option<String>,
    queries: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    words: BTreeMap<String, Vec<String>>,
    #[serde(rename = "family")]
    families: Vec<Family>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Differences {
    #[serde(default)]
    difference: Vec<Difference>,
}

/// Expressions that differ for one reason.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    differs: String,
    queries: Vec<String>,
}

fn exact() -> f64 {
    EXACT
}

/// Reads them; moments are those of `data`.
pub(crate) fn expressions(data: &Data) -> Book {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/promql");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let written: Written = toml::from_str(&read("expressions.toml")).unwrap();
    let differences: Differences = toml::from_str(&read("differences.toml")).unwrap();
    let at = (data.asked_secs() - 1200).to_string();
    Book { written, differences: differences.difference, at }
}

impl Book {
    /// Every expression with its family.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Family, String)> {
        self.written.families.iter().flat_map(|family| {
            let queries = family.queries.iter().flat_map(|query| self.filled(query));
            queries.map(move |query| (family, query))
        })
    }

    /// The expressions that may differ.
    pub(crate) fn excused(&self) -> impl Iterator<Item = &str> {
        self.differences.iter().flat_map(|difference| difference.queries.iter().map(String::as_str))
    }

    /// Why an expression may differ.
    pub(crate) fn reason(&self, expr: &str) -> Option<&str> {
        let because =
            |difference: &&Difference| difference.queries.iter().any(|query| query == expr);
        self.differences.iter().find(because).map(|difference| difference.differs.as_str())
    }

    /// The query with each combination of its words.
    fn filled(&self, query: &str) -> Vec<String> {
        let query = query.replace("<at>", &self.at);
        let mark = |word: &str| format!("<{word}>");
        let found = self.written.words.iter().find(|(word, _)| query.contains(&mark(word)));
        let Some((word, entries)) = found else { return vec![query] };
        let with = |entry: &String| self.filled(&query.replace(&mark(word), entry));
        entries.iter().flat_map(with).collect()
    }
}

impl Family {
    /// True when two values are as near as they must be.
    pub(crate) fn is_near(&self, ours: f64, theirs: f64) -> bool {
        if ours.is_nan() || theirs.is_nan() || ours.is_infinite() || theirs.is_infinite() {
            return ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan());
        }
        (ours - theirs).abs() <= self.tolerance * ours.abs().max(theirs.abs()).max(EXACT)
    }
}
