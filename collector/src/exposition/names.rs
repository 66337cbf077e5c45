//! Name and labels of a series, asked for when it is seen for the first time.
//!
//! `prometheus-parse` reads them, behind a disguise: what it takes for syntax inside a value (`,`
//! `=` `{` `}` blanks, quotes, what an escape stood for) goes in as characters of the last private
//! plane and comes back as itself, the colons of a metric's name as a letter, blanks around commas
//! and the comma behind the last label not at all. What it cannot be given is read by [`by_hand`]:
//! quoted metric names, texts that use these private characters themselves, and labels that stand
//! there twice, which the crate's map would swallow.

use std::borrow::Cow;

use prometheus_parse::Scrape;
use rrd::NAME;

use super::line::{Name, Series};

/// Names and values of a series' labels, `__name__` among them, in no order.
pub(crate) type Pairs = Vec<(String, String)>;

/// Where ASCII is moved to.
const PRIVATE: u32 = 0x0010_ff00;
/// What stands for a colon in a metric's name: a letter that no unquoted name may hold.
const COLON: char = '\u{02d0}';

/// All labels of `series`.
pub(crate) fn labels(series: &Series<'_>) -> Pairs {
    by_crate(series).unwrap_or_else(|| by_hand(series))
}

/// The metric of `series`, and its other labels sorted by name.
pub(crate) fn parts(series: &Series<'_>) -> (String, Pairs) {
    let mut pairs = labels(series);
    let name = pairs.iter().position(|(name, _)| name == NAME);
    let metric = name.map(|place| pairs.swap_remove(place).1).unwrap_or_default();
    pairs.sort();
    (metric, pairs)
}

/// As `prometheus-parse` reads the series in its disguise; `None` where it cannot.
#[expect(
    clippy::default_trait_access,
    reason = "the type of its time is of a crate that we do not name"
)]
pub(super) fn by_crate(series: &Series<'_>) -> Option<Pairs> {
    let (line, label_count) = disguised(series)?;
    // The time is not used: values and timestamps are read from every line anew.
    let scrape = Scrape::parse_at(std::iter::once(Ok(line)), Default::default()).ok()?;
    let sample = scrape.samples.into_iter().next()?;
    if sample.labels.len() != label_count {
        return None;
    }
    let mut pairs: Pairs =
        sample.labels.iter().map(|(name, value)| (unveiled(name), unveiled(value))).collect();
    pairs.push((NAME.to_owned(), sample.metric.replace(COLON, ":")));
    Some(pairs)
}

/// A line of that series that the crate reads right, and the number of its labels.
fn disguised(series: &Series<'_>) -> Option<(String, usize)> {
    let name = series.name();
    if name.is_quoted || series.text().chars().any(is_private) {
        return None;
    }
    let mut line = String::with_capacity(series.text().len() + 32);
    line.extend(name.written.chars().map(|letter| if letter == ':' { COLON } else { letter }));
    let mut count = 0;
    series.each_label(|name, value| {
        line.push(if count == 0 { '{' } else { ',' });
        veil(&plain(name), &mut line);
        line.push_str("=\"");
        veil(&unescaped(value), &mut line);
        line.push('"');
        count += 1;
    });
    line.push_str(if count == 0 { " 0" } else { "} 0" });
    Some((line, count))
}

fn veil(text: &str, line: &mut String) {
    let veiled = |letter: char| {
        let is_itself = letter.is_ascii_alphanumeric() || letter == '_' || !letter.is_ascii();
        let moved = if is_itself { None } else { char::from_u32(PRIVATE + u32::from(letter)) };
        moved.unwrap_or(letter)
    };
    line.extend(text.chars().map(veiled));
}

fn unveiled(text: &str) -> String {
    let unveiled = |letter: char| {
        let moved = u32::from(letter).checked_sub(PRIVATE).filter(|code| *code < 128);
        moved.and_then(char::from_u32).unwrap_or(letter)
    };
    text.chars().map(unveiled).collect()
}

fn is_private(letter: char) -> bool {
    u32::from(letter) >= PRIVATE
}

/// The same by our own eyes: the whole grammar, and the judge of the crate in tests.
pub(super) fn by_hand(series: &Series<'_>) -> Pairs {
    let mut pairs = vec![(NAME.to_owned(), plain(series.name()).into_owned())];
    series.each_label(|name, value| {
        pairs.push((plain(name).into_owned(), unescaped(value).into_owned()));
    });
    pairs
}

/// A name without quotes and escapes.
pub(super) fn plain(name: Name<'_>) -> Cow<'_, str> {
    if name.is_quoted { unescaped(name.written) } else { Cow::Borrowed(name.written) }
}

/// What stands in quotes, its `\\`, `\"` and `\n` resolved. Another backslash stands for itself.
pub(super) fn unescaped(written: &str) -> Cow<'_, str> {
    if !written.contains('\\') {
        return Cow::Borrowed(written);
    }
    let mut text = String::with_capacity(written.len());
    let mut letters = written.chars().peekable();
    while let Some(letter) = letters.next() {
        let resolved = match (letter, letters.peek()) {
            ('\\', Some('\\')) => Some('\\'),
            ('\\', Some('"')) => Some('"'),
            ('\\', Some('n')) => Some('\n'),
            _ => None,
        };
        if resolved.is_some() {
            letters.next();
        }
        text.push(resolved.unwrap_or(letter));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut pairs: Pairs) -> Pairs {
        pairs.sort();
        pairs
    }

    #[test]
    fn the_crate_in_its_disguise_reads_what_we_read() {
        for text in [
            "a",
            "a{}",
            "job:a:rate5m",
            r#"a{p="/x/{id}"}"#,
            r#"a{p="x,y",q="k=v"}"#,
            r#"a{e="say \"hi\"",d="C:\\D",n="a\nb"}"#,
            r#"a {b = "1", c="2" , }"#,
            r#"a{p="",q=" x ",r="\\",s="\\\\\"",t="\d"}"#,
            r#"a{"quoted.label"="é","with \"quotes\""="世界 🌍"}"#,
            "a{b=\"tab\tand\u{a0}blank\u{2028}\"}",
        ] {
            let series = Series::read(text).unwrap();
            let by_crate = by_crate(&series).unwrap_or_else(|| panic!("{text}: not by the crate"));
            assert_eq!(sorted(by_crate), sorted(by_hand(&series)), "{text}");
        }
    }

    #[test]
    fn what_the_crate_cannot_read_is_read_by_hand() {
        for (text, expected) in [
            (r#"{"my.metric",l="v"}"#, &[(NAME, "my.metric"), ("l", "v")][..]),
            (r#"{l="v","my metric"}"#, &[(NAME, "my metric"), ("l", "v")]),
            (r#"a{l="1",l="2"}"#, &[(NAME, "a"), ("l", "1"), ("l", "2")]),
            ("a{l=\"\u{10ff2c}\"}", &[(NAME, "a"), ("l", "\u{10ff2c}")]),
            (r#"a{""="x"}"#, &[(NAME, "a"), ("", "x")]),
        ] {
            let series = Series::read(text).unwrap();
            assert_eq!(by_crate(&series), None, "{text}");
            let expected = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            assert_eq!(sorted(labels(&series)), sorted(expected.collect()), "{text}");
        }
    }
}
