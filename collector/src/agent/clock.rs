//! The agent's time: an axis that no step of the machine's clock moves, held against the server's.
//!
//! Looks are made on an axis that runs with the monotonic clock. Each answer of the server tells how
//! far the axis is from its clock; the answer that was quickest is believed. Below two seconds the
//! machine's own clock is right; from there on readings are shifted to the server's time and the skew
//! is told. A step of the machine's clock in the middle of a run therefore moves nothing as long as
//! the server is known.

use std::collections::VecDeque;
use std::time::Duration;

use rrd::Timestamp;

/// Below it the machine's clock is taken as right: NTP is better, networks are not.
const SHIFT_FROM_MS: i64 = 2_000;

/// Beyond it the machine's clock is no clock: it has no battery, or nobody set it.
const LOST_FROM_MS: i64 = 300_000;

/// Answers among which the quickest is believed.
const ANSWERS_MAX: usize = 8;

/// The time slews by at most this much at once, so that no cell is left out or made twice.
const SLEW_MS: i64 = 100;

/// What the machine's clock is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skew {
    /// Right, or nobody has told otherwise.
    None,
    /// Seconds or minutes off: readings are shifted.
    Shifted,
    /// More than that: readings carry the server's time.
    Lost,
}

impl Skew {
    /// As a series has it.
    pub(super) fn number(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Shifted => 1.0,
            Self::Lost => 2.0,
        }
    }
}

/// The agent's time.
#[derive(Debug)]
pub(super) struct Timeline {
    /// The machine's clock when the monotonic one read zero, as it was at the start.
    origin: Timestamp,
    /// The agent's time less the axis'.
    shift_ms: i64,
    answers: VecDeque<Answer>,
    /// How far the server's clock is ahead of the machine's.
    offset_ms: Option<i64>,
}

/// What one answer told.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// The server's clock less the axis.
    ahead_ms: i64,
    /// Time there and back.
    round_trip: Duration,
}

/// A request and its answer, by the monotonic clock and the server's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) sent: Duration,
    pub(super) answered: Duration,
    pub(super) server_ms: i64,
}

impl Timeline {
    /// Begins with the machine's clock.
    pub(super) fn start(wall: Timestamp, now: Duration) -> Self {
        let origin = wall.plus_millis(-millis(now));
        Self { origin, shift_ms: 0, answers: VecDeque::new(), offset_ms: None }
    }

    /// The agent's time.
    pub(super) fn at(&self, now: Duration) -> Timestamp {
        self.axis(now).plus_millis(self.shift_ms)
    }

    fn axis(&self, now: Duration) -> Timestamp {
        self.origin.plus_millis(millis(now))
    }

    /// How far the server's clock is ahead of the machine's, once it is known.
    pub(super) fn offset_s(&self) -> Option<f64> {
        let millis = i32::try_from(self.offset_ms?).map_or(f64::INFINITY, f64::from);
        Some(millis / 1000.0)
    }

    pub(super) fn skew(&self) -> Skew {
        match self.offset_ms.map_or(0, i64::abs) {
            0..SHIFT_FROM_MS => Skew::None,
            SHIFT_FROM_MS..=LOST_FROM_MS => Skew::Shifted,
            _ => Skew::Lost,
        }
    }

    /// Takes what an answer told of the server's clock.
    pub(super) fn answered(&mut self, exchange: Exchange) {
        let round_trip = exchange.answered.saturating_sub(exchange.sent);
        // The server looked at its clock at some moment between; the middle errs least.
        let middle = self.axis(exchange.sent + round_trip / 2);
        let ahead_ms = exchange.server_ms.saturating_sub(middle.as_millis());
        // The server's clock was set, or this machine slept: what was known before is no longer true.
        let half_ms = millis(round_trip / 2);
        let is_other = |old: &Answer| {
            (old.ahead_ms - ahead_ms).abs() > SHIFT_FROM_MS + half_ms + millis(old.round_trip / 2)
        };
        if self.answers.iter().any(is_other) {
            self.answers.clear();
        }
        if self.answers.len() == ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back(Answer { ahead_ms, round_trip });
    }

    /// Follows the machine's clock and the server's. Returns by how many milliseconds the agent's
    /// time, and with it every reading it made that was not sent yet, has to be moved; a difference
    /// below two seconds is slewed instead.
    pub(super) fn follow(&mut self, wall: Timestamp, now: Duration) -> Option<i64> {
        let wall_ms = wall.millis_since(self.axis(now));
        let quickest = self.answers.iter().min_by_key(|answer| answer.round_trip);
        let target_ms = match quickest.map(|answer| answer.ahead_ms) {
            Some(server_ms) => {
                let offset_ms = server_ms.saturating_sub(wall_ms);
                self.offset_ms = Some(offset_ms);
                if offset_ms.abs() < SHIFT_FROM_MS { wall_ms } else { server_ms }
            }
            // Nobody to ask: a small difference is NTP at work, a large one may be anything.
            None if (wall_ms - self.shift_ms).abs() < SHIFT_FROM_MS => wall_ms,
            None => self.shift_ms,
        };
        let difference_ms = target_ms - self.shift_ms;
        if difference_ms.abs() < SHIFT_FROM_MS {
            self.shift_ms += difference_ms.clamp(-SLEW_MS, SLEW_MS);
            return None;
        }
        self.shift_ms = target_ms;
        Some(difference_ms)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rrd::Step;

    use super::*;

    const STEP_MS: i64 = 10_000;
    const HOUR_MS: i64 = 3_600_000;

    /// A machine whose clock is off, an agent on it, and a server whose clock is right.
    struct Stage {
        /// True time since the start, which the monotonic clock counts.
        true_ms: i64,
        /// The machine's clock less the true time.
        wrong_ms: i64,
        timeline: Timeline,
        /// Moments of readings that were not sent yet, and all that arrived: by true moment.
        waiting: Vec<(i64, i64)>,
        arrived: BTreeMap<i64, i64>,
        is_server_there: bool,
    }

    fn next_boundary(at: Timestamp) -> Timestamp {
        let step = Step::from_secs(10).unwrap();
        at.floor(step) + step
    }

    const START_MS: i64 = 1_800_000_000_000;

    impl Stage {
        fn wrong_by(wrong_ms: i64) -> Self {
            let wall = Timestamp::from_millis(START_MS + wrong_ms);
            Self {
                true_ms: 0,
                wrong_ms,
                timeline: Timeline::start(wall, Duration::ZERO),
                waiting: Vec::new(),
                arrived: BTreeMap::new(),
                is_server_there: true,
            }
        }

        fn now(&self) -> Duration {
            Duration::from_millis(self.true_ms.cast_unsigned())
        }

        fn wall(&self) -> Timestamp {
            Timestamp::from_millis(START_MS + self.true_ms + self.wrong_ms)
        }

        /// Looks at each boundary of the agent's time for so long, sending what there is.
        fn run(&mut self, seconds: i64) -> &mut Self {
            let end_ms = self.true_ms + seconds * 1000;
            while self.true_ms < end_ms {
                let at = self.timeline.at(self.now());
                self.waiting.push((START_MS + self.true_ms, at.as_millis()));
                let mut due = next_boundary(at);
                if self.is_server_there {
                    self.ask();
                }
                if self.follow() {
                    due = next_boundary(self.timeline.at(self.now()));
                }
                if self.is_server_there {
                    self.arrived.extend(self.waiting.drain(..));
                }
                self.true_ms += due.millis_since(self.timeline.at(self.now()));
            }
            self
        }

        fn ask(&mut self) {
            let sent = self.now();
            let answered = sent + Duration::from_millis(20);
            let server_ms = START_MS + self.true_ms + 10;
            self.timeline.answered(Exchange { sent, answered, server_ms });
        }

        fn follow(&mut self) -> bool {
            let moved_ms = self.timeline.follow(self.wall(), self.now());
            for (_, at) in &mut self.waiting {
                *at += moved_ms.unwrap_or(0);
            }
            moved_ms.is_some()
        }

        fn step(&mut self, by_ms: i64) -> &mut Self {
            self.wrong_ms += by_ms;
            self
        }

        /// Every cell of ten seconds once, at most two seconds from the true time.
        #[track_caller]
        fn assert_cells(&self, cell_count: usize) {
            let cells: Vec<i64> = self.arrived.values().map(|at| at.div_euclid(STEP_MS)).collect();
            let first = cells[0];
            let expected: Vec<i64> = (first..).take(cells.len()).collect();
            assert_eq!(cells, expected, "each cell once and none left out");
            assert!(cells.len().abs_diff(cell_count) <= 1, "{} cells", cells.len());
            for (true_ms, at) in &self.arrived {
                assert!((at - true_ms).abs() <= SHIFT_FROM_MS, "{true_ms} written as {at}");
            }
        }
    }

    #[test]
    fn a_clock_that_is_off_gives_right_cells_and_a_flag() {
        for (wrong_ms, skew) in [
            (0, Skew::None),
            (1_500, Skew::None),
            (30_000, Skew::Shifted),
            (-240_000, Skew::Shifted),
            (HOUR_MS, Skew::Lost),
            (-HOUR_MS, Skew::Lost),
        ] {
            let mut stage = Stage::wrong_by(wrong_ms);
            stage.run(600).assert_cells(60);
            assert_eq!(stage.timeline.skew(), skew, "{wrong_ms} ms");
        }
    }

    #[test]
    fn a_step_in_the_middle_of_a_run_neither_skips_nor_repeats_a_cell() {
        for by_ms in [1_000, -1_000, 30_000, -30_000, HOUR_MS, -HOUR_MS] {
            let mut stage = Stage::wrong_by(0);
            stage.run(300).step(by_ms).run(300).assert_cells(60);
            let flagged = by_ms.abs() >= SHIFT_FROM_MS;
            assert_eq!(stage.timeline.skew() != Skew::None, flagged, "{by_ms} ms");
            // NTP puts it right again.
            stage.step(-by_ms).run(300).assert_cells(90);
            assert_eq!(stage.timeline.skew(), Skew::None);
        }
    }

    #[test]
    fn a_step_while_the_server_is_away_changes_nothing() {
        for by_ms in [30_000, HOUR_MS, -HOUR_MS] {
            let mut stage = Stage::wrong_by(0);
            stage.run(300).is_server_there = false;
            stage.run(100).step(by_ms).run(300).is_server_there = true;
            stage.run(100).assert_cells(80);
        }
    }

    #[test]
    fn what_is_read_before_the_server_is_known_is_moved_to_its_time() {
        for wrong_ms in [HOUR_MS, -HOUR_MS, 60_000] {
            let mut stage = Stage::wrong_by(wrong_ms);
            stage.is_server_there = false;
            stage.run(300).is_server_there = true;
            stage.run(300).assert_cells(60);
        }
    }

    #[test]
    fn the_quickest_answer_is_believed() {
        let mut timeline = Timeline::start(Timestamp::from_secs(1000), Duration::ZERO);
        for (second, round_trip_ms, server_ms) in
            [(0, 3000, 1_002_900), (10, 20, 1_010_015), (20, 2500, 1_021_900)]
        {
            let sent = Duration::from_secs(second);
            let answered = sent + Duration::from_millis(round_trip_ms);
            timeline.answered(Exchange { sent, answered, server_ms });
        }
        timeline.follow(Timestamp::from_secs(1030), Duration::from_secs(30));
        assert_eq!(timeline.offset_s(), Some(0.005));
    }
}
