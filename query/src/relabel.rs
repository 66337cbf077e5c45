//! `label_replace`: a label made from another by a pattern; `label_join`: one made from several.

use regex::Regex;

use crate::Error;
use crate::columns::Column;

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

    /// The column with its new label.
    pub(crate) fn one(&self, column: Column) -> Result<Column, Error> {
        let value = column.labels.get(&self.source).unwrap_or_default();
        let Some(captures) = self.pattern.captures(value) else { return Ok(column) };
        let mut replaced = String::new();
        captures.expand(&self.replacement, &mut replaced);
        check_length("label_replace", &self.target, &replaced)?;
        Ok(Column { labels: column.labels.with(&self.target, &replaced), ..column })
    }
}

fn check_length(function: &str, target: &str, value: &str) -> Result<(), Error> {
    if value.len() > VALUE_BYTES {
        return Err(Error::Limit(format!(
            "{function}(): the new value of {target:?} is longer than {VALUE_BYTES} bytes"
        )));
    }
    Ok(())
}

/// `label_join(v, target, separator, sources...)`.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) target: String,
    pub(crate) separator: String,
    pub(crate) sources: Vec<String>,
}

impl Join {
    /// Errors when the target or a source is no name of a label.
    pub(crate) fn check(self) -> Result<Self, Error> {
        if self.target.is_empty() {
            return Err(Error::parse("invalid destination label name in label_join(): \"\""));
        }
        if self.sources.iter().any(String::is_empty) {
            return Err(Error::parse("invalid source label name in label_join(): \"\""));
        }
        Ok(self)
    }

    /// The column with its new label.
    pub(crate) fn one(&self, column: Column) -> Result<Column, Error> {
        let mut value = String::new();
        for (number, source) in self.sources.iter().enumerate() {
            if number > 0 {
                value.push_str(&self.separator);
            }
            value.push_str(column.labels.get(source).unwrap_or_default());
            check_length("label_join", &self.target, &value)?;
        }
        Ok(Column { labels: column.labels.with(&self.target, &value), ..column })
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
