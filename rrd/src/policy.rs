//! A policy: which archives a series has, how wide their rows are and how many are kept.

mod archive;
mod error;

use std::fmt;
use std::str::FromStr;

pub use archive::ArchiveSpec;
pub use error::PolicyError;

use crate::Step;
use crate::time::parse_duration_ms;

/// The archives of a series, finest first, and how unknown time is treated in them.
///
/// Written `STEP:KEEP,STEP:KEEP,...` with the options `;f64`, `;hb=5m`, `;xff=0.5` and
/// `;last` in any order. The step of days may name a time zone, as in `1d@Europe/Paris:5y`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    archives: Vec<ArchiveSpec>,
    xff: f64,
    heartbeat_ms: Option<u64>,
    all_f64: bool,
    keeps_last: bool,
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
            if archive.step == previous.step && (archive.days, previous.days) != (None, None) {
                return Err(PolicyError::RepeatedDays(part.to_owned()));
            }
            if archive.step <= previous.step {
                let (part, previous) = (part.to_owned(), previous.step);
                return Err(PolicyError::NotRising { part, previous });
            }
            archive.check_over(finest.step, part)?;
        } else if archive.days.is_some() {
            return Err(PolicyError::DaysAlone(part.to_owned()));
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
    use crate::Timestamp;

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
            ("1m:2d,24h@europe/paris:1826d", "1m:2d,1d@Europe/Paris:5y"),
            ("1m:2d,1d@UTC:9d,7d:1y;f64", "1m:2d,1d@UTC:9d,7d:371d;f64"),
        ] {
            let policy = Policy::parse(text).unwrap();
            assert_eq!(policy.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(policy), "{text}");
        }
    }

    #[test]
    fn days_of_a_zone_are_counted_as_plain_days_are() {
        let of = |text: &str| Policy::parse(text).unwrap();
        let (civil, plain) = (of("1m:2d,1d@Europe/Paris:5y"), of("1m:2d,1d:5y"));
        assert_ne!(civil, plain);
        let [paris, utc] = [&civil, &plain].map(|policy| policy.archives()[1]);
        assert_eq!((paris.row_count, paris.step), (utc.row_count, utc.step));
        assert!(!paris.has_rows_of(&utc) && paris.has_rows_of(&paris));
        assert_eq!(
            (paris.step_name().as_str(), utc.step_name().as_str()),
            ("1d@Europe/Paris", "1d")
        );
        // 29 March 2026 ended at 22:00 UTC, after 23 hours.
        let end = Timestamp::from_secs(1_774_821_600);
        let row = paris.ended_row(end);
        assert_eq!((paris.row_end(row), paris.steps_in(row, civil.step())), (end, 1380));
        assert_eq!(paris.floor(end.plus_millis(-1)), end.plus_millis(-23 * 3_600_000));
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
            ("1m:2d,1h@Europe/Paris:5y", "only days have a time zone; write 1d@ZONE"),
            ("1m:2d,2d@Europe/Paris:5y", "only days have a time zone"),
            ("1m:2d,1d@Europe/Pari:5y", "have no \"Europe/Pari\"; write a name such as"),
            ("1m:2d,1d@:5y", "have no \"\""),
            ("1m:2d,1d@../../etc/passwd:5y", "have no \"../../etc/passwd\""),
            ("1d@Europe/Paris:5y", "write them before it, as in \"5m:14d,1d@Europe/Paris:5y\""),
            ("1m:2d,1d@Europe/Paris:1h", "kept for less than one row"),
            (
                "1h:2d,1d@Asia/Kolkata:5y",
                "within steps of 1h; choose a finest step that divides 30m",
            ),
            ("2h:2d,1d@Europe/Paris:5y", "finest step that divides 1h"),
            ("30m:2d,1d@Asia/Kathmandu:5y", "finest step that divides 15m"),
            ("1m:2d,1d@Africa/Monrovia:5y", "finest step that divides 30s"),
            ("1m:2d,1d:5y,1d@Europe/Paris:5y", "keep one of 1d and 1d@ZONE"),
            ("1m:2d,1d@Asia/Tokyo:5y,1d@Europe/Paris:5y", "keep one of 1d and 1d@ZONE"),
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
