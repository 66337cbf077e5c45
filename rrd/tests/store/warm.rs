//! Rows that were read lately are in memory: they follow each change of the file, and outlive its rot.

use std::path::Path;

use rrd::{Change, Disk as _, Policy, Rows};

use crate::world::{World, gauge, open, shown};

const STEP: i64 = 10;
const STEPS: i64 = 80;

/// Five whole tiles are filed, and step 20 is unknown.
fn filled() -> World {
    filled_until(STEPS + 1)
}

fn filled_until(newest: i64) -> World {
    let mut world = World::new("10s:1h,1m:5h;hb=15s;f64");
    world.grant(&[gauge("load")]).unwrap();
    for step in (1..=newest).filter(|&step| step != 20) {
        world.push(&[("load", step * STEP, step as f64)]);
    }
    world.round();
    world
}

/// As a query reads that comes again, all steps but the newest.
fn rows(world: &World) -> Rows {
    let read = || world.rows("load", 0, 0, STEPS * STEP);
    assert_eq!(shown(&read().average), shown(&read().average));
    read()
}

fn step_20(world: &World) -> f64 {
    let rows = rows(world);
    assert_eq!(rows.average[..18], (1..=18).map(f64::from).collect::<Vec<_>>());
    assert_eq!(rows.average[30..], (31..=STEPS).map(|step| step as f64).collect::<Vec<_>>());
    rows.average[19]
}

#[test]
fn what_is_read_once_is_not_kept_and_what_is_read_again_is() {
    let world = filled();
    let read = || world.rows("load", 0, 0, STEPS * STEP);
    let first = read();
    assert_eq!(world.store.warm_bytes(), 0);
    let second = read();
    let bytes = world.store.warm_bytes();
    assert!(bytes >= 80 * 8, "{bytes}");
    assert_eq!(shown(&first.average), shown(&second.average));
    assert_eq!(shown(&read().average), shown(&second.average));
    assert_eq!(world.store.warm_bytes(), bytes);
}

#[test]
fn rows_read_before_a_late_reading_do_not_hide_it() {
    let mut world = filled();
    assert!(step_20(&world).is_nan());
    assert!(world.store.warm_bytes() >= 80 * 8, "{} bytes", world.store.warm_bytes());
    world.push(&[("load", 20 * STEP, 5.0)]);
    assert_eq!(step_20(&world), 5.0, "it waits");
    for round in 1..3 {
        world.round();
        assert_eq!(step_20(&world), 5.0, "after round {round}");
        assert_eq!(step_20(&world), 5.0, "once more");
    }
    // A round that fails takes back what it has changed.
    world.push(&[("load", 21 * STEP, 6.0)]);
    world.disk.fail_sync(World::file_path());
    world.push(&[("load", (STEPS + 2) * STEP, 1.0)]);
    assert_eq!(world.round().failed.len(), 1);
    assert_eq!(step_20(&world), 5.0, "after a round that failed");
    world.disk.heal();
    world.round();
    assert_eq!(step_20(&world), 5.0, "after it was done again");
}

#[test]
fn rows_of_former_archives_are_not_taken_for_those_of_new_ones() {
    let mut world = filled();
    let minutes = |world: &World, archive| world.rows("load", archive, 300, 600).average;
    let before = minutes(&world, 1);
    assert_eq!((rows(&world).len(), before.len()), (80, 5));
    world.change(Change::Policy(Policy::parse("10s:1h,30s:1h,1m:5h;hb=15s;f64").unwrap())).unwrap();
    for round in 0..3 {
        assert_eq!(rows(&world).average[30..], filled_rows(), "round {round}");
        assert_eq!((minutes(&world, 2), minutes(&world, 1).len()), (before.clone(), 10));
        world.push(&[("load", (STEPS + 2 + round) * STEP, 1.0)]);
        world.round();
    }
}

#[test]
fn whole_tiles_of_former_archives_are_not_those_of_new_ones_in_their_places() {
    let mut world = filled_until(301);
    let read = || world.rows("load", 1, 0, 2880);
    assert_eq!(shown(&read().average), shown(&read().average));
    let minutes = read();
    let of_minutes = (0..48).map(|minute| f64::from(6 * minute) + 3.5);
    assert_eq!(minutes.average[4..], of_minutes.skip(4).collect::<Vec<_>>());
    assert!(world.store.warm_bytes() > 0, "tiles of minutes are in memory");
    world.change(Change::Policy(Policy::parse("10s:1h,30s:1h,1m:5h;hb=15s;f64").unwrap())).unwrap();
    let of_halves: Vec<_> = (20..44).map(|half| f64::from(3 * half) + 2.0).collect();
    for round in 0..3 {
        // Parts of tiles 1 and 2; of the minutes both are in memory as a whole.
        let halves = world.rows("load", 1, 20 * 30, 44 * 30);
        assert_eq!(halves.average, of_halves, "round {round}");
        world.push(&[("load", (302 + round) * STEP, 1.0)]);
        world.round();
    }
}

fn filled_rows() -> Vec<f64> {
    (31..=STEPS).map(|step| step as f64).collect()
}

#[test]
fn what_was_read_whole_stays_right_when_the_file_rots() {
    let world = filled();
    let before = rows(&world);
    let file = world.disk.open(Path::new(&World::file_path())).unwrap();
    let len = usize::try_from(file.len().unwrap()).unwrap();
    file.write_at(&vec![0x55; len - 20_480 - 1024], 20_480 + 1024).unwrap();
    let after = rows(&world);
    // The first tile began before the series, and the last one is open: both are read each time.
    for (index, (&was, &is)) in before.average.iter().zip(&after.average).enumerate() {
        let is_whole = (15..79).contains(&index);
        assert!(is.to_bits() == was.to_bits() || is.is_nan() && !is_whole, "row {index}: {is}");
    }
    // Others read the file.
    let mut text = String::new();
    world.store.canonical_dump(&mut text).unwrap();
    assert!(!world.store.damage().is_empty(), "a copy of all rows noticed nothing");
    let (again, damage) = open(&world.disk, world.seq());
    let known = |rows: Rows| rows.average.iter().filter(|value| !value.is_nan()).count();
    let column = world.column("load");
    let series = rrd::SeriesRef { instance: crate::world::WEB, column };
    let found = again.rows(series, 0, crate::world::span(0, STEPS * STEP));
    assert!(known(found) == 0 && (!damage.is_empty() || !again.damage().is_empty()));
}
