//! A matcher: one condition on one label, as PromQL has them.

use regex::Regex;
use thiserror::Error;

use crate::Labels;

/// How a label's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Regex,
    /// `!~`, anchored at both ends
    NotRegex,
}

/// One condition on one label. A missing label has the empty value.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    regex: Option<Regex>,
}

/// A pattern that is not a regular expression.
#[derive(Debug, Error)]
#[error("{name}: {pattern:?} is not a regular expression: {reason}")]
pub struct MatcherError {
    name: String,
    pattern: String,
    reason: regex::Error,
}

impl Matcher {
    /// A matcher; errors when a pattern is not a regular expression, or compiles to over 1 MiB.
    pub fn new(name: &str, op: MatchOp, value: &str) -> Result<Self, MatcherError> {
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(
                regex::RegexBuilder::new(&format!("^(?s:{value})$"))
                    .size_limit(1 << 20)
                    .build()
                    .map_err(|reason| MatcherError {
                        name: name.to_owned(),
                        pattern: value.to_owned(),
                        reason,
                    })?,
            ),
        };
        Ok(Self { name: name.to_owned(), op, value: value.to_owned(), regex })
    }

    /// The label it looks at.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it compares.
    pub const fn op(&self) -> MatchOp {
        self.op
    }

    /// The value or pattern it compares with.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// True when `labels` satisfy the condition.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.accepts(labels.get(&self.name).unwrap_or_default())
    }

    /// True when a label of this value satisfies the condition.
    pub fn accepts(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored_and_a_missing_label_is_empty() {
        let labels = Labels::from_pairs([("job", "node")]).unwrap();
        for (name, op, value, expected) in [
            ("job", MatchOp::Equal, "node", true),
            ("job", MatchOp::Regex, "no", false),
            ("job", MatchOp::Regex, "no.*|x", true),
            ("job", MatchOp::NotRegex, "no", true),
            ("zone", MatchOp::Equal, "", true),
            ("zone", MatchOp::NotEqual, "", false),
            ("zone", MatchOp::Regex, ".*", true),
        ] {
            let matcher = Matcher::new(name, op, value).unwrap();
            assert_eq!(matcher.matches(&labels), expected, "{name} {op:?} {value}");
        }
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Matcher::new("job", MatchOp::Regex, "(").unwrap_err();
        assert!(error.to_string().contains(r#"job: "(" is not a regular expression"#), "{error}");
    }
}
