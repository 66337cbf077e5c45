//! Rows of a role: what the rows of members that are gone come to together.
//!
//! For each series of its members a role has two: the mean over the members, and how many they were.
//! `role:NAME:avg` and `role:NAME:count`; `role:NAME:rate_avg` and `role:NAME:rate_count` of a counter,
//! whose rows are rates. The sum is their product.

use crate::series::Run;
use crate::{Cell, Kind, Labels, NAME};

/// What a role keeps of one row of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rolled {
    /// Mean of the members, each weighed by its known steps.
    average: f64,
    /// Least of the members' least.
    min: f64,
    /// Greatest of the members' greatest.
    max: f64,
    /// Steps that somebody knew, as if no two members had been there at once; never more than the row has.
    known: u32,
    /// Members, one that knew half of the row's steps counting half.
    count: f64,
}

/// The two series that are made of one, by their labels.
pub(super) type Pair = [(Of, Labels); 2];

/// Which of the two series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Average,
    Count,
}

impl Rolled {
    /// Nobody was there.
    pub(super) const NONE: Self =
        Self { average: f64::NAN, min: f64::NAN, max: f64::NAN, known: 0, count: 0.0 };

    /// The row as the two series of the role have it.
    pub(super) const fn of(average: &Run, count: &Run) -> Self {
        if average.known == 0 || count.known == 0 {
            return Self::NONE;
        }
        let Run { average, min, max, known, .. } = *average;
        Self { average, min, max, known, count: count.average }
    }

    /// Adds the row of a member, which has so many steps.
    pub(super) fn add(&mut self, row: &Run, steps: u32) {
        if row.known == 0 || row.average.is_nan() {
            return;
        }
        let weight = f64::from(row.known.min(steps)) / f64::from(steps.max(1));
        let count = self.count + weight;
        if self.known == 0 {
            (self.average, self.min, self.max) = (row.average, row.min, row.max);
        } else {
            self.average = (self.average * self.count + row.average * weight) / count;
            self.min = if row.min < self.min { row.min } else { self.min };
            self.max = if row.max > self.max { row.max } else { self.max };
        }
        self.known = self.known.saturating_add(row.known).min(steps);
        self.count = count;
    }

    /// As the cells of the mean and of the count keep it.
    pub(super) fn kept(self, [mean, count]: [Cell; 2]) -> Self {
        let [average, min, max] = [self.average, self.min, self.max].map(|value| mean.kept(value));
        Self { average, min, max, known: self.known, count: count.kept(self.count) }
    }

    /// The row of one of the two series. The finest archive keeps one number a row.
    pub(super) fn run(&self, of: Of, archive: usize, (row, steps): (i64, u32)) -> Run {
        let (average, min, max, known) = match of {
            _ if self.known == 0 => (f64::NAN, f64::NAN, f64::NAN, 0),
            Of::Average if archive == 0 => (self.average, self.average, self.average, 1),
            Of::Average => (self.average, self.min, self.max, self.known),
            // How many there were is known of the whole row, be it that they knew little.
            Of::Count => (self.count, self.count, self.count, steps),
        };
        let (last, reset) = (f64::NAN, false);
        Run { archive, first_row: row, count: 1, average, min, max, last, known, reset }
    }
}

/// What a role calls the two series that it makes of one of a member's; `None` for one without a name.
pub(super) fn named(labels: &Labels, kind: Kind) -> Option<Pair> {
    let metric = labels.metric()?;
    let prefix = if kind.is_counter() { "rate_" } else { "" };
    let named = |of, what: &str| (of, labels.with(NAME, &format!("role:{metric}:{prefix}{what}")));
    Some([named(Of::Average, "avg"), named(Of::Count, "count")])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(average: f64, min: f64, max: f64, known: u32) -> Run {
        let (archive, first_row, count, last, reset) = (1, 7, 1, f64::NAN, false);
        Run { archive, first_row, count, average, min, max, last, known, reset }
    }

    fn rolled(rows: &[Run]) -> Rolled {
        let mut all = Rolled::NONE;
        for row in rows {
            all.add(row, 60);
        }
        all
    }

    #[test]
    fn members_are_weighed_by_what_they_knew_and_extremes_are_theirs() {
        let whole = row(10.0, 1.0, 20.0, 60);
        for (rows, average, min, max, known, count) in [
            (vec![whole], 10.0, 1.0, 20.0, 60, 1.0),
            (vec![whole, row(40.0, 30.0, 50.0, 60)], 25.0, 1.0, 50.0, 60, 2.0),
            (vec![whole, row(40.0, 0.5, 50.0, 30)], 20.0, 0.5, 50.0, 60, 1.5),
            // One after the other: together they knew half of the row.
            (vec![row(4.0, 4.0, 4.0, 15), row(8.0, 8.0, 8.0, 15)], 6.0, 4.0, 8.0, 30, 0.5),
            (vec![row(-4.0, -9.0, 0.0, 15), row(4.0, 0.0, 9.0, 15)], 0.0, -9.0, 9.0, 30, 0.5),
            (vec![row(f64::NAN, f64::NAN, f64::NAN, 0), whole], 10.0, 1.0, 20.0, 60, 1.0),
        ] {
            let all = Rolled { average, min, max, known, count };
            assert_eq!(rolled(&rows), all, "{rows:?}");
        }
        assert!(rolled(&[]).run(Of::Count, 1, (7, 60)).average.is_nan(), "nobody is no zero");
    }

    #[test]
    fn what_was_kept_goes_on_as_if_it_had_never_been_written() {
        let rows = [row(0.1, 0.0, 0.3, 7), row(0.7, 0.2, 0.9, 60), row(1e9, 3.0, 2e9, 59)];
        let mut kept = Rolled::NONE;
        for row in &rows {
            let [average, count] = [Of::Average, Of::Count].map(|of| kept.run(of, 1, (7, 60)));
            kept = Rolled::of(&average, &count);
            kept.add(row, 60);
        }
        assert_eq!(kept, rolled(&rows));
    }

    #[test]
    fn the_sum_is_mean_times_count() {
        let all = rolled(&[row(3.0, 3.0, 3.0, 60), row(5.0, 5.0, 5.0, 15)]);
        let [average, count] = [Of::Average, Of::Count].map(|of| all.run(of, 1, (7, 60)).average);
        // 3 all the time, and 5 for a quarter of it.
        assert!((average * count - 4.25).abs() < 1e-12, "{average} x {count}");
    }

    #[test]
    fn a_role_names_its_series_as_recording_rules_are_named() {
        let labels = Labels::from_pairs([(NAME, "cpu"), ("mode", "idle")]).unwrap();
        let names = |kind| named(&labels, kind).unwrap().map(|(_, labels)| labels.to_string());
        let gauge = names(Kind::Gauge);
        assert!(gauge[0].contains("role:cpu:avg") && gauge[0].contains("idle"), "{gauge:?}");
        assert!(gauge[1].contains("role:cpu:count"), "{gauge:?}");
        let total = names(Kind::Total);
        assert!(total[0].contains("role:cpu:rate_avg"), "{total:?}");
        assert!(total[1].contains("role:cpu:rate_count"), "{total:?}");
        assert_eq!(named(&Labels::default(), Kind::Gauge), None);
    }
}
