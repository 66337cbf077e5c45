//! What one query may cost.

use crate::Patience;

/// What one query may cost. The defaults suit a shared server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Moments a range query may ask for.
    pub points_per_line: usize,
    /// Series one selector may find.
    pub series: usize,
    /// Points all selectors of one query may produce together.
    pub points: u64,
    /// Points of the answer itself.
    pub answer: u64,
    /// Rows that all windows of one query may look at together, each as often as it is looked at.
    pub looks: u64,
    /// How long the answer is waited for.
    pub patience: Patience,
}

/// As in Prometheus: a week at one-minute steps, or a pixel each on four wide screens.
pub const POINTS_PER_LINE: usize = 11_000;
/// One metric of a very large fleet; a selector that finds more was meant to be narrower.
pub const SERIES: usize = 200_000;
/// Ten thousand series over a day of minutes; at 8 bytes each this bounds a query to 160 MB.
pub const POINTS: u64 = 20_000_000;
/// An answer is written three times over, as points, as text and to the socket: 100 MB in all.
pub const ANSWER_POINTS: u64 = 2_000_000;
/// Half a minute of one core, at a few nanoseconds each; unlike a deadline the same in a replay.
pub const LOOKS: u64 = 5_000_000_000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            points_per_line: POINTS_PER_LINE,
            series: SERIES,
            points: POINTS,
            answer: ANSWER_POINTS,
            looks: LOOKS,
            patience: Patience::ENDLESS,
        }
    }
}

/// How a range query is to be answered, beyond what Prometheus' API can say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Answer from the coarsest archive whose rows are no wider than the query's step
    /// (`resolution=step`), instead of the finest that reaches far enough back.
    pub coarse: bool,
}
