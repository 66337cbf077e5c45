//! Prometheus' text exposition and `OpenMetrics`: a page of bytes becomes samples, in its order.
//!
//! Who reads what. Lines are taken apart by our own tokenizer (`line`), which copies nothing; values,
//! timestamps, types and exemplars are read from its parts, for these change from page to page and
//! `prometheus-parse` drops or misreads some of them without a word: hexadecimal and faulty values,
//! seconds of `OpenMetrics`, types of `_total`, the order of histograms. The name and the labels of a
//! series are read by `prometheus-parse` (`names`), when somebody meets the series for the first time
//! and asks for them; a series that is known is known by the bytes of its text. The crate sees every
//! line in a disguise that it reads right. What no disguise helps it to read is read by our own code;
//! both are held against each other in tests.
//!
//! In the text format a line that cannot be read is reported and the others are taken. An
//! `OpenMetrics` page is taken as a whole or not at all, as its rules say (`openmetrics`).

mod family;
mod fault;
mod line;
mod names;
mod number;
mod openmetrics;

use rrd::{Kind, Labels, Timestamp};

use crate::accounting::Reason;
use crate::foreign::family::FamilyKind;
use crate::foreign::{Named, shown_pairs};
use crate::limits::checked_series;
use family::Families;
use fault::Faults;
pub(crate) use fault::{Fault, LineFault};
pub(crate) use line::Series;
pub(crate) use names::{Pairs, labels, parts};

/// Bytes of a page: a busy exporter's has some hundred KiB.
pub(crate) const PAGE_LIMIT: usize = 10 << 20;
/// Bytes of a line with a sample: twice the longest key, for escapes, and as much for an exemplar.
const LINE_LIMIT: usize = 8 << 10;

/// What a page may be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' text format 0.0.4, with the quoted names of later versions.
    Text,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// What a target is asked for: the text format, in which a fault costs a line.
    pub(crate) const ACCEPT: &str =
        "text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";

    /// The format that a `Content-Type` names; the text format where it names another or none, as
    /// many exporters do.
    pub(crate) fn of(content_type: Option<&str>) -> Self {
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        if media_type.trim().eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }
}

/// What was read of a page.
#[derive(Debug, Default)]
pub(crate) struct Page<'a> {
    /// In the order of the page.
    pub(crate) samples: Vec<Sample<'a>>,
    /// Lines that could not be read.
    pub(crate) faults: Faults,
    /// Exemplars, which are left out.
    pub(crate) exemplars: u64,
}

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample<'a> {
    pub(crate) series: Series<'a>,
    pub(crate) value: f64,
    /// The moment that the page gives, where it gives one.
    pub(crate) at: Option<Timestamp>,
    /// The family that it belongs to: what TYPE lines name, else its own name.
    pub(crate) family: &'a str,
    /// How readings become a rate, where the page tells.
    pub(crate) kind: Option<Kind>,
}

/// Reads a page of at most `sample_limit` samples; those beyond are left out and reported.
///
/// Errors when nothing of the page is taken.
pub(crate) fn read(
    bytes: &[u8],
    format: Format,
    sample_limit: usize,
) -> Result<Page<'_>, LineFault> {
    if bytes.len() > PAGE_LIMIT {
        let fault = Fault::Size { size: bytes.len(), limit: PAGE_LIMIT };
        return Err(LineFault { line: 0, fault });
    }
    let page = match format {
        Format::Text => text(bytes, sample_limit),
        Format::OpenMetrics => openmetrics::read(bytes, sample_limit)?,
    };
    Ok(page)
}

fn text(bytes: &[u8], sample_limit: usize) -> Page<'_> {
    let mut page = Page::default();
    let mut families = Families::default();
    let mut left_out = None;
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        match text_line(line, &mut families) {
            Ok(None) => {}
            Ok(Some(_)) if page.samples.len() >= sample_limit => {
                left_out = left_out.or(Some(number));
            }
            Ok(Some((sample, has_exemplar))) => {
                page.samples.push(sample);
                page.exemplars += u64::from(has_exemplar);
            }
            Err(fault) => page.faults.add(number, fault),
        }
    }
    if let Some(number) = left_out {
        page.faults.add(number, Fault::Samples(sample_limit));
    }
    page
}

fn text_line<'a>(
    line: &'a [u8],
    families: &mut Families<'a>,
) -> Result<Option<(Sample<'a>, bool)>, Fault> {
    let line = line.trim_ascii();
    if let Some(comment) = line.strip_prefix(b"#") {
        // Comments may hold what they like.
        let comment = str::from_utf8(comment).unwrap_or_default();
        return metadata(comment, families).map(|()| None);
    }
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() > LINE_LIMIT {
        return Err(Fault::LongLine(line.len()));
    }
    let line = str::from_utf8(line).map_err(|_| Fault::NotUtf8)?;
    let (sample, exemplar) = sample(line, Format::Text)?;
    let name = sample.series.name();
    let (family, kind) = families.of(name.written);
    Ok(Some((Sample { family, kind, ..sample }, exemplar.is_some())))
}

/// Reads a TYPE line; other comments say nothing that is kept.
fn metadata<'a>(comment: &'a str, families: &mut Families<'a>) -> Result<(), Fault> {
    let Some(rest) = comment.trim_start().strip_prefix("TYPE") else { return Ok(()) };
    if !rest.starts_with([' ', '\t']) {
        return Ok(());
    }
    let (name, told) = rest.trim().rsplit_once([' ', '\t']).ok_or(Fault::TypeLine)?;
    let name = name.trim_end();
    // A quoted name is told by what stands inside its quotes, as its samples' are.
    let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
    let told =
        FamilyKind::named(told).ok_or_else(|| Fault::Type(told.chars().take(40).collect()))?;
    if families.learn(name, told) {
        return Ok(());
    }
    Err(Fault::TwoTypes(name.chars().take(100).collect()))
}

/// The sample on a line, without what TYPE lines tell of it, and the exemplar behind it.
fn sample(line: &str, format: Format) -> Result<(Sample<'_>, Option<line::Exemplar<'_>>), Fault> {
    let parts = line::parts(line, format)?;
    let value = number::value(parts.value, format)?;
    let at = parts.timestamp.map(|text| number::timestamp(text, format)).transpose()?;
    let family = parts.series.name().written;
    Ok((Sample { series: parts.series, value, at, family, kind: None }, parts.exemplar))
}

/// Labels of a series under those of its target, which win; what they hide is kept as `exported_…`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Labelled<'a> {
    pub(crate) series: Series<'a>,
    /// Sorted or not, without `__name__`.
    pub(crate) over: &'a [(String, String)],
    /// Whether labels that `over` hides are kept under another name.
    pub(crate) keeps_hidden: bool,
}

impl Labelled<'_> {
    fn pairs(&self) -> names::Pairs {
        let is_over = |name: &str| self.over.iter().any(|(over, _)| over == name);
        let mut pairs = labels(&self.series);
        for (name, _) in &mut pairs {
            if self.keeps_hidden && is_over(name) {
                name.insert_str(0, "exported_");
            }
        }
        pairs.retain(|(name, _)| !is_over(name));
        pairs.extend_from_slice(self.over);
        pairs
    }
}

impl Named for Labelled<'_> {
    fn labels(&self) -> Result<Labels, (Reason, String)> {
        let pairs = self.pairs();
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        checked_series(&pairs)
    }

    fn shown(&self) -> String {
        shown_pairs(self.pairs().into_iter())
    }
}

#[cfg(test)]
mod tests;
