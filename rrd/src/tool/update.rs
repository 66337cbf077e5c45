//! `update`: samples into a file, in order, until the first bad one.

use super::archive::Archive;
use super::arguments::{Flag, Given, Takes};
use super::define::Source;
use super::number::{parse_decimal, parse_digits};
use super::{Caller, Output, ToolError, refuse, when};
use crate::store::{Access, Value};
use crate::{Kind, Timestamp};

pub(super) const HELP: &str = "Put samples into a file

Usage: roundel rrd update FILE [OPTIONS] [--] TIME:VALUE[:VALUE ...] ...

TIME is seconds since 1970, or N for now; TIME@VALUE takes times as fetch does.
There is a VALUE for each data source in order, U for unknown. The first bad
sample ends the update; those before it stay.

  -t, --template NAME:NAME   The data sources that the values are for; others
                             are unknown
  -s, --skip-past-updates    Skip samples that are not later than the last one

  roundel rrd update load.rrd N:0.7
  roundel rrd update load.rrd 1700000060:0.7 1700000120:U
";

const OPTIONS: [Flag; 3] = [
    Flag('t', "template", Takes::Value),
    Flag('s', "skip-past-updates", Takes::Nothing),
    Flag('d', "daemon", Takes::Value),
];

/// Within some 35,000 years a moment has whole milliseconds as a decimal number.
const LAST_S: f64 = 1e12;

pub(super) fn update(caller: &Caller<'_>, words: &[&str]) -> Output {
    let given = Given::parse(words, &OPTIONS)?;
    let (path, samples) = given.file()?;
    if samples.is_empty() {
        return refuse("no sample; write TIME:VALUE, as in N:0.7");
    }
    let archive = Archive::open(caller, path, Access::Write)?;
    let order = match given.get("template") {
        Some(template) => template_order(&archive, template)?,
        None => (0..archive.sources.len()).collect(),
    };
    let reader = Reader { caller, archive: &archive, order };
    let mut last = archive.last();
    let mut outcome = Ok(String::new());
    for text in samples {
        let sample = match reader.split(text) {
            Ok((at, _)) if at <= last && given.has("skip-past-updates") => continue,
            Ok((at, _)) if at <= last => refuse(format!(
                "not later than the last update, {}; send samples in order, or -s to skip it",
                Seconds(last)
            )),
            Ok((at, values)) => reader.values(&values).map(|values| (at, values)),
            Err(error) => Err(error),
        };
        match sample {
            Ok((at, values)) => {
                archive.file.apply(at, &values);
                last = at;
            }
            Err(error) => {
                outcome = refuse(format!("{path}: {text:?}: {error}"));
                break;
            }
        }
    }
    if last > archive.last() {
        archive.file.commit(&caller.disk)?;
    }
    outcome
}

/// Seconds with the milliseconds they have.
pub(super) struct Seconds(pub(super) Timestamp);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = self.0.as_millis();
        write!(f, "{}", millis.div_euclid(1000))?;
        match millis.rem_euclid(1000) {
            0 => Ok(()),
            rest => write!(f, ".{rest:03}"),
        }
    }
}

/// Columns in the order of a template.
fn template_order(archive: &Archive, template: &str) -> Result<Vec<usize>, ToolError> {
    let mut order = Vec::new();
    for name in template.split(':') {
        match archive.source(name) {
            None => {
                return refuse(format!("--template {template:?}: no data source {name:?} here"));
            }
            Some(column) if order.contains(&column) => {
                return refuse(format!("--template {template:?}: {name:?} is named twice"));
            }
            Some(column) => order.push(column),
        }
    }
    Ok(order)
}

/// Reads samples: nothing of one is applied before all of it is read.
struct Reader<'a> {
    caller: &'a Caller<'a>,
    archive: &'a Archive,
    order: Vec<usize>,
}

impl Reader<'_> {
    /// The time of a sample, and the texts of its values.
    fn split<'t>(&self, text: &'t str) -> Result<(Timestamp, Vec<&'t str>), ToolError> {
        let (at, values) = if let Some((at, values)) = text.split_once('@') {
            (Timestamp::from_secs(when::moment(self.caller, "time", at)?), values)
        } else if let Some((at, values)) = text.split_once(':') {
            (self.time(at)?, values)
        } else {
            return refuse("a sample is written TIME:VALUE");
        };
        let values: Vec<&str> = values.split(':').collect();
        if values.len() != self.order.len() {
            return refuse(format!("{} values for {} names", values.len(), self.order.len()));
        }
        Ok((at, values))
    }

    fn values(&self, values: &[&str]) -> Result<Vec<Value>, ToolError> {
        let mut all = vec![Value::Real(f64::NAN); self.archive.sources.len()];
        for (column, text) in self.order.iter().zip(values) {
            all[*column] = value(&self.archive.sources[*column].0, text)?;
        }
        Ok(all)
    }

    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    fn time(&self, text: &str) -> Result<Timestamp, ToolError> {
        if text == "N" {
            return Ok(self.caller.now);
        }
        let Some(seconds) = parse_decimal(text).filter(|seconds| seconds.abs() < LAST_S) else {
            return refuse(format!("time {text:?}: write seconds since 1970, or N for now"));
        };
        let millis = (seconds * 1000.0).round() as i64;
        // As rrdtool has it, a negative time counts back from now.
        let is_back = text.trim_start().starts_with('-');
        let from = if is_back { self.caller.now } else { Timestamp::default() };
        Ok(from.plus_millis(millis))
    }
}

fn value(source: &Source, text: &str) -> Result<Value, ToolError> {
    if text.starts_with('U') {
        return Ok(Value::Real(f64::NAN));
    }
    let name = &source.name;
    match source.definition.kind {
        Kind::Counter => match parse_digits(text) {
            Some(value) => Ok(Value::Whole(value)),
            None => refuse(format!("{text:?}: {name:?} is a COUNTER, write digits only, or U")),
        },
        Kind::Derive => {
            let (digits, sign) = match text.strip_prefix('-') {
                Some(digits) => (digits, -1),
                None => (text, 1),
            };
            match parse_digits(digits) {
                Some(value) => Ok(Value::Whole(sign * value)),
                None => {
                    refuse(format!("{text:?}: {name:?} is a DERIVE, write a whole number, or U"))
                }
            }
        }
        _ => match parse_decimal(text) {
            Some(value) => Ok(Value::Real(value)),
            None => refuse(format!("{text:?} for {name:?} is no number; write U for unknown")),
        },
    }
}
