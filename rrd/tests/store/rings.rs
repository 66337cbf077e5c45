//! Rings: they wrap, take gaps longer than themselves, and never grow.

use rrd::{Cell, Column, GrantFrame, GrantedSeries, Kind};

use crate::world::{Frame, WEB, World, gauge, name, shown};

#[test]
fn a_ring_keeps_its_newest_rows_and_nothing_of_the_previous_lap() {
    let mut world = World::new("10s:5m;hb=1m");
    world.grant(&[gauge("load")]).unwrap();
    for step in 1..=500_i64 {
        world.push(&[("load", step * 10, step as f64)]);
        if step % 7 == 0 {
            world.round();
        }
        let rows = world.rows("load", 0, 0, 10_000);
        let first = (step - 29).max(1);
        let expected: Vec<f64> = (first..=step).map(|v| v as f64).collect();
        assert_eq!(rows.average, expected, "after step {step}");
        assert_eq!(rows.first_end.as_millis(), first * 10_000);
    }
    assert_eq!(world.store.damage(), []);
}

#[test]
fn a_gap_is_unknown_whether_shorter_or_longer_than_the_ring() {
    for (gap_steps, policy) in
        [(20, "10s:5m;hb=1m"), (100, "10s:5m;hb=1m"), (100_000, "10s:5m,1m:20m;hb=1m")]
    {
        let mut world = World::new(policy);
        world.grant(&[gauge("load")]).unwrap();
        for step in 1..=40 {
            world.push(&[("load", step * 10, 7.0)]);
        }
        world.round();
        let resumed = 40 + gap_steps;
        world.push(&[("load", resumed * 10, 1.0), ("load", (resumed + 1) * 10, 2.0)]);
        let expect = |world: &World| {
            let rows = world.rows("load", 0, 0, (resumed + 1) * 10);
            let mut known: Vec<f64> = rows.average.clone();
            known.retain(|v| !v.is_nan());
            let before = usize::try_from(30 - (gap_steps + 1)).unwrap_or(0);
            assert_eq!(rows.len(), 30, "gap of {gap_steps}");
            assert_eq!(known.iter().filter(|&&v| v == 7.0).count(), before);
            assert_eq!(known.last(), Some(&2.0));
            assert!(known.len() <= before + 2);
        };
        expect(&world);
        world.round();
        expect(&world);
        let disk = world.disk.clone();
        let (world, damage) = world.restarted(disk);
        assert_eq!(damage, []);
        expect(&world);
        assert_eq!(world.store.damage(), []);
    }
}

#[test]
fn a_file_has_the_same_length_all_year() {
    let mut world = World::new("1h:2d,1d:30d;hb=3h");
    world.grant(&[gauge("load"), gauge("temp")]).unwrap();
    let len = world.file_len();
    for hour in 1..=365 * 24 {
        world.push(&[("load", hour * 3600, 1.0), ("temp", hour * 3600, (hour % 24) as f64)]);
        if hour % 11 == 0 {
            world.round();
            assert_eq!(world.file_len(), len);
        }
    }
    assert_eq!(world.rows("temp", 1, 0, i64::MAX / 1000).len(), 30);
    assert!(world.rows("temp", 1, 0, i64::MAX / 1000).average.iter().all(|&v| v == 11.5));
    assert_eq!(world.store.damage(), []);
}

#[test]
fn a_new_tenant_never_sees_the_rows_of_the_former() {
    let mut world = World::new("10s:5m,1m:20m;hb=1m");
    world.grant(&[gauge("old"), gauge("other")]).unwrap();
    let column = world.column("old");
    for step in 1..=29 {
        world.push(&[("old", step * 10, 7.0), ("other", step * 10, 3.0)]);
    }
    world.round();
    world.push(&[("old", 300, 7.0)]); // Waiting when the column changes hands.
    let granted = GrantedSeries {
        column: Column { index: column.index, generation: 2 },
        labels: name("new"),
        kind: Kind::Gauge,
        heartbeat_ms: 60_000,
        cell: Cell::F32,
        min: f64::NAN,
        max: f64::NAN,
    };
    let frame = GrantFrame {
        instance: WEB,
        policy: world.policy.clone(),
        labels: rrd::Labels::default(),
        series: vec![granted],
    };
    world.append(Frame::Grant(frame));
    assert_eq!(world.store.resolve(WEB, &name("old").to_key()), None);
    assert!(world.rows("new", 0, 0, 1000).is_empty());
    world.push(&[("new", 305, 1.0), ("new", 310, 1.0), ("other", 310, 3.0)]);
    for _ in 0..2 {
        assert_eq!(world.averages("new", 0, 0, 1000), "1");
        assert!(world.averages("other", 0, 200, 1000).starts_with("3 3 3"));
        world.round();
    }
    let disk = world.disk.clone();
    let (world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    assert_eq!(world.averages("new", 0, 0, 1000), "1");
    assert_eq!(world.store.damage(), []);
}

#[test]
fn the_newest_step_of_a_row_is_kept_where_the_policy_says_so() {
    let mut world = World::new("10s:3m,30s:20m;hb=30s;last");
    world.grant(&[gauge("a")]).unwrap();
    let readings: Vec<_> = (1..=6).map(|n| ("a", n * 10, n as f64)).collect();
    world.push(&readings);
    world.push(&[("a", 80, 8.0), ("a", 90, f64::NAN)]);
    let shown_last = |world: &World| shown(&world.rows("a", 1, 0, 90).last);
    assert_eq!(shown_last(&world), "3 6 -");
    assert!(world.round().failed.is_empty());
    assert_eq!(shown_last(&world), "3 6 -");
    assert_eq!(world.averages("a", 1, 0, 90), "2 5 8");
    let disk = world.disk.clone();
    let (world, damage) = world.restarted(disk);
    assert_eq!((damage.len(), shown_last(&world).as_str()), (0, "3 6 -"));
}
