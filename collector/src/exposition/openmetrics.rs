//! `OpenMetrics` 1.0: its page is good as a whole or not at all.
//!
//! Checked are the rules that a page can break by itself: the end mark, metadata once and before the
//! samples, families and metrics in one piece each, names that do not clash, the suffixes, labels and
//! values that a type allows, whole histograms, times that rise, and where exemplars may stand. Not
//! checked is what the rules only recommend (canonical numbers, units in base form, order of labels).

mod point;

use std::collections::HashSet;

use super::family;
use super::fault::{Fault, LineFault};
use super::line::{self, Exemplar};
use super::names::{self, Pairs, by_hand};
use super::{Families, Format, LINE_LIMIT, Page, Sample, number, sample};
use crate::foreign::family::FamilyKind;
use point::Point;

/// Characters of an exemplar's label names and values together, as the rules have it.
const EXEMPLAR_CHARS: usize = 128;

/// Reads a whole page. Errors with the first rule that it breaks.
pub(super) fn read(bytes: &[u8], sample_limit: usize) -> Result<Page<'_>, LineFault> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        LineFault { line, fault: Fault::NotUtf8 }
    })?;
    let mut reader = Reader { sample_limit, ..Reader::default() };
    let mut line_count = 0;
    for (number, line) in (1..).zip(text.strip_suffix('\n').unwrap_or(text).split('\n')) {
        reader.line(line).map_err(|fault| LineFault { line: number, fault })?;
        line_count = number;
    }
    reader.ended().map_err(|fault| LineFault { line: line_count, fault })
}

#[derive(Default)]
struct Reader<'a> {
    sample_limit: usize,
    page: Page<'a>,
    kinds: Families<'a>,
    family: Option<Family<'a>>,
    /// Names of families, and of samples that their types may have.
    claimed: HashSet<String>,
    is_ended: bool,
}

/// The family that lines belong to until another begins.
struct Family<'a> {
    name: &'a str,
    told: Option<FamilyKind>,
    has_help: bool,
    unit: Option<&'a str>,
    /// The point under way, once a sample was seen.
    point: Option<Point>,
    /// Labels of metrics that are over.
    metrics: HashSet<Pairs>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str) -> Result<(), Fault> {
        if self.is_ended {
            return Err(Fault::rule("nothing follows # EOF"));
        }
        if line == "# EOF" {
            self.is_ended = true;
            return Ok(());
        }
        if let Some(comment) = line.strip_prefix('#') {
            return self.metadata(comment);
        }
        if line.is_empty() {
            return Err(Fault::rule("there are no empty lines"));
        }
        if line.len() > LINE_LIMIT {
            return Err(Fault::LongLine(line.len()));
        }
        let (sample, exemplar) = sample(line, Format::OpenMetrics)?;
        self.sample(sample, exemplar)
    }

    fn metadata(&mut self, comment: &'a str) -> Result<(), Fault> {
        let wrong = || Fault::rule("a line with # is TYPE, HELP, UNIT or EOF, a name and a text");
        let mut words = comment.strip_prefix(' ').ok_or_else(wrong)?.splitn(3, ' ');
        let (Some(keyword), Some(name)) = (words.next(), words.next()) else { return Err(wrong()) };
        // A quoted name with blanks has no metadata here: its family is unknown then.
        let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
        if name.is_empty() {
            return Err(wrong());
        }
        let text = words.next();
        let family = self.family(name)?;
        if family.point.is_some() {
            return Err(Fault::rule("metadata of a metric stand before its samples"));
        }
        let is_first = match (keyword, text) {
            ("HELP", Some(_)) => !std::mem::replace(&mut family.has_help, true),
            ("UNIT", Some(unit)) => family.unit.replace(unit).is_none(),
            ("TYPE", Some(told)) => {
                let told = openmetrics_type(told)?;
                family.told.replace(told).is_none()
            }
            _ => return Err(wrong()),
        };
        if is_first {
            Ok(())
        } else {
            Err(Fault::rule(format!("{keyword} of {name} stands there twice")))
        }
    }

    /// The family of this name: the one under way, or a new one.
    fn family(&mut self, name: &'a str) -> Result<&mut Family<'a>, Fault> {
        if self.family.as_ref().is_none_or(|family| family.name != name) {
            self.end_family()?;
            if self.claimed.contains(name) {
                return Err(Fault::rule(format!("lines of {name} stand together, under one type")));
            }
            self.family = Some(Family {
                name,
                told: None,
                has_help: false,
                unit: None,
                point: None,
                metrics: HashSet::new(),
            });
        }
        Ok(self.family.as_mut().expect("begun just now"))
    }

    fn end_family(&mut self) -> Result<(), Fault> {
        let Some(mut family) = self.family.take() else { return Ok(()) };
        if let Some(point) = family.point.take() {
            point.end()?;
        } else {
            self.claim(&family)?;
        }
        Ok(())
    }

    /// Takes the names that the family's type gives it. Its metadata are known by then.
    fn claim(&mut self, family: &Family<'a>) -> Result<(), Fault> {
        family.check_unit()?;
        let told = family.told.unwrap_or(FamilyKind::Unknown);
        self.kinds.learn(family.name, told);
        let suffixes = suffixes(told).iter().filter(|suffix| !suffix.is_empty());
        for suffix in suffixes.chain([&""]) {
            let name = format!("{}{suffix}", family.name);
            if !self.claimed.insert(name.clone()) {
                return Err(Fault::rule(format!("{name} belongs to two metrics; rename one")));
            }
        }
        Ok(())
    }

    fn sample(&mut self, sample: Sample<'a>, exemplar: Option<Exemplar<'a>>) -> Result<(), Fault> {
        let name = sample.series.name().written;
        let of_current = self.family.as_ref().and_then(|family| family.suffix_of(name));
        let (family_name, suffix) = match (of_current, &self.family) {
            (Some(suffix), Some(family)) => (family.name, suffix),
            _ => (name, ""),
        };
        let family = self.family(family_name)?;
        let is_first = family.point.is_none();
        let told = family.told.unwrap_or(FamilyKind::Unknown);
        if !suffixes(told).contains(&suffix) {
            return Err(Fault::rule(format!(
                "the sample's name lacks the ending of its type: {name}"
            )));
        }
        if let Some(exemplar) = exemplar {
            check_exemplar(&exemplar, told, suffix)?;
        }
        if is_first {
            let family = self.family.take().expect("just asked for");
            self.claim(&family)?;
            self.family = Some(family);
        }
        let family = self.family.as_mut().expect("put back");
        family.take(&sample, suffix)?;
        if self.page.samples.len() >= self.sample_limit {
            return Err(Fault::Samples(self.sample_limit));
        }
        let (family, kind) = self.kinds.of(name);
        self.page.samples.push(Sample { family, kind, ..sample });
        self.page.exemplars += u64::from(exemplar.is_some());
        Ok(())
    }

    fn ended(mut self) -> Result<Page<'a>, Fault> {
        if !self.is_ended {
            return Err(Fault::rule("the page ends with # EOF; it was cut short"));
        }
        self.end_family()?;
        Ok(self.page)
    }
}

impl Family<'_> {
    /// What stands behind this family's name, if `name` is one of its samples'.
    fn suffix_of(&self, name: &str) -> Option<&'static str> {
        let rest = name.strip_prefix(self.name)?;
        let told = self.told.unwrap_or(FamilyKind::Unknown);
        // The bare name is this family's too, though its type may not allow it.
        suffixes(told).iter().chain([&""]).find(|suffix| **suffix == rest).copied()
    }

    fn check_unit(&self) -> Result<(), Fault> {
        let Some(unit) = self.unit.filter(|unit| !unit.is_empty()) else { return Ok(()) };
        let is_its_ending = self.name.strip_suffix(unit).is_some_and(|name| name.ends_with('_'));
        if !is_its_ending {
            return Err(Fault::rule(format!("{} does not end in its unit {unit}", self.name)));
        }
        if matches!(self.told, Some(FamilyKind::Info | FamilyKind::StateSet)) {
            return Err(Fault::rule("infos and state sets have no unit"));
        }
        Ok(())
    }

    /// Puts a sample into the point under way, or begins the next one.
    fn take(&mut self, sample: &Sample<'_>, suffix: &'static str) -> Result<(), Fault> {
        let told = self.told.unwrap_or(FamilyKind::Unknown);
        let mut labels = by_hand(&sample.series);
        labels.retain(|(name, _)| name != rrd::NAME);
        labels.sort();
        if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(Fault::rule("a label stands there twice"));
        }
        let special = point::special_label(told, suffix, self.name);
        let place = special.and_then(|special| labels.iter().position(|(name, _)| name == special));
        let special_value = match (special, place) {
            (Some(_), Some(place)) => Some(labels.remove(place).1),
            (Some(special), None) => {
                return Err(Fault::rule(format!("the label {special} is missing")));
            }
            (None, _) => None,
        };
        let part = point::Part { suffix, special: special_value, value: sample.value };
        point::check(told, &part)?;
        match &mut self.point {
            Some(point) if point.labels == labels => {
                if point.at != sample.at {
                    let next = point.next(sample.at)?;
                    std::mem::replace(point, next).end()?;
                }
            }
            under_way => {
                if let Some(over) = under_way.take() {
                    self.metrics.insert(over.labels.clone());
                    over.end()?;
                }
                if self.metrics.contains(&labels) {
                    return Err(Fault::rule("samples of one metric stand together"));
                }
                *under_way = Some(Point::begun(told, labels, sample.at));
            }
        }
        self.point.as_mut().expect("begun if there was none").add(part)
    }
}

fn openmetrics_type(told: &str) -> Result<FamilyKind, Fault> {
    let is_known = told != "untyped" && told.bytes().all(|byte| byte.is_ascii_lowercase());
    let known = FamilyKind::named(told).filter(|_| is_known);
    known.ok_or_else(|| Fault::Type(told.chars().take(40).collect()))
}

/// What may stand behind a family's name in its samples'.
const fn suffixes(told: FamilyKind) -> &'static [&'static str] {
    match told {
        FamilyKind::Counter => &["_total", "_created"],
        FamilyKind::Info => &["_info"],
        told => family::suffixes(told),
    }
}

fn check_exemplar(exemplar: &Exemplar<'_>, told: FamilyKind, suffix: &str) -> Result<(), Fault> {
    let may_have = matches!(
        (told, suffix),
        (FamilyKind::Counter, "_total")
            | (FamilyKind::Histogram | FamilyKind::GaugeHistogram, "_bucket")
    );
    if !may_have {
        return Err(Fault::rule("only totals and buckets have exemplars"));
    }
    let mut chars = 0;
    line::exemplar_labels(exemplar.labels, |name, value| {
        chars += names::plain(name).chars().count() + names::unescaped(value).chars().count();
    })?;
    if chars > EXEMPLAR_CHARS {
        return Err(Fault::rule("an exemplar's labels have at most 128 characters"));
    }
    number::value(exemplar.value, Format::OpenMetrics)?;
    exemplar.timestamp.map(|text| number::timestamp(text, Format::OpenMetrics)).transpose()?;
    Ok(())
}
