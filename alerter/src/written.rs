//! Rules as they are written (TOML) turned into rules as they are meant; collects every problem.

mod levels;

use std::ops::Range;

use query::{Expr, Read, Rows, Series};
use rrd::{Labels, Matcher, Span, Step, Timestamp};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Problem;
use crate::judge::evaluate;
use crate::problem::nearest;
use crate::rules::{NoData, Rule};

/// Longest file of rules; a person wrote it.
const FILE_BYTES: usize = 1 << 20;

/// Shortest grid: the agent sends every ten seconds, closer looks see the same value again.
const SHORTEST_EVERY_MS: u64 = 1_000;

const RULE_KEYS: [&str; 11] = [
    "name",
    "expr",
    "warning",
    "critical",
    "for",
    "clear",
    "clear_for",
    "every",
    "no_data",
    "unit",
    "labels",
];

type Table<'t> = DeTable<'t>;

/// The rules of one file and where each stands; what is wrong goes to `problems`.
pub(crate) fn read(
    file: &str,
    text: &str,
    problems: &mut Vec<Problem>,
) -> Vec<(Rule, Range<usize>)> {
    let mut reader = Reader { file, text, problems };
    if text.len() > FILE_BYTES {
        reader.report(&(0..0), format!("over {FILE_BYTES} bytes; split the file"));
        return Vec::new();
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            reader.report(&error.span().unwrap_or(0..0), error.message().to_owned());
        }
        return Vec::new();
    }
    reader.document(document.get_ref())
}

/// A source without series.
struct Nothing;

impl Read for Nothing {
    fn select(&self, _: &[Matcher]) -> Vec<Series> {
        Vec::new()
    }

    fn rows(&self, _: &Series, _: usize, _: Span) -> Rows {
        Rows::default()
    }
}

/// One file while it is read.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn report(&mut self, span: &Range<usize>, message: String) {
        self.problems.push(Problem::at(self.file, self.text, span, message));
    }

    fn document(&mut self, document: &Table<'_>) -> Vec<(Rule, Range<usize>)> {
        self.known_keys(document, &["rule"]);
        let Some(written) = document.get("rule") else { return Vec::new() };
        let Some(entries) = written.get_ref().as_array() else {
            self.report(&written.span(), "write each rule under [[rule]]".to_owned());
            return Vec::new();
        };
        let entries = entries.iter();
        entries.filter_map(|entry| Some((self.rule(entry)?, entry.span()))).collect()
    }

    fn rule(&mut self, entry: &Spanned<DeValue<'_>>) -> Option<Rule> {
        let span = entry.span();
        let Some(table) = entry.get_ref().as_table() else {
            self.report(&span, "write each rule under [[rule]]".to_owned());
            return None;
        };
        let before = self.problems.len();
        let mut known = RULE_KEYS.to_vec();
        known.push("annotations");
        self.known_keys(table, &known);
        let name = self.name(table, &span);
        let expr = self.expr(table, &span);
        let (warning, critical) = self.levels(table, &span);
        let every = self.every(table);
        let no_data = self.no_data(table);
        let unit = self.text(table, "unit", "%").map(|(unit, _)| unit).unwrap_or_default();
        let labels = self.labels(table);
        let summary = self.summary(table);
        let (text, expr) = expr?;
        (self.problems.len() == before).then(|| Rule {
            name,
            file: self.file.to_owned(),
            text,
            expr,
            warning,
            critical,
            every,
            no_data,
            labels,
            unit,
            summary,
        })
    }

    fn known_keys(&mut self, table: &Table<'_>, known: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let remedy = match nearest(name, known) {
                Some(word) => format!("did you mean {word:?}?"),
                None => format!("known are {}", known.join(", ")),
            };
            self.report(&key.span(), format!("unknown key {name:?}; {remedy}"));
        }
    }

    /// The text under `key`; anything but a text is reported with `example`.
    fn text(
        &mut self,
        table: &Table<'_>,
        key: &str,
        example: &str,
    ) -> Option<(String, Range<usize>)> {
        let value = table.get(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.report(&value.span(), format!("{key} must be a text, such as {example:?}"));
            return None;
        };
        Some((text.to_owned(), value.span()))
    }

    fn name(&mut self, table: &Table<'_>, rule: &Range<usize>) -> String {
        if !table.contains_key("name") {
            self.report(
                rule,
                "the rule has no `name`; give it one, such as \"cpu busy\"".to_owned(),
            );
        }
        let Some((name, span)) = self.text(table, "name", "cpu busy") else { return String::new() };
        let fits = !name.trim().is_empty() && name.len() <= 100;
        if !fits || name.chars().any(char::is_control) {
            let message = format!("{name:?} is not a name; write 1 to 100 printable letters");
            self.report(&span, message);
        }
        name
    }

    fn expr(&mut self, table: &Table<'_>, rule: &Range<usize>) -> Option<(String, Expr)> {
        if !table.contains_key("expr") {
            self.report(rule, "the rule has no `expr`; write a PromQL expression".to_owned());
        }
        let (text, span) = self.text(table, "expr", "node_load1")?;
        let parsed = Expr::parse(&text).map_err(|error| error.to_string());
        // Asked of nothing, it tells whether it gives values at all.
        let tried = parsed
            .and_then(|expr| evaluate(&expr, &Nothing, Timestamp::from_millis(0)).map(|_| expr));
        match tried {
            Ok(expr) => Some((text, expr)),
            Err(error) => {
                self.report(&span, format!("expr: {error}"));
                None
            }
        }
    }

    fn every(&mut self, table: &Table<'_>) -> Step {
        let ten_seconds = Step::from_secs(10).expect("ten seconds are a step");
        let Some((millis, span)) = self.duration(table, "every", "10s") else { return ten_seconds };
        match Step::from_millis(millis) {
            Some(step) if millis >= SHORTEST_EVERY_MS => step,
            _ => {
                self.report(&span, "every must be at least 1s; 10s is the default".to_owned());
                ten_seconds
            }
        }
    }

    fn no_data(&mut self, table: &Table<'_>) -> NoData {
        let Some((text, span)) = self.text(table, "no_data", "unknown") else {
            return NoData::default();
        };
        match text.as_str() {
            "unknown" => NoData::Unknown,
            "keep" => NoData::Keep,
            "ok" => NoData::Ok,
            "breach" => NoData::Breach,
            _ => {
                let message = format!("no_data = {text:?}; write unknown, keep, ok or breach");
                self.report(&span, message);
                NoData::default()
            }
        }
    }

    fn labels(&mut self, table: &Table<'_>) -> Labels {
        let mut pairs = Vec::new();
        for (key, span) in self.keys_of(table, "labels") {
            if !is_label_name(&key) {
                let message =
                    format!("{key:?} is not a label name; use letters, digits and underscores");
                self.report(&span, message);
            }
            let inner = table.get("labels").and_then(|labels| labels.get_ref().as_table());
            if let Some((value, _)) = inner.and_then(|inner| self.text(inner, &key, "web")) {
                pairs.push((key, value));
            }
        }
        // TOML refuses repeated keys, and the empty name was reported above.
        Labels::from_pairs(pairs).unwrap_or_default()
    }

    fn summary(&mut self, table: &Table<'_>) -> String {
        self.keys_of(table, "annotations");
        let Some(notes) = table.get("annotations").and_then(|notes| notes.get_ref().as_table())
        else {
            return String::new();
        };
        self.known_keys(notes, &["summary"]);
        self.text(notes, "summary", "{instance} is at {value}").map(|(s, _)| s).unwrap_or_default()
    }

    /// The keys of the table under `key`; anything but a table is reported.
    fn keys_of(&mut self, table: &Table<'_>, key: &str) -> Vec<(String, Range<usize>)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let Some(inner) = value.get_ref().as_table() else {
            self.report(
                &value.span(),
                format!("{key} must be a table, such as {{ team = \"web\" }}"),
            );
            return Vec::new();
        };
        inner.keys().map(|name| (name.get_ref().to_string(), name.span())).collect()
    }
}

fn is_label_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
