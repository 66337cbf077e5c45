//! Definitions: the texts `DS:...` and `RRA:...`, checked, and as one policy with views over it.

use std::collections::BTreeMap;
use std::fmt;

use super::number::{parse_decimal, parse_scaled};
use super::{ToolError, refuse};
use crate::series::Definition;
use crate::{Kind, MAX_COLUMNS, Policy, Step};

/// Names are as long as rrdtool's own.
const LONGEST_NAME: usize = 19;
/// A century: longer is a mistake.
const LONGEST_S: u64 = 100 * 366 * 86_400;
/// Holt-Winters archives: rrdtool's, not ours.
const FORECASTS: [&str; 6] =
    ["HWPREDICT", "MHWPREDICT", "SEASONAL", "DEVSEASONAL", "DEVPREDICT", "FAILURES"];

/// A data source (rrdtool's DS).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) definition: Definition,
}

/// How steps become the value of a row (rrdtool's CF).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Average,
    Min,
    Max,
    Last,
}

/// An archive as rrdtool has it (its RRA): a view over one of the file's archives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct View {
    pub(super) function: Function,
    pub(super) xff: f64,
    pub(super) per_row: u32,
    pub(super) row_count: u64,
}

impl Function {
    const ALL: [(&'static str, char, Self); 4] = [
        ("AVERAGE", 'A', Self::Average),
        ("MIN", 'I', Self::Min),
        ("MAX", 'X', Self::Max),
        ("LAST", 'L', Self::Last),
    ];

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, ..)| *name == text).map(|(.., function)| *function)
    }

    pub(super) fn name(self) -> &'static str {
        self.entry().0
    }

    fn entry(self) -> (&'static str, char, Self) {
        Self::ALL.into_iter().find(|(.., function)| *function == self).expect("all are listed")
    }
}

/// The names of data source types, and their kinds.
const KINDS: [(&str, Kind); 6] = [
    ("GAUGE", Kind::Gauge),
    ("COUNTER", Kind::Counter),
    ("DERIVE", Kind::Derive),
    ("ABSOLUTE", Kind::Absolute),
    ("DCOUNTER", Kind::DCounter),
    ("DDERIVE", Kind::DDerive),
];

pub(super) fn parse_kind(text: &str) -> Result<Kind, ToolError> {
    match KINDS.iter().find(|(name, _)| *name == text) {
        Some((_, kind)) => Ok(*kind),
        None if text == "COMPUTE" => refuse(
            "COMPUTE: data sources are not computed from others; compute when you read, with CDEF in xport or a query",
        ),
        None => refuse(format!(
            "{text:?}: no such data source type; there are GAUGE, COUNTER, DERIVE, ABSOLUTE, DCOUNTER and DDERIVE"
        )),
    }
}

pub(super) fn kind_name(kind: Kind) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == kind).map_or("GAUGE", |(name, _)| name)
}

/// Errors unless the text may name a data source.
pub(super) fn check_name(name: &str) -> Result<(), ToolError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_plain) {
        return Ok(());
    }
    refuse(format!(
        "{name:?} names no data source; write 1 to {LONGEST_NAME} of the characters A-Z, a-z, 0-9, _ and -"
    ))
}

pub(super) fn parse_heartbeat_ms(text: &str) -> Result<u64, ToolError> {
    match parse_scaled(text, 1) {
        Ok(seconds) if seconds <= LONGEST_S => Ok(seconds * 1000),
        Ok(_) => refuse(format!("heartbeat {text:?}: it is at most 100 years")),
        Err(error) => refuse(format!("heartbeat {text:?}: {error}")),
    }
}

/// A limit; `U` is none, which is NaN.
pub(super) fn parse_limit(text: &str) -> Result<f64, ToolError> {
    match parse_decimal(text) {
        _ if text == "U" => Ok(f64::NAN),
        Some(limit) => Ok(limit),
        None => refuse(format!("limit {text:?}: write a number, or U for none")),
    }
}

/// A step or resolution in seconds.
pub(super) fn parse_step_s(what: &str, text: &str) -> Result<u64, ToolError> {
    match parse_scaled(text, 1) {
        Ok(seconds) if seconds <= LONGEST_S => Ok(seconds),
        Ok(_) => refuse(format!("{what} {text:?}: it is at most 100 years")),
        Err(error) => refuse(format!("{what} {text:?}: {error}")),
    }
}

impl Source {
    /// `DS:name:type:heartbeat:min:max`
    pub(super) fn parse(text: &str) -> Result<Self, ToolError> {
        let in_text = |error: ToolError| ToolError::Refused(format!("{text:?}: {error}"));
        let mut parts = text.split(':').skip(1);
        let name = parts.next().unwrap_or_default();
        check_name(name).map_err(in_text)?;
        let kind = parse_kind(parts.next().unwrap_or_default()).map_err(in_text)?;
        let rest: Vec<&str> = parts.collect();
        let [heartbeat, min, max] = rest[..] else {
            return refuse(format!(
                "{text:?}: a data source is written DS:name:type:heartbeat:min:max, as in DS:load:GAUGE:120:0:U"
            ));
        };
        let heartbeat_ms = parse_heartbeat_ms(heartbeat).map_err(in_text)?;
        let (min, max) = (parse_limit(min).map_err(in_text)?, parse_limit(max).map_err(in_text)?);
        if min >= max {
            return refuse(format!("{text:?}: min must be less than max"));
        }
        Ok(Self { name: name.to_owned(), definition: Definition { kind, heartbeat_ms, min, max } })
    }
}

impl View {
    /// `RRA:function:xff:steps:rows`, for a file of this step.
    pub(super) fn parse(text: &str, step_s: u64) -> Result<Self, ToolError> {
        let parts: Vec<&str> = text.split(':').skip(1).collect();
        let name = parts.first().copied().unwrap_or_default();
        if FORECASTS.contains(&name) {
            return refuse(format!(
                "{text:?}: forecasts are not kept in files; ask for them when you read, with a query over AVERAGE"
            ));
        }
        let [_, xff, steps, rows] = parts[..] else {
            return refuse(format!(
                "{text:?}: an archive is written RRA:function:xff:steps:rows, as in RRA:AVERAGE:0.5:1:1440"
            ));
        };
        let Some(function) = Function::parse(name) else {
            return refuse(format!(
                "{text:?}: no such function as {name:?}; there are AVERAGE, MIN, MAX and LAST"
            ));
        };
        let Some(xff) = parse_decimal(xff).filter(|xff| (0.0..1.0).contains(xff)) else {
            return refuse(format!("{text:?}: xff {xff:?} must be at least 0 and below 1"));
        };
        let per_row = match parse_scaled(steps, step_s).map(u32::try_from) {
            Ok(Ok(per_row)) => per_row,
            Ok(Err(_)) => return refuse(format!("{text:?}: steps {steps:?}: it is too large")),
            Err(error) => return refuse(format!("{text:?}: steps {steps:?}: {error}")),
        };
        let row_s = u64::from(per_row).checked_mul(step_s).filter(|row_s| *row_s <= LONGEST_S);
        let Some(row_s) = row_s else {
            return refuse(format!("{text:?}: a row is at most 100 years wide"));
        };
        match parse_scaled(rows, row_s) {
            Ok(row_count) if row_count <= Policy::MOST_ROWS => {
                Ok(Self { function, xff, per_row, row_count })
            }
            Ok(_) => refuse(format!(
                "{text:?}: an archive has at most {} rows; widen its rows",
                Policy::MOST_ROWS
            )),
            Err(error) => refuse(format!("{text:?}: rows {rows:?}: {error}")),
        }
    }

    /// The width of a row in seconds.
    pub(super) fn row_s(&self, step: Step) -> i64 {
        let row_ms = u64::from(self.per_row) * step.as_millis();
        (row_ms / 1000).cast_signed()
    }

    /// True where the view answers for `wanted`: all functions of a single step are the same.
    pub(super) fn answers(&self, wanted: Function) -> bool {
        self.function == wanted || self.per_row == 1
    }

    pub(super) fn list(text: &str) -> Option<Vec<Self>> {
        text.split(';').map(Self::read).collect()
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let letter = parts.next()?.chars().next()?;
        let function = Function::ALL.iter().find(|(_, known, _)| *known == letter)?.2;
        let xff: f64 = parts.next()?.parse().ok()?;
        let (per_row, row_count): (u32, u64) =
            (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let is_sane = per_row > 0 && (1..=Policy::MOST_ROWS).contains(&row_count);
        is_sane.then_some(Self { function, xff, per_row, row_count })
    }
}

/// As it is kept in the file, for example `A 0.5 1 1440`.
impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = self.function.entry().1;
        write!(f, "{letter} {} {} {}", self.xff, self.per_row, self.row_count)
    }
}

/// One archive for each width of row, and one of single steps, which the engine needs.
pub(super) fn policy(step_s: u64, views: &[View]) -> Result<Policy, ToolError> {
    let mut widths = BTreeMap::from([(1, 1)]);
    for view in views {
        let rows = widths.entry(view.per_row).or_insert(0);
        *rows = view.row_count.max(*rows);
    }
    if widths.len() > Policy::MOST_ARCHIVES {
        return refuse(format!(
            "{} widths of row, that of a single step included; a file has at most {}, leave some RRA out",
            widths.len(),
            Policy::MOST_ARCHIVES
        ));
    }
    let too_long = || ToolError::Refused("the archives keep more time than can be counted".into());
    let mut parts = Vec::new();
    for (per_row, row_count) in widths {
        let row_s = u64::from(per_row) * step_s;
        let keep_s = row_s.checked_mul(row_count).filter(|keep| *keep < u64::MAX / 1000);
        parts.push(format!("{row_s}s:{}s", keep_s.ok_or_else(too_long)?));
    }
    let mut text = parts.join(",") + ";f64";
    if views.iter().any(|view| view.function == Function::Last && view.per_row > 1) {
        text += ";last";
    }
    text.parse().map_err(|error| ToolError::Refused(format!("these archives: {error}")))
}

/// Errors unless there are data sources, not too many, and no two of a name.
pub(super) fn check_sources(sources: &[Source]) -> Result<(), ToolError> {
    if sources.is_empty() {
        return refuse("no data source; name at least one, as in DS:load:GAUGE:120:0:U");
    }
    if sources.len() > MAX_COLUMNS {
        return refuse(format!("a file has at most {MAX_COLUMNS} data sources"));
    }
    let mut names = std::collections::BTreeSet::new();
    match sources.iter().find(|source| !names.insert(&source.name)) {
        Some(twice) => refuse(format!("data source {:?} is defined twice", twice.name)),
        None => Ok(()),
    }
}
