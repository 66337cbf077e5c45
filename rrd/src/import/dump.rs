//! A round-robin database of rrdtool as its file holds it, whatever the form of the file.

use super::ImportError;
use crate::{Kind, Policy, Step, Timestamp};

/// All of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Dump {
    /// Seconds of a primary data point.
    pub step_s: u64,
    /// The last update.
    pub last_update: Timestamp,
    /// Its data sources, in order.
    pub sources: Vec<Source>,
    /// Its archives, in order.
    pub archives: Vec<Rra>,
}

/// A data source (DS): its definition, and where its open step stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// At most nineteen characters.
    pub name: String,
    /// How its readings become rates.
    pub kind: SourceKind,
    /// Seconds that a reading may cover.
    pub heartbeat_s: u64,
    /// A rate below is unknown; `NaN` is no limit.
    pub min: f64,
    /// A rate above is unknown; `NaN` is no limit.
    pub max: f64,
    /// The last reading as it was sent; `U` where it is forgotten.
    pub last_reading: String,
    /// Rate x seconds so far in the open step; `NaN` where nothing of it is known.
    pub value: f64,
    /// Whole seconds of the open step that are unknown.
    pub unknown_s: u64,
}

/// The type of a data source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// One that archives of ours can go on with.
    Known(Kind),
    /// One that they cannot, such as `COMPUTE`.
    Other(String),
}

/// An archive (RRA): rows of one width and function.
#[derive(Clone, Debug, PartialEq)]
pub struct Rra {
    /// What its rows say of their steps.
    pub function: Function,
    /// Primary data points in a row.
    pub steps_per_row: u64,
    /// The share of a row that may be unknown, in [0, 1).
    pub xff: f64,
    /// The open row, one for each source; empty for a function we do not keep.
    pub prepared: Vec<Prepared>,
    /// Rows oldest first, each with a value for each source; empty for a function we do not keep.
    pub values: Vec<f64>,
}

/// A consolidation function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Function {
    /// Mean of the known steps.
    Average,
    /// Least known step.
    Min,
    /// Greatest known step.
    Max,
    /// The newest step, known or not.
    Last,
    /// One of the Holt-Winters family.
    Other(String),
}

/// How far the open row of one source has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prepared {
    /// Sum, least, greatest or last of the steps so far, as the function says; `NaN` for none.
    pub value: f64,
    /// Unknown steps so far.
    pub unknown_steps: u64,
}

/// Data sources of a file: far beyond what one update line can carry.
pub(super) const MOST_SOURCES: u64 = 4096;
/// Archives of a file; four widths of four functions are usual.
pub(super) const MOST_RRAS: u64 = 256;
/// Values of a file, 512 MiB of them: five sources of a second for a month.
pub(super) const MOST_VALUES: u64 = 1 << 26;
/// The longest heartbeat, a century, as policies have it.
const LONGEST_HEARTBEAT_S: u64 = 100 * 366 * 86_400;
/// The last moment that four digits of a year can say.
const LATEST_S: i64 = 253_402_300_799;

impl Dump {
    /// Rows of an archive.
    pub fn row_count(&self, rra: &Rra) -> u64 {
        rra.values.len().checked_div(self.sources.len()).unwrap_or(0) as u64
    }

    /// The END of the newest row of an archive, in seconds since 1970.
    pub fn newest_end_s(&self, rra: &Rra) -> i64 {
        let width = self.width_s(rra);
        self.last_update.as_millis().div_euclid(1000).div_euclid(width) * width
    }

    /// Seconds of a row.
    pub fn width_s(&self, rra: &Rra) -> i64 {
        i64::try_from(self.step_s * rra.steps_per_row).expect("checked to be at most a century")
    }

    /// END and values of every row of an archive, oldest first.
    pub fn rows<'a>(&self, rra: &'a Rra) -> impl Iterator<Item = (i64, &'a [f64])> + use<'a> {
        let (newest, width) = (self.newest_end_s(rra), self.width_s(rra));
        let count = self.row_count(rra).cast_signed();
        let rows = rra.values.chunks_exact(self.sources.len().max(1));
        (0..).zip(rows).map(move |(index, row)| (newest - (count - 1 - index) * width, row))
    }

    /// Errors where a number is beyond what rrdtool itself can have meant.
    pub(super) fn check(self) -> Result<Self, ImportError> {
        check_count("data sources", self.sources.len() as u64, MOST_SOURCES)?;
        check_count("archives", self.archives.len() as u64, MOST_RRAS)?;
        if self.sources.is_empty() {
            return Err(ImportError::field("number of data sources", 0));
        }
        let last_s = self.last_update.as_millis().div_euclid(1000);
        if !(0..=LATEST_S).contains(&last_s) {
            return Err(ImportError::field("last update", last_s));
        }
        if Step::from_secs(self.step_s).is_none() {
            return Err(ImportError::field("step", self.step_s));
        }
        for source in &self.sources {
            source.check(self.step_s)?;
        }
        for rra in &self.archives {
            rra.check(self.step_s)?;
        }
        Ok(self)
    }
}

impl Source {
    fn check(&self, step_s: u64) -> Result<(), ImportError> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.name.is_empty() || self.name.len() > 19 || !self.name.chars().all(good) {
            return Err(ImportError::field("name of a data source", &self.name));
        }
        if let SourceKind::Other(_) = self.kind {
            return Ok(());
        }
        if !(1..=LONGEST_HEARTBEAT_S).contains(&self.heartbeat_s) {
            return Err(ImportError::field("heartbeat", self.heartbeat_s));
        }
        if self.unknown_s > step_s {
            return Err(ImportError::field("count of unknown seconds", self.unknown_s));
        }
        Ok(())
    }
}

impl Rra {
    fn check(&self, step_s: u64) -> Result<(), ImportError> {
        let is_narrow = u32::try_from(self.steps_per_row).is_ok_and(|steps| steps > 0);
        let width_s = step_s.checked_mul(self.steps_per_row).and_then(Step::from_secs);
        if !is_narrow || width_s.is_none() {
            return Err(ImportError::field("count of steps in a row", self.steps_per_row));
        }
        if !matches!(self.function, Function::Other(_)) && !(0.0..1.0).contains(&self.xff) {
            return Err(ImportError::field("xff", self.xff));
        }
        Ok(())
    }
}

impl Function {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "AVERAGE" => Self::Average,
            "MIN" => Self::Min,
            "MAX" => Self::Max,
            "LAST" => Self::Last,
            other => Self::Other(other.to_owned()),
        }
    }

    /// As rrdtool writes it.
    pub fn name(&self) -> &str {
        match self {
            Self::Average => "AVERAGE",
            Self::Min => "MIN",
            Self::Max => "MAX",
            Self::Last => "LAST",
            Self::Other(name) => name,
        }
    }

    pub(crate) const fn is_kept(&self) -> bool {
        !matches!(self, Self::Other(_))
    }
}

impl SourceKind {
    pub(super) fn named(name: &str) -> Self {
        Self::Known(match name {
            "GAUGE" => Kind::Gauge,
            "COUNTER" => Kind::Counter,
            "DERIVE" => Kind::Derive,
            "ABSOLUTE" => Kind::Absolute,
            "DCOUNTER" => Kind::DCounter,
            "DDERIVE" => Kind::DDerive,
            other => return Self::Other(other.to_owned()),
        })
    }

    /// As rrdtool writes it; kinds of ours that it has not are their nearest there.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(Kind::Gauge | Kind::Unknown) => "GAUGE",
            Self::Known(Kind::Counter) => "COUNTER",
            Self::Known(Kind::Derive) => "DERIVE",
            Self::Known(Kind::Absolute) => "ABSOLUTE",
            Self::Known(Kind::DCounter) => "DCOUNTER",
            Self::Known(Kind::Total | Kind::DDerive) => "DDERIVE",
            Self::Other(name) => name,
        }
    }
}

/// Errors when there are more than `most` of something.
pub(super) fn check_count(what: &'static str, have: u64, most: u64) -> Result<(), ImportError> {
    if have > most { Err(ImportError::TooMany { what, have, most }) } else { Ok(()) }
}

/// Errors when an archive has more rows than one of ours may have.
pub(super) fn check_rows(rows: u64) -> Result<(), ImportError> {
    check_count("rows in one archive", rows, Policy::MOST_ROWS)
}
