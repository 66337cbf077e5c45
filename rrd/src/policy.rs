//! A policy: which archives a series has, how wide their rows are and how many are kept.

use std::fmt;
use std::str::FromStr;

use crate::Step;
use crate::time::parse_duration_ms;

/// One archive of a series: rows of one width, a fixed number of them (rrdtool's RRA).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArchiveSpec {
    /// The width of a row.
    pub step: Step,
    /// How many rows are kept; the newest takes the place of the oldest.
    pub row_count: u64,
}

/// The archives of a series, finest first, and how unknown time is treated in them.
///
/// Written `STEP:KEEP,STEP:KEEP,...` with the options `;f64`, `;hb=5m`, `;xff=0.5` and
/// `;last` in any order.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    archives: Vec<ArchiveSpec>,
    xff: f64,
    heartbeat_ms: Option<u64>,
    all_f64: bool,
    keeps_last: bool,
}

/// Why a policy text is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Nothing before the options.
    #[error("a policy names at least one archive, as in \"{default}\"", default = Policy::DEFAULT)]
    Empty,
    /// More archives than [`Policy::MOST_ARCHIVES`].
    #[error("a policy has at most {most} archives; drop some of the {0}", most = Policy::MOST_ARCHIVES)]
    TooManyArchives(usize),
    /// A part that is not `STEP:KEEP`.
    #[error("\"{0}\": an archive is written STEP:KEEP, as in \"5m:14d\"")]
    NotAnArchive(String),
    /// A step or keep that is no duration.
    #[error("\"{part}\": \"{text}\" is no duration; write a number and one of ms s m h d w y")]
    NotADuration {
        /// The part of the policy.
        part: String,
        /// The text that was expected to be a duration.
        text: String,
    },
    /// A step of zero, or of more than a century.
    #[error("\"{0}\": a step is at least 1ms and at most 100 years")]
    BadStep(String),
    /// Kept for less than one row.
    #[error("\"{0}\": kept for less than one row; keep it at least as long as its step")]
    KeepsNothing(String),
    /// More rows than [`Policy::MOST_ROWS`].
    #[error("\"{part}\": {rows} rows are more than the {most} an archive may have; keep it shorter or widen its step", most = Policy::MOST_ROWS)]
    TooManyRows {
        /// The part of the policy.
        part: String,
        /// The rows it asks for.
        rows: u64,
    },
    /// A step not wider than the one before.
    #[error("\"{part}\": steps must rise, and {previous} stands before it; write the finest first")]
    NotRising {
        /// The part of the policy.
        part: String,
        /// The step before.
        previous: Step,
    },
    /// A step which the finest does not divide.
    #[error("\"{part}\": a coarser step must be a multiple of the finest, {finest}")]
    NotAMultiple {
        /// The part of the policy.
        part: String,
        /// The finest step.
        finest: Step,
    },
    /// More finest steps in one row than can be counted.
    #[error("\"{part}\": one row would hold more than {most} steps of {finest}; widen the finest step", most = u32::MAX)]
    RowTooWide {
        /// The part of the policy.
        part: String,
        /// The finest step.
        finest: Step,
    },
    /// A day of a time zone.
    #[error(
        "\"{0}\": days of a time zone are not read by this version; write \"1d\" for days of UTC"
    )]
    CivilDay(String),
    /// An option nobody knows.
    #[error("\"{0}\": no such option; there are f64, hb=DURATION, xff=NUMBER and last")]
    UnknownOption(String),
    /// An option written twice.
    #[error("\"{0}\": the option is given twice; keep one")]
    RepeatedOption(String),
    /// A heartbeat that is no duration, zero, or above a century.
    #[error("\"{0}\": a heartbeat is a duration from 1ms to 100 years, as in \"hb=5m\"")]
    BadHeartbeat(String),
    /// A share that is not in [0, 1).
    #[error(
        "\"{0}\": the share of a row that may be unknown is at least 0 and below 1, as in \"xff=0.5\""
    )]
    BadXff(String),
}

impl Policy {
    /// The policy of a sender for whom no other was named.
    pub const DEFAULT: &str = "1m:2d,5m:14d,1h:90d,1d:5y";

    /// Enough for every zoom from seconds to years; the accumulators of a series grow with it.
    pub const MOST_ARCHIVES: usize = 8;

    /// 64 MiB of one function in f32: six months of seconds, more than any graph shows.
    pub const MOST_ROWS: u64 = 1 << 24;

    /// The share of a row that may be unknown where the policy does not say.
    pub const DEFAULT_XFF: f64 = 0.5;

    /// Reads a policy. Errors name the part that is wrong and what to write in its place.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut parts = text.split(';');
        let archives = parse_archives(parts.next().unwrap_or_default())?;
        let mut policy = Self {
            archives,
            xff: Self::DEFAULT_XFF,
            heartbeat_ms: None,
            all_f64: false,
            keeps_last: false,
        };
        let mut seen = Vec::new();
        for option in parts {
            let name = option.split('=').next().unwrap_or_default();
            if seen.contains(&name) {
                return Err(PolicyError::RepeatedOption(option.to_owned()));
            }
            seen.push(name);
            policy.set_option(option)?;
        }
        Ok(policy)
    }

    /// This policy with finer archives put before its own, as in `with_front("10s:2h")`.
    pub fn with_front(&self, front: &str) -> Result<Self, PolicyError> {
        let own = self.to_string();
        Self::parse(&format!("{front},{own}"))
    }

    /// The archives, finest first; never empty.
    pub fn archives(&self) -> &[ArchiveSpec] {
        &self.archives
    }

    /// The finest step: the width readings are averaged over before anything is kept.
    pub fn step(&self) -> Step {
        self.archives[0].step
    }

    /// The share of a row that may be unknown before the whole row is (rrdtool's xff), in [0, 1).
    pub const fn xff(&self) -> f64 {
        self.xff
    }

    /// Milliseconds after which silence is unknown; `None` leaves it to the sender's kind.
    pub const fn heartbeat_ms(&self) -> Option<u64> {
        self.heartbeat_ms
    }

    /// True where every value is kept in 64 bits.
    pub const fn all_f64(&self) -> bool {
        self.all_f64
    }

    /// True where coarser rows keep their newest step beside average, min and max (rrdtool's LAST).
    pub const fn keeps_last(&self) -> bool {
        self.keeps_last
    }

    fn set_option(&mut self, option: &str) -> Result<(), PolicyError> {
        match option.split_once('=') {
            None if option == "f64" => self.all_f64 = true,
            None if option == "last" => self.keeps_last = true,
            Some(("hb", text)) => self.heartbeat_ms = Some(parse_heartbeat(option, text)?),
            Some(("xff", text)) => self.xff = parse_xff(option, text)?,
            _ => return Err(PolicyError::UnknownOption(option.to_owned())),
        }
        Ok(())
    }
}

/// The canonical text: reading it gives an equal policy back.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, archive) in self.archives.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{archive}")?;
        }
        if self.all_f64 {
            f.write_str(";f64")?;
        }
        if let Some(heartbeat) = self.heartbeat_ms.and_then(Step::from_millis) {
            write!(f, ";hb={heartbeat}")?;
        }
        if self.xff.to_bits() != Self::DEFAULT_XFF.to_bits() {
            write!(f, ";xff={}", self.xff)?;
        }
        if self.keeps_last {
            f.write_str(";last")?;
        }
        Ok(())
    }
}

impl FromStr for Policy {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        Self::parse(text)
    }
}

impl ArchiveSpec {
    /// How many steps of `finest` one row holds; 1 for the finest archive itself.
    pub fn steps_per_row(&self, finest: Step) -> u32 {
        u32::try_from(self.step.as_millis() / finest.as_millis())
            .expect("Policy::parse refuses rows of more than u32::MAX steps")
    }

    fn parse(part: &str) -> Result<Self, PolicyError> {
        let refuse = || PolicyError::NotAnArchive(part.to_owned());
        let (step, keep) = part.split_once(':').ok_or_else(refuse)?;
        if step.contains('@') {
            return Err(PolicyError::CivilDay(part.to_owned()));
        }
        let no_duration =
            |text: &str| PolicyError::NotADuration { part: part.to_owned(), text: text.to_owned() };
        let step_ms = parse_duration_ms(step).ok_or_else(|| no_duration(step))?;
        let keep_ms = parse_keep_ms(keep).ok_or_else(|| no_duration(keep))?;
        let step =
            Step::from_millis(step_ms).ok_or_else(|| PolicyError::BadStep(part.to_owned()))?;
        if keep_ms < step_ms {
            return Err(PolicyError::KeepsNothing(part.to_owned()));
        }
        let row_count = keep_ms.div_ceil(step_ms);
        if row_count > Policy::MOST_ROWS {
            return Err(PolicyError::TooManyRows { part: part.to_owned(), rows: row_count });
        }
        Ok(Self { step, row_count })
    }

    /// Errors if a row of this archive cannot be put together from steps of `finest`.
    fn check_over(&self, finest: Step, part: &str) -> Result<(), PolicyError> {
        let (wide, narrow) = (self.step.as_millis(), finest.as_millis());
        let part = || part.to_owned();
        if !wide.is_multiple_of(narrow) {
            return Err(PolicyError::NotAMultiple { part: part(), finest });
        }
        if wide / narrow > u64::from(u32::MAX) {
            return Err(PolicyError::RowTooWide { part: part(), finest });
        }
        Ok(())
    }
}

/// `STEP:KEEP`, KEEP in the largest unit that says it exactly.
impl fmt::Display for ArchiveSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keep_ms = self.row_count * self.step.as_millis();
        let years = keep_ms.div_ceil(365 * DAY_MS + DAY_MS / 4);
        if years > 0 && years_ms(years) == Some(keep_ms) {
            return write!(f, "{}:{years}y", self.step);
        }
        write!(f, "{}:{}", self.step, Duration(keep_ms))
    }
}

/// A span of time that may be longer than a step can be; prints as a step does.
struct Duration(u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("d", DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let (unit, width) = units
            .into_iter()
            .find(|&(_, width)| self.0.is_multiple_of(width))
            .expect("every number is a multiple of one");
        write!(f, "{}{unit}", self.0 / width)
    }
}

const DAY_MS: u64 = 86_400_000;

/// Whole days in `years` years of 365.25 days, so that "5y" keeps five calendar years of days.
fn years_ms(years: u64) -> Option<u64> {
    (years.checked_mul(1461)? / 4).checked_mul(DAY_MS)
}

fn parse_keep_ms(text: &str) -> Option<u64> {
    match text.strip_suffix('y').map(str::parse) {
        Some(Ok(years)) => years_ms(years),
        _ => parse_duration_ms(text),
    }
}

fn parse_archives(text: &str) -> Result<Vec<ArchiveSpec>, PolicyError> {
    if text.is_empty() {
        return Err(PolicyError::Empty);
    }
    let count = text.split(',').count();
    if count > Policy::MOST_ARCHIVES {
        return Err(PolicyError::TooManyArchives(count));
    }
    let mut archives: Vec<ArchiveSpec> = Vec::with_capacity(count);
    for part in text.split(',') {
        let archive = ArchiveSpec::parse(part)?;
        if let (Some(finest), Some(previous)) = (archives.first(), archives.last()) {
            if archive.step <= previous.step {
                let (part, previous) = (part.to_owned(), previous.step);
                return Err(PolicyError::NotRising { part, previous });
            }
            archive.check_over(finest.step, part)?;
        }
        archives.push(archive);
    }
    Ok(archives)
}

fn parse_heartbeat(option: &str, text: &str) -> Result<u64, PolicyError> {
    parse_duration_ms(text)
        .and_then(Step::from_millis)
        .map(Step::as_millis)
        .ok_or_else(|| PolicyError::BadHeartbeat(option.to_owned()))
}

fn parse_xff(option: &str, text: &str) -> Result<f64, PolicyError> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share.abs()), // -0 is 0, and prints so.
        _ => Err(PolicyError::BadXff(option.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<(u64, u64)> {
        let policy = Policy::parse(text).unwrap();
        policy.archives().iter().map(|a| (a.step.as_millis() / 1000, a.row_count)).collect()
    }

    #[test]
    fn the_default_keeps_ten_thousand_eight_hundred_and_ninety_eight_rows() {
        let expected = [(60, 2880), (300, 4032), (3600, 2160), (86_400, 1826)];
        assert_eq!(rows(Policy::DEFAULT), expected);
        assert_eq!(expected.iter().map(|(_, rows)| rows).sum::<u64>(), 10_898);
    }

    #[test]
    fn a_policy_prints_canonically_and_reads_back_equal() {
        for (text, canonical) in [
            (Policy::DEFAULT, Policy::DEFAULT),
            ("60s:48h", "1m:2d"),
            ("1m:90s", "1m:2m"),
            ("1d:1825d", "1d:1825d"),
            ("1d:1826d", "1d:5y"),
            ("1h:1y,1d:10y", "1h:1y,1d:10y"),
            ("1500ms:3s", "1500ms:3s"),
            ("100ms:1500ms", "100ms:1500ms"),
            ("1m:2d;xff=0.50", "1m:2d"),
            ("1m:2d;xff=0.25;hb=300s;f64", "1m:2d;f64;hb=5m;xff=0.25"),
            ("1m:2d;xff=-0", "1m:2d;xff=0"),
            ("1m:2w", "1m:14d"),
            ("1m:2d;last;f64", "1m:2d;f64;last"),
        ] {
            let policy = Policy::parse(text).unwrap();
            assert_eq!(policy.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(policy), "{text}");
        }
    }

    #[test]
    fn options_are_read_in_any_order() {
        let policy = Policy::parse("1m:2d;hb=5m;f64;xff=0.1").unwrap();
        assert_eq!((policy.heartbeat_ms(), policy.all_f64()), (Some(300_000), true));
        assert!((policy.xff() - 0.1).abs() < 1e-15);
        let plain = Policy::parse("1m:2d").unwrap();
        assert_eq!((plain.heartbeat_ms(), plain.all_f64()), (None, false));
    }

    #[test]
    fn finer_archives_can_be_put_in_front() {
        let policy = Policy::parse("1m:2d,5m:14d;f64").unwrap().with_front("10s:2h").unwrap();
        assert_eq!(policy.to_string(), "10s:2h,1m:2d,5m:14d;f64");
        assert_eq!(policy.archives()[2].steps_per_row(policy.step()), 30);
        let odd = Policy::parse("1m:2d").unwrap().with_front("7s:2h");
        assert_eq!(odd.unwrap_err().to_string().split(':').next(), Some("\"1m"));
    }

    #[test]
    fn a_wrong_policy_is_told_what_is_wrong_and_what_to_write() {
        for (text, says) in [
            ("", "at least one archive"),
            (";f64", "at least one archive"),
            ("1m", "STEP:KEEP"),
            ("1m:2d,", "STEP:KEEP"),
            ("1x:2d", "\"1x\" is no duration"),
            ("1m:2q", "\"2q\" is no duration"),
            ("1m:y", "\"y\" is no duration"),
            ("1m:99999999999999999y", "no duration"),
            ("0s:2d", "at least 1ms"),
            ("101y:200y", "at most 100 years"),
            ("1m:59s", "less than one row"),
            ("1m:0s", "less than one row"),
            ("1s:1y", "31536000 rows are more than the 16777216"),
            ("5m:14d,1m:2d", "\"1m:2d\": steps must rise, and 5m stands before it"),
            ("1m:2d,1m:4d", "steps must rise"),
            ("1m:2d,90s:4d", "multiple of the finest, 1m"),
            ("1ms:1s,60d:10y", "more than 4294967295 steps of 1ms"),
            ("1m:2d,1d@Europe/Paris:5y", "\"1d@Europe/Paris:5y\": days of a time zone"),
            ("1s:9s,2s:9s,3s:9s,4s:9s,5s:9s,6s:9s,7s:9s,8s:9s,9s:9s", "at most 8 archives"),
            ("1m:2d;", "no such option"),
            ("1m:2d;f32", "no such option"),
            ("1m:2d;f64;f64", "given twice"),
            ("1m:2d;hb=5m;hb=6m", "given twice"),
            ("1m:2d;hb=0s", "a heartbeat is a duration"),
            ("1m:2d;hb=soon", "a heartbeat is a duration"),
            ("1m:2d;xff=1", "at least 0 and below 1"),
            ("1m:2d;xff=-0.1", "at least 0 and below 1"),
            ("1m:2d;xff=NaN", "at least 0 and below 1"),
        ] {
            let error = Policy::parse(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.ends_with('.'), "{error}");
        }
    }
}
