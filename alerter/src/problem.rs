//! A problem in a written file: where it is, what it is, and what to do about it.

use std::fmt;
use std::ops::Range;

/// One problem, as a person is shown it: `rules/host.toml:12: unknown key "warn"; did you mean "warning"?`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name as the operator knows it.
    pub file: String,
    /// Line in the file, from 1.
    pub line: usize,
    /// What is wrong, and the remedy.
    pub message: String,
}

impl Problem {
    /// A problem at the bytes `span` of `text`.
    pub fn at(file: &str, text: &str, span: &Range<usize>, message: String) -> Self {
        Self { file: file.to_owned(), line: line_of(text, span.start), message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// The line, from 1, that holds byte `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.split(|byte| *byte == b'\n').count()
}

/// The member of `known` most like `written`, if one is near enough to be what was meant.
pub fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let is_cut =
        |word: &str| written.len() > 1 && (word.starts_with(written) || written.starts_with(word));
    let near = |word: &&str| is_cut(word) || edits(written, word) <= 1 + written.len() / 4;
    known.iter().copied().filter(near).min_by_key(|word| (!is_cut(word), edits(written, word)))
}

/// Levenshtein's distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_offered_only_when_it_is_near() {
        let known = ["warning", "critical", "for", "every", "no_data"];
        for (written, offered) in [
            ("warn", Some("warning")),
            ("critcal", Some("critical")),
            ("fro", None),
            ("fo", Some("for")),
            ("nodata", Some("no_data")),
            ("colour", None),
        ] {
            assert_eq!(nearest(written, &known), offered, "{written}");
        }
    }

    #[test]
    fn lines_are_counted_from_one() {
        for (offset, line) in [(0, 1), (1, 1), (2, 2), (99, 3)] {
            assert_eq!(line_of("a\nb\nc", offset), line, "offset {offset}");
        }
    }
}
