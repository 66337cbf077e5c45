//! Graphite's plaintext protocol: lines of `path value timestamp` to series, as templates say.

mod template;

use std::iter::once;

use rrd::{Labels, NAME, Timestamp};

use crate::accounting::Reason;
use crate::foreign::spelling::{Pairs, label_name, metric_name, moment, number, place};
use crate::foreign::{Named, Sorted, Sorter, Unread, checked_pairs, shown_pairs};
use crate::limits::LABEL_COUNT_LIMIT;
pub use template::{TemplateError, Templates};

/// Bytes of a line: the longest labels that are taken fit, and a number and a time.
pub(crate) const LINE_LIMIT: usize = 4 << 10;

/// The job of series whose template and tags name none.
const JOB: &str = "graphite";

/// Reads the lines in `text` into `sorter`; one that cannot be read is refused by itself. `now` is
/// the time of lines without one.
pub(crate) fn sort(
    text: &[u8],
    (templates, now): (&Templates, Timestamp),
    mut sorter: Sorter<'_>,
) -> Sorted {
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match read(line) {
            Ok((path, value, at)) => {
                let name = Path { path, templates };
                sorter.series(path.as_bytes(), &name, (&[(at.unwrap_or(now), value)], None));
            }
            Err(why) => sorter.refuse(Reason::Malformed, 1, &Unread(line), why),
        }
    }
    sorter.sorted
}

/// Lines in `text` that say something.
pub(crate) fn count(text: &[u8]) -> u64 {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    u64::try_from(lines.count()).unwrap_or(u64::MAX)
}

/// The path, value and time of a line; the value is NaN where the sender knows none.
fn read(line: &[u8]) -> Result<(&str, f64, Option<Timestamp>), &'static str> {
    if line.len() > LINE_LIMIT {
        return Err("a line has at most 4096 bytes");
    }
    let text = str::from_utf8(line).map_err(|_| "a line is UTF-8")?;
    let mut words = text.split_ascii_whitespace();
    let (path, value) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let value = match value.trim_start_matches(['-', '+']) {
        word if word.eq_ignore_ascii_case("nan") => f64::NAN,
        _ => number(value).ok_or("a line is path, value and seconds since 1970")?,
    };
    let at = match words.next() {
        None | Some("-1") => None,
        Some(word) => Some(moment(number(word).ok_or("the time is seconds since 1970")?)),
    };
    match words.next() {
        None => Ok((path, value, at)),
        Some(_) => Err("a line is path, value and seconds since 1970"),
    }
}

/// A path, `a.b.c` or `a.b.c;tag=value`.
struct Path<'a> {
    path: &'a str,
    templates: &'a Templates,
}

impl Path<'_> {
    fn pairs(&self) -> Pairs {
        let mut parts = self.path.split(';');
        let path = parts.next().unwrap_or_default();
        // One more than is taken, for the limit to see.
        let tags: Vec<&str> = parts.take(LABEL_COUNT_LIMIT + 1).collect();
        let mut pairs = if tags.is_empty() { self.templates.apply(path) } else { None }
            .unwrap_or_else(|| once((NAME.to_owned(), metric_name(path))).collect());
        pairs.extend(tags.into_iter().map(|tag| {
            let (name, value) = tag.split_once('=').unwrap_or((tag, ""));
            (label_name(name), value.to_owned())
        }));
        place(&mut pairs, JOB);
        pairs
    }
}

impl Named for Path<'_> {
    fn labels(&self) -> Result<Labels, (Reason, String)> {
        checked_pairs(&self.pairs())
    }

    fn shown(&self) -> String {
        shown_pairs(self.pairs().into_iter())
    }
}

#[cfg(test)]
mod tests;
