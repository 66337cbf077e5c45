//! A series' life on the server: how it begins, falls silent, ends and goes on.

use super::open::OpenError;
use super::timeline::{Timeline, archives, definition, gauge, is_close};
use super::{Open, Verdict};
use crate::{Kind, Timestamp};

fn minutes(definition: super::Definition) -> Timeline {
    Timeline::unborn(definition, archives(60_000, &[5]))
}

#[track_caller]
fn rows_are(timeline: &Timeline, archive: usize, want: &[(i64, f64)]) {
    let got = timeline.averages(archive);
    let same = got.len() == want.len()
        && got.iter().zip(want).all(|(got, want)| got.0 == want.0 && is_close(got.1, want.1));
    assert!(same, "{got:?}, not {want:?}");
}

const U: f64 = f64::NAN;
const NO: f64 = f64::NAN;

#[test]
fn a_first_gauge_covers_at_most_one_step() {
    for (at, begins) in [(600, 540), (601, 600), (659, 600)] {
        let mut series = minutes(gauge(300));
        assert_eq!(series.at(at, 7.0), Verdict::Stored);
        assert_eq!(series.open.birth, Timestamp::from_secs(begins), "first reading at {at}");
        series.at(700, 9.0);
        let first = series.averages(0)[0];
        assert_eq!(first.0, begins + 60);
    }
}

#[test]
fn a_first_count_only_primes() {
    let mut series = minutes(definition(Kind::Total, 300));
    for (at, count) in [(600, 1000.0), (660, 1060.0), (720, 1180.0)] {
        series.at(at, count);
    }
    rows_are(&series, 0, &[(600, NO), (660, 1.0), (720, 2.0)]);
}

#[test]
fn a_marker_begins_nothing() {
    let mut series = minutes(gauge(300));
    assert_eq!(series.at(600, U), Verdict::Duplicate);
    assert!(series.open.is_unborn());
}

#[test]
fn four_scrapes_become_one_step() {
    let mut series = minutes(gauge(300));
    for (at, value) in [(615, 1.0), (630, 2.0), (645, 3.0), (660, 4.0)] {
        series.at(at, value);
    }
    rows_are(&series, 0, &[(660, 2.5)]);
}

#[test]
fn a_marker_ends_a_series_until_its_next_reading() {
    let mut series = minutes(gauge(300));
    series.at(600, 1.0);
    assert!(!series.open.is_ended());
    series.at(675, U);
    assert!(series.open.is_ended());
    rows_are(&series, 0, &[(600, 1.0), (660, NO)]);
    assert_eq!(series.at(630, U), Verdict::Duplicate, "an older marker is ignored");
    series.at(720, 3.0);
    assert!(!series.open.is_ended());
    rows_are(&series, 0, &[(600, 1.0), (660, NO), (720, 3.0)]);
}

#[test]
fn silence_closes_the_open_step_as_its_readings_say() {
    let mut series = minutes(gauge(300));
    series.at(660, 1.0);
    series.at(690, 5.0);
    series.silence(990);
    rows_are(&series, 0, &[(660, 1.0)]);
    series.silence(991);
    rows_are(&series, 0, &[(660, 1.0), (720, 5.0)]);
    series.silence(5000);
    rows_are(&series, 0, &[(660, 1.0), (720, 5.0)]);
}

#[test]
fn silence_leaves_a_step_unknown_of_which_more_than_half_is() {
    let mut series = minutes(gauge(300));
    series.at(660, 1.0);
    series.at(689, 5.0);
    series.silence(1000);
    rows_are(&series, 0, &[(660, 1.0), (720, NO)]);
}

#[test]
fn silence_closes_no_step_without_a_reading() {
    let mut series = minutes(gauge(300));
    series.silence(1000);
    series.at(660, 1.0);
    series.silence(5000);
    rows_are(&series, 0, &[(660, 1.0)]);
}

#[test]
fn a_series_goes_on_after_silence() {
    let mut series = minutes(definition(Kind::Total, 300));
    series.at(660, 100.0);
    series.at(690, 130.0);
    series.silence(1000); // Its sender was cut off, and now sends what it kept.
    assert_eq!(series.at(705, 145.0), Verdict::Duplicate, "the step is closed and has readings");
    assert_eq!(series.at(750, 250.0), Verdict::Stored);
    assert_eq!(series.at(780, 310.0), Verdict::Stored);
    // 130 to 250 in 60 s are 2/s, of which the 30 s after the closed step count.
    rows_are(&series, 0, &[(660, NO), (720, 1.0), (780, 2.0)]);
}

#[test]
fn a_sender_with_a_slow_clock_is_not_silent() {
    let mut series = minutes(gauge(300));
    series.at(690, 1.0);
    series.open.hear(Timestamp::from_secs(2000));
    series.silence(2300);
    rows_are(&series, 0, &[]);
    series.silence(2301);
    rows_are(&series, 0, &[(720, 1.0)]);
}

#[test]
fn a_late_reading_is_told_from_a_repeated_one_for_128_steps() {
    let mut series = Timeline::unborn(gauge(300), archives(1000, &[]));
    series.at(1000, 1.0);
    series.at(1003, 1.0); // Two steps in between have no reading.
    for (at, verdict) in [
        (1003, Verdict::Duplicate),
        (1002, Verdict::Late),
        (1001, Verdict::Late),
        (1000, Verdict::Duplicate),
        (999, Verdict::Late),
    ] {
        assert_eq!(series.at(at, 9.0), verdict, "at {at}");
    }
    series.at(1126, 1.0);
    assert_eq!(series.at(1000, 1.0), Verdict::Duplicate);
    series.at(1127, 1.0);
    assert_eq!(series.at(1000, 1.0), Verdict::Late, "128 steps are remembered");
    assert_eq!(series.at(1003, 1.0), Verdict::Duplicate);
}

#[test]
fn a_gauge_keeps_every_bit_of_a_step_that_one_reading_covers() {
    let mut series = minutes(gauge(300));
    for (at, value) in [(60, 0.1), (120, -1.0e290), (180, f64::MIN_POSITIVE), (240, f64::INFINITY)]
    {
        series.at(at, value);
        let (_, got) = *series.averages(0).last().unwrap();
        assert_eq!(got.to_bits(), value.to_bits(), "{value}: {got}");
    }
}

#[test]
fn a_finite_rate_too_large_to_be_summed_is_unknown() {
    let mut series = minutes(gauge(300));
    for (at, value) in [(60, 1.0), (75, f64::MAX), (120, 3.0), (180, -f64::MAX)] {
        series.at(at, value);
    }
    rows_are(&series, 0, &[(60, 1.0), (120, 3.0), (180, NO)]);
}

#[test]
fn a_moment_beyond_reason_is_refused() {
    let mut series = minutes(gauge(300));
    for at in [i64::MAX, i64::MIN, 1 << 60] {
        assert_eq!(series.read(Timestamp::from_millis(at), 1.0), Verdict::Duplicate);
    }
    series.at(60, 1.0);
    for at in [i64::MAX, i64::MIN, 1 << 60, -(1 << 60)] {
        assert_eq!(series.read(Timestamp::from_millis(at), 1.0), Verdict::Late, "{at}");
    }
    rows_are(&series, 0, &[(60, 1.0)]);
}

#[test]
fn a_very_long_gap_is_one_run_an_archive() {
    let mut series = minutes(gauge(300));
    series.at(60, 1.0);
    let mut runs = Vec::new();
    let Timeline { definition, archives, open, .. } = &mut series;
    let later = Timestamp::from_secs(60 * 1_000_000_000);
    super::apply(definition, archives, open, later, 1.0, &mut |run| runs.push(run));
    // The step after the reading and the rest; the begun row of five and the rest.
    let counts: Vec<(usize, u64)> = runs.iter().map(|run| (run.archive, run.count)).collect();
    assert_eq!(counts, [(0, 1), (0, 999_999_998), (1, 1), (1, 199_999_999)]);
    assert!(open.agrees_with(archives));
}

#[test]
fn fractions_are_no_counts() {
    for kind in [Kind::Counter, Kind::Derive] {
        let mut series = minutes(definition(kind, 300));
        for (at, count) in [(60, 0.0), (120, 60.0), (180, 61.5), (240, 180.0), (300, 240.0)] {
            series.at(at, count);
        }
        rows_are(&series, 0, &[(60, NO), (120, 1.0), (180, NO), (240, NO), (300, 1.0)]);
    }
}

#[test]
fn large_counts_keep_their_last_digit() {
    for (kind, edge) in [
        (Kind::Counter, (1_i128 << 64) - 121),
        (Kind::Derive, (1 << 64) - 121),
        (Kind::Derive, -(1 << 64) + 1),
        (Kind::Derive, -60),
    ] {
        let mut series = minutes(definition(kind, 300));
        for (at, count) in [(60, edge), (120, edge + 60), (180, edge + 120)] {
            series.read_whole(Timestamp::from_secs(at), count);
        }
        rows_are(&series, 0, &[(60, NO), (120, 1.0), (180, 1.0)]);
    }
}

#[test]
fn bytes_that_are_no_open_end_are_refused() {
    let open = Open::unborn(3);
    let mut bytes = vec![0; Open::encoded_len(3)];
    open.encode(&mut bytes);
    assert_eq!(Open::decode(&bytes[1..]), Err(OpenError::Length(bytes.len() - 1)));
    assert_eq!(Open::decode(&[]), Err(OpenError::Length(0)));
    bytes[68] = 0x80;
    assert_eq!(Open::decode(&bytes), Err(OpenError::Flags(0x80)));
}

#[test]
fn stored_bytes_of_another_policy_are_noticed() {
    let mut series = minutes(gauge(300));
    series.at(700, 1.0);
    assert!(series.open.agrees_with(&archives(60_000, &[5])));
    assert!(!series.open.agrees_with(&archives(60_000, &[7])));
    assert!(!series.open.agrees_with(&archives(60_000, &[])));
    assert!(!series.open.agrees_with(&archives(1000, &[5])));
}

#[test]
fn a_fall_of_exactly_32_bits_is_a_wrap_of_32() {
    let mut series = minutes(definition(Kind::Counter, 300));
    for (at, count) in [(60, (1_i128 << 32) + 7), (120, 7), (180, 6)] {
        series.read_whole(Timestamp::from_secs(at), count);
    }
    rows_are(&series, 0, &[(60, NO), (120, 0.0), (180, 4_294_967_295.0 / 60.0)]);
}
