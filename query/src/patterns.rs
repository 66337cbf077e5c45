//! The patterns of a query, weighed before the parser compiles them.
//!
//! The parser compiles each pattern into up to 10 MiB and keeps them all: twenty characters of text
//! for ten megabytes and a second of work. Here each is tried within small bounds first, and a
//! query has a budget for all of them.

use regex::{Regex, RegexBuilder};

use crate::Error;

/// What all patterns of a query may take together, compiled.
const BUDGET: usize = 4 << 20;

/// A pattern counts as the smallest of these it compiles within; the last is what a matcher takes.
const SIZES: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];

/// Sums up what the patterns of one query take.
#[derive(Debug, Default)]
pub(crate) struct Weight(usize);

impl Weight {
    /// Adds a string literal, quotes included: any may be a pattern, and what is not compiles to
    /// little or not at all.
    pub(crate) fn add(&mut self, literal: &str) -> Result<(), Error> {
        let Ok(pattern) = promql_parser::util::unquote_string(literal) else { return Ok(()) };
        self.0 += size(&pattern).ok_or_else(|| {
            let largest = SIZES[SIZES.len() - 1];
            Error::Limit(format!(
                "the pattern {literal} takes over {largest} bytes compiled; repeat less in it"
            ))
        })?;
        if self.0 > BUDGET {
            return Err(Error::Limit(format!(
                "the patterns of the query take over {BUDGET} bytes compiled; use fewer, or \
                 simpler ones"
            )));
        }
        Ok(())
    }
}

/// The bound that `pattern` compiles within: 0 when it is no pattern, `None` when it is too large.
fn size(pattern: &str) -> Option<usize> {
    if pattern.chars().all(|c| c.is_alphanumeric() || "_-:/ ".contains(c)) {
        return Some(0);
    }
    match within(pattern) {
        // The parser reads `{` as text where it begins no repetition, as Go does.
        Err(regex::Error::Syntax(_)) => match within(&braces_as_text(pattern)) {
            Err(regex::Error::Syntax(_)) => Some(0),
            weighed => weighed.ok(),
        },
        weighed => weighed.ok(),
    }
}

fn within(pattern: &str) -> Result<usize, regex::Error> {
    let pattern = format!("^(?s:{pattern})$");
    let fits = |size: usize| RegexBuilder::new(&pattern).size_limit(size).build().map(|_| size);
    let (last, smaller) = SIZES.split_last().expect("there are five");
    smaller.iter().find_map(|size| fits(*size).ok()).map_or_else(|| fits(*last), Ok)
}

fn braces_as_text(pattern: &str) -> String {
    let parts = Regex::new(r"(?s)\\.|\{\d+(?:,\d*)?\}|\{").expect("a constant pattern");
    let escaped = parts.replace_all(pattern, |part: &regex::Captures<'_>| match &part[0] {
        "{" => r"\{".to_owned(),
        other => other.to_owned(),
    });
    escaped.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_count_by_what_they_compile_to() {
        for (pattern, expected) in [
            ("node", Some(0)),
            ("a.*|b", Some(4 << 10)),
            ("(", Some(0)),
            ("a{b}.*", Some(4 << 10)),
            ("[a-z]{300}", Some(64 << 10)),
            (r"\pL{300}", None),
            (r"\pL{300}{x}", None),
            (r"{{\pL{300}}", None),
            ("(((a{100}){100}){100}){100}", None),
        ] {
            assert_eq!(size(pattern), expected, "{pattern}");
        }
    }
}
