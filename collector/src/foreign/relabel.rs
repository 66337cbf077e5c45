//! Rules that change or leave out series before they are known: a part of Prometheus'
//! `relabel_configs`.
//!
//! They are asked once for each series and set of rules; what they said is remembered with the
//! series' label bytes.

mod apply;

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};
use rrd::Labels;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::accounting::Reason;
use crate::limits::checked_series;
use apply::{LABEL_OVERHEAD, within};

/// Rules of one set: a page of them; each is asked about each new series.
const RULE_LIMIT: usize = 100;
/// Labels that one set drops, or one rule joins.
const NAME_LIMIT: usize = 32;
/// Bytes of any text in a rule.
const TEXT_LIMIT: usize = 1 << 10;
/// Bytes of a compiled expression: bounds what `(a{1000}){1000}` takes.
const REGEX_SIZE_LIMIT: usize = 256 << 10;

/// Rules as people write them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relabel {
    /// Labels that go before all else: those that tell the replicas of one sender apart.
    pub drop_labels: Vec<String>,
    /// What happens then, in order.
    pub rules: Vec<Rule>,
}

/// One rule, with the words and defaults of Prometheus' `relabel_configs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Labels whose values are joined and matched.
    pub source_labels: Vec<String>,
    /// What stands between the joined values.
    pub separator: String,
    /// The label that `replace` sets; may hold `$1`.
    pub target_label: String,
    /// What the whole text must match.
    pub regex: String,
    /// What `replace` and `labelmap` make of the match.
    pub replacement: String,
    /// What the rule does.
    pub action: Action,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            target_label: String::new(),
            regex: "(.*)".to_owned(),
            replacement: "$1".to_owned(),
            action: Action::Replace,
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Sets `target_label`, where the joined values match.
    Replace,
    /// Leaves the series out, unless the joined values match.
    Keep,
    /// Leaves the series out, where the joined values match.
    Drop,
    /// Copies labels whose names match to the name that `replacement` gives.
    LabelMap,
    /// Drops labels whose names match.
    LabelDrop,
    /// Drops labels whose names do not match.
    LabelKeep,
}

/// A set of rules, checked and compiled.
#[derive(Debug)]
pub(crate) struct Rules {
    written: Relabel,
    regexes: Vec<Regex>,
    edition: u64,
}

/// What became of a series: its labels, or `None` where the rules leave it out.
pub(crate) type Relabelled = Result<Option<Labels>, Refusal>;

type Refusal = (Reason, String);

impl Rules {
    /// Checks and compiles; the message names the rule and the remedy.
    pub(crate) fn compile(written: Relabel) -> Result<Self, String> {
        if written.rules.len() > RULE_LIMIT {
            return Err(format!("at most {RULE_LIMIT} rules are taken; join some by |"));
        }
        check_names("drop_labels", &written.drop_labels)?;
        let compiled = written.rules.iter().zip(1..).map(|(rule, number)| {
            compiled(rule).map_err(|problem| format!("rule {number}: {problem}"))
        });
        let regexes = compiled.collect::<Result<Vec<_>, _>>()?;
        let edition = xxh3_64(written.text().as_bytes());
        Ok(Self { written, regexes, edition })
    }

    /// The rules as they were written.
    pub(crate) fn written(&self) -> &Relabel {
        &self.written
    }

    /// A number that changes when a rule does.
    pub(crate) fn edition(&self) -> u64 {
        self.edition
    }

    /// What becomes of a series with these labels.
    pub(crate) fn apply(&self, labels: &Labels) -> Relabelled {
        let mut map: BTreeMap<String, String> =
            labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        map.retain(|name, _| !self.written.drop_labels.contains(name));
        for (rule, regex) in self.written.rules.iter().zip(&self.regexes) {
            if !rule.apply(regex, &mut map)? {
                return Ok(None);
            }
            within(map.iter().map(|(name, value)| name.len() + value.len() + LABEL_OVERHEAD))?;
        }
        // Names with two underscores in front are for rules to work with.
        map.retain(|name, _| name == rrd::NAME || !name.starts_with("__"));
        let pairs: Vec<(&str, &str)> =
            map.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        checked_series(&pairs).map(Some)
    }
}

impl Relabel {
    /// True where nothing is said.
    pub fn is_empty(&self) -> bool {
        self.drop_labels.is_empty() && self.rules.is_empty()
    }

    /// The rules as JSON.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("texts and lists can be written")
    }
}

fn compiled(rule: &Rule) -> Result<Regex, String> {
    check_names("source_labels", &rule.source_labels)?;
    for (name, text) in [
        ("separator", &rule.separator),
        ("target_label", &rule.target_label),
        ("regex", &rule.regex),
        ("replacement", &rule.replacement),
    ] {
        if text.len() > TEXT_LIMIT {
            return Err(format!("{name}: at most {TEXT_LIMIT} bytes"));
        }
    }
    let needs_target = rule.action == Action::Replace;
    if needs_target == rule.target_label.is_empty() {
        return Err(if needs_target {
            "target_label: name the label to set".to_owned()
        } else {
            "target_label: only replace sets one; leave it out".to_owned()
        });
    }
    let joins = matches!(rule.action, Action::Keep | Action::Drop);
    if joins && rule.source_labels.is_empty() {
        return Err("source_labels: name the labels to match".to_owned());
    }
    RegexBuilder::new(&format!("^(?s:{})$", rule.regex))
        .size_limit(REGEX_SIZE_LIMIT)
        .dfa_size_limit(REGEX_SIZE_LIMIT)
        .build()
        .map_err(|error| format!("regex: {error}"))
}

fn check_names(what: &str, names: &[String]) -> Result<(), String> {
    if names.len() > NAME_LIMIT || names.iter().any(|name| name.len() > TEXT_LIMIT) {
        return Err(format!("{what}: at most {NAME_LIMIT} labels of {TEXT_LIMIT} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        Labels::from_pairs(pairs.map(|(n, v)| (if n == "m" { rrd::NAME } else { n }, v))).unwrap()
    }

    fn rules(json: &str) -> Result<Rules, String> {
        Rules::compile(serde_json::from_str(json).unwrap())
    }

    #[track_caller]
    fn check(rule: &str, before: &str, after: Option<&str>) {
        let rules = rules(&format!(r#"{{"rules":[{rule}]}}"#)).unwrap();
        let found = rules.apply(&labels(before)).unwrap();
        assert_eq!(found, after.map(labels), "{rule} of {before}");
    }

    #[test]
    fn series_are_kept_and_left_out_by_what_matches_as_a_whole() {
        let keep = r#"{"source_labels":["m2","a"],"regex":"x;(1|2)","action":"keep"}"#;
        check(keep, "m=up m2=x a=1", Some("m=up m2=x a=1"));
        check(keep, "m=up m2=x a=12", None);
        check(keep, "m=up", None);
        let drop = r#"{"source_labels":["__name__"],"regex":"go_.*","action":"drop"}"#;
        check(drop, "m=go_threads", None);
        check(drop, "m=cargo_go_x", Some("m=cargo_go_x"));
        check(drop, "m=go_", None);
    }

    #[test]
    fn labels_are_set_renamed_and_dropped() {
        for (rule, before, after) in [
            (
                r#"{"source_labels":["instance"],"regex":"(.*):\\d+","target_label":"instance"}"#,
                "m=up instance=web:9100",
                "m=up instance=web",
            ),
            (
                r#"{"source_labels":["instance"],"regex":"(.*):\\d+","target_label":"instance"}"#,
                "m=up instance=web",
                "m=up instance=web",
            ),
            (r#"{"target_label":"zone","replacement":"eu"}"#, "m=up", "m=up zone=eu"),
            (r#"{"target_label":"zone","replacement":""}"#, "m=up zone=eu", "m=up"),
            (
                r#"{"source_labels":["__name__"],"regex":"old_(.+)","target_label":"__name__","replacement":"new_$1"}"#,
                "m=old_x a=1",
                "m=new_x a=1",
            ),
            (
                r#"{"source_labels":["a"],"regex":"(.+)","target_label":"by_$1","replacement":"yes"}"#,
                "m=up a=cpu",
                "m=up a=cpu by_cpu=yes",
            ),
            (
                r#"{"source_labels":["a","b"],"separator":"-","target_label":"c"}"#,
                "m=up a=1 b=2",
                "m=up a=1 b=2 c=1-2",
            ),
            (
                r#"{"action":"labelmap","regex":"k8s_(.+)"}"#,
                "m=up k8s_pod=p k8s_node=n",
                "m=up k8s_pod=p k8s_node=n pod=p node=n",
            ),
            (r#"{"action":"labeldrop","regex":"k8s_.+"}"#, "m=up k8s_pod=p a=1", "m=up a=1"),
            (r#"{"action":"labelkeep","regex":"__name__|a"}"#, "m=up b=p a=1", "m=up a=1"),
        ] {
            check(rule, before, Some(after));
        }
    }

    #[test]
    fn labels_of_replicas_go_first_and_those_of_rules_last() {
        let rules = rules(
            r#"{"drop_labels":["prometheus_replica"],"rules":[
            {"source_labels":["prometheus_replica"],"target_label":"__seen"},
            {"source_labels":["a"],"target_label":"__tmp"},
            {"source_labels":["__tmp"],"target_label":"b"}]}"#,
        );
        let found = rules.unwrap().apply(&labels("m=up a=1 prometheus_replica=r1"));
        assert_eq!(found, Ok(Some(labels("m=up a=1 b=1"))));
    }

    #[test]
    fn what_rules_make_is_within_the_limits_of_all_series() {
        let nameless = rules(r#"{"rules":[{"action":"labelkeep","regex":"a"}]}"#).unwrap();
        let refused = nameless.apply(&labels("m=up a=1")).unwrap_err();
        assert_eq!(refused.0, Reason::NoName);
        let long = "x".repeat(600);
        let doubled =
            rules(r#"{"rules":[{"source_labels":["a","a"],"separator":"","target_label":"a"}]}"#);
        let long = Labels::default().with(rrd::NAME, "up").with("a", &long);
        assert_eq!(doubled.unwrap().apply(&long).unwrap_err().0, Reason::LabelLimit);
    }

    #[test]
    fn rules_that_make_much_of_little_refuse_the_series_before_it_is_large() {
        let long = Labels::default().with(rrd::NAME, "up").with("a", &"x".repeat(1 << 10));
        let many = "$1".repeat(512);
        let replace =
            format!(r#"{{"source_labels":["a"],"target_label":"a","replacement":"{many}"}}"#);
        let joined = vec![r#""a""#; 32].join(",");
        let join = format!(r#"{{"source_labels":[{joined}],"separator":"","target_label":"a"}}"#);
        // Each of these doubles the labels.
        let copies: Vec<String> = (0..30)
            .map(|n| format!(r#"{{"action":"labelmap","regex":"(.+)","replacement":"b{n}_$1"}}"#))
            .collect();
        for several in [vec![replace; 3], vec![join; 4], copies] {
            let written = format!(r#"{{"rules":[{}]}}"#, several.join(","));
            let refused = rules(&written).unwrap().apply(&long).unwrap_err();
            assert_eq!(refused.0, Reason::LabelLimit);
            assert!(refused.1.contains("the operator's rules"), "{}", refused.1);
        }
    }

    #[test]
    fn wrong_rules_are_refused_with_their_number() {
        let many = vec![r#"{"target_label":"a"}"#; RULE_LIMIT + 1].join(",");
        for (json, told) in [
            (format!(r#"{{"rules":[{many}]}}"#), "at most 100 rules"),
            (r#"{"rules":[{"action":"drop"}]}"#.to_owned(), "rule 1: source_labels"),
            (r#"{"rules":[{}]}"#.to_owned(), "rule 1: target_label"),
            (
                r#"{"rules":[{"target_label":"a"},{"action":"labeldrop","regex":"("}]}"#.to_owned(),
                "rule 2: regex",
            ),
            (
                r#"{"rules":[{"action":"labeldrop","regex":"((a{99}){99}){99}"}]}"#.to_owned(),
                "rule 1: regex",
            ),
            (
                format!(r#"{{"rules":[{{"action":"labeldrop","regex":"{}"}}]}}"#, "x".repeat(1025)),
                "rule 1: regex: at most",
            ),
        ] {
            let error = rules(&json).err().unwrap();
            assert!(error.contains(told), "{error}");
        }
        assert!(serde_json::from_str::<Relabel>(r#"{"rules":[{"action":"hashmod"}]}"#).is_err());
    }
}
