//! Counters: their counts come back from rates and from what was kept of their readings.

use std::num::NonZeroU32;

use fixtures::dice::{Dice, told};
use rrd::{Anchor, Change, Kind, NewSeries, Policy, RowParts, Rows, RowsWanted, SeriesRef, Step};

use crate::world::{WEB, World, dump, gauge, name, secs, shown, span};

fn count(text: &str, kind: Kind) -> NewSeries {
    NewSeries { labels: name(text), kind, first_reading: None }
}

fn total(text: &str) -> NewSeries {
    count(text, Kind::Total)
}

/// Counts at the ENDs of the finest rows.
fn counts(world: &World, series: &str, start: i64, end: i64) -> (Rows, Vec<f64>) {
    let rows = world.rows(series, 0, start, end);
    let counts = rows.counts(Step::from_secs(10).unwrap(), 1);
    assert_eq!(counts.len(), rows.len());
    (rows, counts)
}

fn restarted(world: World) -> World {
    let disk = world.disk.clone();
    let (world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    world
}

/// Resets as text, beside the averages: `1 -! 2`.
fn with_resets(rows: &Rows) -> String {
    let averages = shown(&rows.average);
    let marked = averages.split(' ').zip(&rows.resets);
    let one = |(text, reset): (&str, &bool)| format!("{text}{}", if *reset { "!" } else { "" });
    marked.map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_reset_is_seen_while_it_waits_from_the_file_and_after_a_restart() {
    let mut world = World::new("10s:5m,30s:20m;hb=30s");
    world.grant(&[total("t"), gauge("g")]).unwrap();
    world.push(&[("t", 10, 90.0), ("t", 20, 100.0), ("t", 30, 5.0), ("t", 40, 15.0)]);
    world.push(&[("t", 42, 1.0), ("t", 50, 9.0), ("t", 60, 19.0), ("t", 70, 29.0)]);
    world.push(&[("t", 80, 39.0), ("t", 90, 49.0)]);
    let expect = |world: &World| {
        assert_eq!(with_resets(&world.rows("t", 0, 0, 90)), "- 1 -! 1 1! 1 1 1 1");
        let coarse = world.rows("t", 1, 0, 90);
        // A third of the first row is known, too little to be shown; that it holds a reset is.
        assert_eq!(with_resets(&coarse), "-! 1! 1");
        assert_eq!((shown(&coarse.min), shown(&coarse.max)), ("- 1 1".into(), "- 1 1".into()));
        let fine = world.rows("t", 0, 0, 90);
        for column in [&fine.average, &fine.min, &fine.max] {
            assert!(column.iter().all(|rate| rate.is_nan() || rate.is_sign_positive()));
        }
        // Who asks for averages alone sees no signs.
        let series = SeriesRef { instance: WEB, column: world.column("t") };
        let mut rows = Rows::default();
        let (archive, span) = (0, span(0, 90));
        let (parts, every) = (RowParts::Averages, NonZeroU32::MIN);
        world.store.rows_into(&mut rows, RowsWanted { series, archive, span, parts, every });
        assert_eq!(shown(&rows.average), "- 1 - 1 1 1 1 1 1");
        assert!(rows.average.iter().all(|rate| rate.is_nan() || rate.is_sign_positive()));
        assert!(rows.resets.is_empty() && rows.anchors.is_empty());
    };
    expect(&world);
    world.round();
    expect(&world);
    let world = restarted(world);
    expect(&world);
    assert_eq!(world.store.damage(), []);
}

#[test]
fn a_gauge_keeps_its_sign_and_has_neither_resets_nor_anchors() {
    let mut world = World::new("10s:5m,30s:20m;hb=30s");
    world.grant(&[gauge("g"), count("u", Kind::Unknown), count("d", Kind::DDerive)]).unwrap();
    for (at, value) in [(10, -1.0), (20, -0.0), (30, -f64::NAN), (40, -4.0), (50, -5.0), (60, -6.0)]
    {
        world.push(&[("g", at, value), ("u", at, value), ("d", at, value * at as f64)]);
    }
    for act in 0..3 {
        for (series, fine, coarse) in
            [("g", "-1 -0 - -4 -5 -6", "-0.5 -5"), ("u", "-1 -0 - -4 -5 -6", "-0.5 -5")]
        {
            let (rows, above) = (world.rows(series, 0, 0, 60), world.rows(series, 1, 0, 60));
            assert_eq!(
                (shown(&rows.average).as_str(), shown(&above.average).as_str()),
                (fine, coarse)
            );
            assert!(rows.resets.is_empty() && above.resets.is_empty(), "{series}");
            assert!(rows.anchors.is_empty() && above.anchors.is_empty(), "{series}");
        }
        let falling = world.rows("d", 0, 0, 60);
        assert_eq!(shown(&falling.average), "- 1 - - -9 -11");
        assert!(falling.resets.is_empty() && !falling.anchors.is_empty());
        match act {
            0 => drop(world.round()),
            _ => world = restarted(world),
        }
    }
}

/// A regular counter of this much per second in step n, read at each END.
fn rate(step: i64) -> f64 {
    (step * 7919 % 1000) as f64 * 1e3 + 0.1
}

#[test]
fn a_count_comes_back_at_every_end_whatever_rounds_restarts_and_laps_there_were() {
    // 30 minutes are 180 rows: laps of the rows and, five runs of 64 steps, of the anchors.
    let mut world = World::new("10s:30m,1m:2h;hb=30s");
    world.grant(&[gauge("first"), total("t"), gauge("other")]).unwrap();
    let mut truth = vec![0.0; 1501];
    for step in 1..=1500_i64 {
        let before = truth[usize::try_from(step - 1).unwrap()];
        let now = before + rate(step) * 10.0;
        truth[usize::try_from(step).unwrap()] = now;
        world.push(&[("t", step * 10, now), ("other", step * 10, 1.0)]);
        match step % 41 {
            7 | 30 => drop(world.round()),
            19 => world = restarted(world),
            _ => {}
        }
        if step % 13 != 0 {
            continue;
        }
        let (rows, counts) = counts(&world, "t", 0, i64::MAX / 1000);
        assert!(i64::try_from(rows.len()) == Ok(step.min(180)), "after step {step}");
        let first = rows.first_end.as_millis() / 10_000;
        for (n, (&got, average)) in (first..).zip(counts.iter().zip(&rows.average)) {
            let want = truth[usize::try_from(n).unwrap()];
            if n == 1 {
                assert!(average.is_nan());
            }
            // What was added since the nearest anchor, at most 64 steps away, is exact to f32.
            let bound = 64.0 * 10.0 * 1e6 * 2_f64.powi(-24);
            assert!((got - want).abs() <= bound, "step {n} after {step}: {got}, not {want}");
        }
        assert!(rows.anchors.len() <= 6, "{}", rows.anchors.len());
    }
    assert_eq!(world.store.damage(), []);
}

#[test]
fn scrapes_between_boundaries_give_the_count_that_lies_between_them() {
    let mut world = World::new("10s:1h;hb=1m;f64");
    world.grant(&[total("t")]).unwrap();
    // Every 7 s, at changing rates: between two readings the count rises evenly.
    let (mut at, mut now, mut truth) = (3, 0.0, vec![(3, 0.0)]);
    while at < 2000 {
        at += 7;
        now += ((at * 31) % 17) as f64 * 3.5;
        truth.push((at, now));
    }
    for &(at, now) in &truth {
        world.push(&[("t", at, now)]);
        if at % 5 == 0 {
            world.round();
        }
    }
    let world = restarted(world);
    let (rows, counts) = counts(&world, "t", 0, 2000);
    for (n, got) in (rows.first_end.as_millis() / 10_000..).zip(counts).skip(1) {
        let end = n * 10;
        let later = truth.partition_point(|&(at, _)| at < end);
        let ((t0, c0), (t1, c1)) = (truth[later - 1], truth[later]);
        let want = c0 + (c1 - c0) * (end - t0) as f64 / (t1 - t0) as f64;
        assert!((got - want).abs() < 1e-6, "at {end}: {got}, not {want}");
    }
}

#[test]
fn nothing_is_counted_across_a_gap_or_a_reset_and_all_on_either_side_is() {
    let mut world = World::new("10s:2h;hb=30s");
    world.grant(&[total("t")]).unwrap();
    let mut now = 1000.0;
    for step in 1..=300 {
        now = if step == 150 { 3.0 } else { now + 10.0 };
        // No reading between 80 and 90: longer than the heartbeat.
        if !(80..90).contains(&step) {
            world.push(&[("t", step * 10, now)]);
        }
        if step == 200 {
            world.push(&[("t", step * 10 + 1, f64::NAN)]);
        }
    }
    for act in 0..3 {
        let (rows, counts) = counts(&world, "t", 0, 3000);
        let (first, mut now) = (rows.first_end.as_millis() / 10_000, 1000.0);
        for (step, got) in (first..).zip(&counts) {
            now = if step == 150 { 3.0 } else { now + 10.0 };
            let want = if (80..90).contains(&step) { f64::NAN } else { now };
            let same = (*got - want).abs() < 0.01 || (got.is_nan() && want.is_nan());
            assert!(same, "step {step}: {got}, not {want}");
        }
        assert_eq!(rows.resets.iter().filter(|&&is_reset| is_reset).count(), 1);
        match act {
            0 => drop(world.round()),
            _ => world = restarted(world),
        }
    }
}

#[test]
fn the_newest_count_is_known_where_the_last_reading_is_within_a_step() {
    let mut world = World::new("10s:2h;hb=30s");
    world.grant(&[total("t"), count("whole", Kind::Counter)]).unwrap();
    for at in [10, 20, 30, 36] {
        world.push(&[("t", at, at as f64 * 2.0), ("whole", at, at as f64 * 2.0)]);
    }
    for series in ["t", "whole"] {
        let rows = world.rows(series, 0, 0, 1000);
        assert_eq!(rows.anchors, [Anchor { at: secs(30), reading: 60.0 }], "{series}");
        assert_eq!(counts(&world, series, 0, 1000).1, [20.0, 40.0, 60.0], "{series}");
    }
    world.push(&[("t", 38, f64::NAN)]);
    let rows = world.rows("t", 0, 0, 1000);
    assert_eq!(rows.anchors, [Anchor { at: secs(36), reading: 72.0 }], "a marker keeps the last");
}

#[test]
fn other_archives_take_over_resets_and_anchors() {
    let mut world = World::new("10s:30m,1m:2h;hb=30s");
    world.grant(&[total("t"), gauge("g")]).unwrap();
    let push = |world: &mut World, steps: std::ops::RangeInclusive<i64>| {
        for step in steps {
            let now = if step >= 170 { step as f64 - 169.0 } else { step as f64 * 2.0 };
            world.push(&[("t", step * 10, now)]);
        }
    };
    push(&mut world, 1..=100);
    world.round();
    push(&mut world, 101..=200);
    let numbers = |world: &World| {
        let (rows, counts) = counts(world, "t", 1000, 2000);
        let shown = (rows.first_end, with_resets(&rows), shown(&counts));
        (shown, rows.anchors, with_resets(&world.rows("t", 1, 0, 2000)))
    };
    let before = numbers(&world);
    assert!(before.0.1.contains('!') && before.2.contains('!'), "{before:?}");
    assert!(before.1.len() >= 3, "{before:?}");
    let policy = Policy::parse("10s:40m,1m:1h,5m:3h;hb=30s").unwrap();
    world.change(Change::Policy(policy)).unwrap();
    let five_minutes = |world: &World| {
        let rows = world.rows("t", 2, 0, 2000);
        let resets: Vec<usize> =
            rows.resets.iter().enumerate().filter(|(_, is)| **is).map(|(n, _)| n).collect();
        (rows.len(), resets)
    };
    // Step 170 is second 1700, in the row from 1500 to 1800.
    for _ in 0..3 {
        assert_eq!(numbers(&world), before);
        assert_eq!(five_minutes(&world), (6, vec![5]));
        world.round();
    }
    world = restarted(world);
    assert_eq!(numbers(&world), before);
    assert_eq!(five_minutes(&world), (6, vec![5]));
    push(&mut world, 201..=260);
    world.round();
    let text = dump(&world.store);
    world = restarted(world);
    assert_eq!(dump(&world.store), text);
    assert_eq!(world.store.damage(), []);
}

#[test]
fn a_new_tenant_sees_no_anchor_of_the_former() {
    let mut world = World::new("10s:30m;hb=30s");
    world.grant(&[total("old"), total("other")]).unwrap();
    for step in 1..=140 {
        world.push(&[("old", step * 10, step as f64), ("other", step * 10, step as f64)]);
    }
    world.round();
    let column = world.column("old");
    world.change(Change::Drop(vec![column])).unwrap();
    world.round();
    assert_eq!(world.grant(&[total("new")]).unwrap()[0].index, column.index);
    for step in 141..=145 {
        world.push(&[("new", step * 10, step as f64), ("other", step * 10, step as f64)]);
    }
    for _ in 0..2 {
        let rows = world.rows("new", 0, 0, 10_000);
        assert_eq!(rows.anchors, [Anchor { at: secs(1450), reading: 145.0 }]);
        assert_eq!(world.rows("other", 0, 0, 10_000).anchors.len(), 3);
        world.round();
    }
}

#[test]
fn random_counters_are_never_rebuilt_wrongly() {
    let (mut rebuilt, mut all) = (0, 0);
    for seed in told().map_or(0..60, |seed| seed..seed + 1) {
        let mut dice = Dice::new(seed);
        let mut world = World::new("10s:25m,1m:2h;hb=40s");
        world.grant(&[total("t")]).unwrap();
        let (mut now, mut truth) = (0.0, std::collections::BTreeMap::new());
        for step in 1..=700_i64 {
            match dice.below(60) {
                0 => now = dice.below(50) as f64, // It began anew.
                1 => continue,                    // Not read.
                2 => drop(world.push(&[("t", step * 10 - 3, f64::NAN)])),
                3 => drop(world.round()),
                4 => world = restarted(world),
                5 => now += 1e7,
                _ => now += dice.below(1000) as f64,
            }
            world.push(&[("t", step * 10, now)]);
            truth.insert(step, now);
        }
        let (rows, counts) = counts(&world, "t", 0, 7000);
        for (step, got) in (rows.first_end.as_millis() / 10_000..).zip(counts) {
            let Some(want) = truth.get(&step).filter(|_| !got.is_nan()) else { continue };
            rebuilt += 1;
            let bound = 64.0 * 1e7 * 2_f64.powi(-24);
            assert!((got - want).abs() <= bound, "seed {seed}, step {step}: {got}, not {want}");
        }
        all += rows.len();
    }
    // Between two interruptions in one run of steps no reading is kept.
    assert!(rebuilt > all / 3, "{rebuilt} of {all}");
}
