//! The rules: what is evaluated, when it is an alarm, and when the alarm ends.

use std::collections::BTreeMap;

use query::Expr;
use rrd::{Labels, Step};

use crate::threshold::Condition;
use crate::transition::State;
use crate::{Problem, written};

/// Rules that fit what Roundel's own agent sends; written to a new data folder.
pub const STARTER_RULES: &str = include_str!("../rules/host.toml");

/// Rules for what the server tells of itself.
pub const SERVER_RULES: &str = include_str!("../rules/server.toml");

/// Most rules together. Each is a query every few seconds: more is a fleet of servers' work.
pub(crate) const RULES_MOST: usize = 2_000;

/// What an absence of data means, once three evaluations missed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoData {
    /// The state becomes UNKNOWN; what was open stays open.
    #[default]
    Unknown,
    /// The last state stands.
    Keep,
    /// As a value inside the clearing condition.
    Ok,
    /// As a value in breach of every threshold.
    Breach,
}

/// One severity of a rule: when it begins and when it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// The bad condition.
    pub raise: Condition,
    /// How long it must hold, in milliseconds of the journal's time.
    pub for_ms: u64,
    /// The condition that ends it.
    pub clear: Condition,
    /// How long that must hold, in milliseconds.
    pub clear_for_ms: u64,
}

/// A checked rule.
#[derive(Debug)]
pub struct Rule {
    /// Unique over all files; names the rule in mail, payloads and incident ids.
    pub name: String,
    /// The file it stands in.
    pub file: String,
    /// The query as written.
    pub text: String,
    pub(crate) expr: Expr,
    /// Will be unusable.
    pub warning: Option<Level>,
    /// Is unusable. At least one of the two levels is there.
    pub critical: Option<Level>,
    /// The grid of its evaluations, aligned to 1970.
    pub every: Step,
    /// What an absence of data means.
    pub no_data: NoData,
    /// Laid over the labels of the series in what is sent.
    pub labels: Labels,
    /// Unit of the value: `%`, `bytes`, or any text.
    pub unit: String,
    /// A sentence with `{label}`, `{value}` and `{threshold}` filled in; perhaps empty.
    pub summary: String,
}

impl Rule {
    /// The level that leads to `state`; `None` for states no threshold leads to.
    pub(crate) fn level(&self, state: State) -> Option<&Level> {
        match state {
            State::Warning => self.warning.as_ref(),
            State::Critical => self.critical.as_ref(),
            State::Ok | State::Unknown => None,
        }
    }

    /// The milder of its levels: the incident ends when this one does.
    pub(crate) fn mildest(&self) -> &Level {
        self.warning.as_ref().or(self.critical.as_ref()).expect("checked: a rule has a level")
    }
}

/// All rules of a server, checked together.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    /// The rules in `files` (name and text), or everything that is wrong with them: one bad rule
    /// refuses all, so that what runs is always a set somebody meant.
    pub fn check(files: &[(String, String)]) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut rules = Vec::new();
        let mut places = BTreeMap::new();
        for (file, text) in files {
            let of_file = problems.len();
            for (rule, span) in written::read(file, text, &mut problems) {
                let here = Problem::at(file, text, &span, String::new());
                let place = format!("{file}:{}", here.line);
                if let Some(first) = places.insert(rule.name.clone(), place) {
                    let name = &rule.name;
                    let message = format!(
                        "rule {name:?} is already defined at {first}; give each rule its own name"
                    );
                    problems.push(Problem { message, ..here });
                }
                rules.push(rule);
            }
            problems[of_file..].sort_by_key(|problem| problem.line);
        }
        if rules.len() > RULES_MOST {
            let message = format!(
                "{} rules, at most {RULES_MOST} are evaluated; join rules that differ in labels only",
                rules.len()
            );
            problems.push(Problem { file: "rules".to_owned(), line: 1, message });
        }
        if problems.is_empty() { Ok(Self { rules }) } else { Err(problems) }
    }

    /// The rules in order of file and place.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The rule of this name.
    pub fn get(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> Vec<(String, String)> {
        vec![("host.toml".to_owned(), text.to_owned())]
    }

    fn rule(text: &str) -> Rule {
        let body = format!("[[rule]]\nname = \"r\"\nexpr = \"up\"\n{text}");
        let mut rules = Rules::check(&files(&body)).unwrap();
        rules.rules.remove(0)
    }

    #[test]
    fn the_starter_rules_are_good_rules() {
        let rules = Rules::check(&files(STARTER_RULES)).unwrap();
        assert!(rules.get("cpu busy").is_some(), "{rules:?}");
        assert!(rules.iter().all(|rule| rule.warning.is_some() && rule.critical.is_some()));
    }

    #[test]
    fn what_is_not_written_has_its_documented_default() {
        let plain = rule("warning = \"> 80\"");
        let level = plain.warning.unwrap();
        assert_eq!((level.for_ms, level.clear_for_ms), (0, 0));
        assert_eq!(level.clear.to_string(), "<= 72");
        assert_eq!(plain.every, Step::from_secs(10).unwrap());
        assert_eq!((plain.no_data, plain.critical), (NoData::Unknown, None));
    }

    #[test]
    fn one_text_serves_both_levels_and_a_table_each_its_own() {
        let both = rule("warning = \"> 80\"\ncritical = \"> 95\"\nfor = \"5m\"\nclear = \"< 70\"");
        assert_eq!(both.warning.unwrap().clear.to_string(), "< 70");
        assert_eq!(both.critical.unwrap().clear.to_string(), "<= 85.5");
        assert_eq!(both.critical.unwrap().for_ms, 300_000);
        let each = rule(
            "warning = \"> 70\"\ncritical = \"> 90\"\nfor = { warning = \"2m\", critical = \"1m\" }\n\
             clear = { warning = \"< 60\", critical = \"< 80\" }",
        );
        assert_eq!(each.warning.unwrap().for_ms, 120_000);
        assert_eq!(each.critical.unwrap().clear.to_string(), "< 80");
        let close = rule("warning = \"> 80\"\ncritical = \"> 82\"\nclear = \"< 79\"");
        assert_eq!(close.critical.unwrap().clear.to_string(), "< 79", "never after warning's");
    }

    #[test]
    fn each_mistake_is_named_with_its_line_and_remedy() {
        for (text, line, said) in [
            ("warn = \"> 1\"", 4, r#"unknown key "warn"; did you mean "warning"?"#),
            ("warning = 80", 4, "warning must be a text, such as \"> 80\""),
            ("warning = \"80\"", 4, "is not a condition"),
            ("for = \"5m\"", 1, "needs `warning` or `critical`"),
            ("warning = \"> 1\"\nfor = \"5 min\"", 5, "is not a duration"),
            ("warning = \"> 1\"\nevery = \"0s\"", 5, "every must be"),
            ("warning = \"> 1\"\nno_data = \"alarm\"", 5, "unknown, keep, ok or breach"),
            ("warning = \"> 9\"\ncritical = \"> 8\"", 5, "is milder than warning"),
            ("warning = \"> 9\"\ncritical = \"< 10\"", 5, "opposite"),
            ("warning = \"> 80\"\nclear = \"< 90\"", 5, "while it is still in breach"),
            ("warning = \"> 80\"\nclear = \"> 70\"", 5, "points the same way"),
            ("warning = \"> 1\"\nlabels = { \"bad name\" = \"x\" }", 5, "is not a label name"),
            ("warning = \"> 1\"\nlabels = { team = 3 }", 5, "team must be a text"),
            ("warning = \"> 1\"\nannotations = { sumary = \"x\" }", 5, r#"did you mean "summary""#),
            ("warning = \"> 1\"\nname = \"again\"", 5, "duplicate key"),
        ] {
            let body = format!("[[rule]]\nname = \"r\"\nexpr = \"up\"\n{text}");
            let problems = Rules::check(&files(&body)).expect_err(text);
            let place = format!("host.toml:{line}: ");
            let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let named = shown.iter().any(|one| one.starts_with(&place) && one.contains(said));
            assert!(named, "{text}: {shown:#?}");
        }
    }

    #[test]
    fn an_expression_that_gives_no_value_per_series_is_refused() {
        for (expr, said) in [("up[5m]", "no value per series"), ("'up'", "no value per series")] {
            let body = format!("[[rule]]\nname = \"r\"\nexpr = \"{expr}\"\nwarning = \"> 1\"");
            let problems = Rules::check(&files(&body)).expect_err(expr);
            assert!(problems[0].to_string().contains(said), "{expr}: {problems:?}");
        }
    }

    #[test]
    fn every_problem_of_every_file_is_reported_at_once() {
        let first =
            "[[rule]]\nname = \"a\"\nexpr = \"sum(\"\nwarning = \"high\"\ncolour = \"red\"\n";
        let second = "[[rules]]\nname = \"b\"\n";
        let named =
            [("one.toml".to_owned(), first.to_owned()), ("two.toml".to_owned(), second.to_owned())];
        let problems = Rules::check(&named).unwrap_err();
        let places: Vec<_> = problems.iter().map(|p| (p.file.as_str(), p.line)).collect();
        assert_eq!(
            places,
            [("one.toml", 3), ("one.toml", 4), ("one.toml", 5), ("two.toml", 1)],
            "{problems:#?}"
        );
    }

    #[test]
    fn a_name_given_twice_is_refused_with_both_places() {
        let body = "[[rule]]\nname = \"r\"\nexpr = \"up\"\nwarning = \"< 1\"\n".repeat(2);
        let problems = Rules::check(&files(&body)).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().contains("already defined at host.toml:1"), "{problems:?}");
    }
}
