//! Why a policy text is none: what is wrong, and what to write in its place.

use super::Policy;
use crate::Step;
use crate::calendar::Calendar;

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
    /// A zone behind a step that is no day.
    #[error("\"{0}\": only days have a time zone; write 1d@ZONE, or leave the zone out")]
    ZoneOfNoDay(String),
    /// A zone nobody knows.
    #[error(
        "\"{part}\": time zones {version} have no \"{zone}\"; write a name such as Europe/Paris, or \"1d\" for days of UTC",
        version = Calendar::tzdb_version()
    )]
    UnknownZone {
        /// The part of the policy.
        part: String,
        /// The name.
        zone: String,
    },
    /// Days of a zone without finer rows to put them together from.
    #[error(
        "\"{0}\": days of a time zone are put together from finer rows; write them before it, as in \"5m:14d,{0}\""
    )]
    DaysAlone(String),
    /// Days that begin within a finest step.
    #[error(
        "\"{part}\": days of {zone} begin within steps of {finest}; choose a finest step that divides {grain}, or another zone"
    )]
    DaysBetweenSteps {
        /// The part of the policy.
        part: String,
        /// The zone.
        zone: String,
        /// The finest step.
        finest: Step,
        /// What divides every boundary of the zone.
        grain: Step,
    },
    /// Two archives of days.
    #[error("\"{0}\": a policy has one archive of days; keep one of 1d and 1d@ZONE")]
    RepeatedDays(String),
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
