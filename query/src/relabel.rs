//! `label_replace`: a label made from another by a pattern.

use regex::Regex;

use crate::Error;
use crate::columns::{Column, SAME_LABELS, joined};

/// `label_replace(v, target, replacement, source, pattern)`.
#[derive(Clone, Debug)]
pub(crate) struct Replace {
    pub(crate) target: String,
    pub(crate) replacement: String,
    pub(crate) source: String,
    pub(crate) pattern: Regex,
}

/// Above this a pattern is refused: it is compiled once a query, by anybody who may ask.
const PATTERN_BYTES: usize = 1 << 20;

/// What a label may hold, as at intake; nested replacements could otherwise double it each time.
const VALUE_BYTES: usize = 65_535;

impl Replace {
    pub(crate) fn check(
        target: &str,
        replacement: &str,
        source: &str,
        pattern: &str,
    ) -> Result<Self, Error> {
        let pattern = regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
            .size_limit(PATTERN_BYTES)
            .build()
            .map_err(|why| {
                Error::parse(format!("invalid regular expression in label_replace(): {why}"))
            })?;
        if target.is_empty() {
            return Err(Error::parse("invalid destination label name in label_replace(): \"\""));
        }
        Ok(Self {
            target: target.to_owned(),
            replacement: go_template(replacement),
            source: source.to_owned(),
            pattern,
        })
    }

    pub(crate) fn apply(&self, columns: Vec<Column>) -> Result<Vec<Column>, Error> {
        let columns = columns.into_iter().map(|column| self.one(column));
        joined(columns.collect::<Result<_, _>>()?, SAME_LABELS)
    }

    fn one(&self, column: Column) -> Result<Column, Error> {
        let value = column.labels.get(&self.source).unwrap_or_default();
        let Some(captures) = self.pattern.captures(value) else { return Ok(column) };
        let mut replaced = String::new();
        captures.expand(&self.replacement, &mut replaced);
        if replaced.len() > VALUE_BYTES {
            return Err(Error::Limit(format!(
                "label_replace(): the new value of {:?} is longer than {VALUE_BYTES} bytes",
                self.target
            )));
        }
        Ok(Column { labels: column.labels.with(&self.target, &replaced), ..column })
    }
}

/// Go and Rust read `$1x` alike (a group named `1x`), but Go keeps a `$` that names nothing.
fn go_template(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        out.push(c);
        if c == '$' {
            match chars.peek() {
                Some('$') => out.extend(chars.next()),
                Some('{' | '_' | '0'..='9' | 'a'..='z' | 'A'..='Z') => {}
                _ => out.push('$'),
            }
        }
    }
    out
}
