//! Readers that want each so many-th row get those rows, and no others, wherever they lie.

use std::num::NonZeroU32;

use rrd::{ArchiveSpec, Change, Policy, RowParts, Rows, RowsWanted, SeriesRef};

use crate::world::{WEB, World, gauge, shown, span};

const STEP: i64 = 10;

/// Each `every`th row of a span, and the same picked from all rows.
fn both(world: &World, (archive, start, end): (usize, i64, i64), every: NonZeroU32) -> [Rows; 2] {
    let series = SeriesRef { instance: WEB, column: world.column("load") };
    let found = world.store.select(&[]);
    let spec: ArchiveSpec = found[0].archives[archive];
    let read = |every| {
        let mut rows = Rows::default();
        let (span, parts) = (span(start, end), RowParts::Averages);
        world.store.rows_into(&mut rows, RowsWanted { series, archive, span, parts, every });
        rows
    };
    let mut picked = read(NonZeroU32::MIN);
    picked.thin(&spec, span(start, end).start(), every);
    [read(every), picked]
}

fn expect_the_same(world: &World, what: &str) {
    for archive in 0..2 {
        for (start, end) in [(0, 900), (0, 300), (130, 900), (470, 2000), (640, 650), (870, 880)] {
            for every in [1, 2, 3, 5, 7, 16, 17, 50, 300] {
                let every = NonZeroU32::new(every).unwrap();
                let [thin, picked] = both(world, (archive, start, end), every);
                let place = format!("{what}: archive {archive}, {start}-{end}, every {every}");
                assert_eq!(shown(&thin.average), shown(&picked.average), "{place}");
                assert_eq!(thin.known, picked.known, "{place}");
                if !thin.is_empty() {
                    assert_eq!(thin.first_end, picked.first_end, "{place}");
                }
            }
        }
    }
}

#[test]
fn each_so_many_th_row_is_that_row_wherever_it_lies() {
    let mut world = World::new("10s:10m,1m:5h;hb=15s");
    world.grant(&[gauge("load")]).unwrap();
    let push = |world: &mut World, steps: std::ops::RangeInclusive<i64>| {
        for step in steps.filter(|step| step % 11 != 0) {
            world.push(&[("load", step * STEP, step as f64)]);
        }
    };
    push(&mut world, 4..=40);
    expect_the_same(&world, "waiting");
    world.round();
    expect_the_same(&world, "filed");
    expect_the_same(&world, "kept in memory");
    push(&mut world, 41..=85);
    expect_the_same(&world, "filed and waiting, of a full ring");
    world.push(&[("load", 44 * STEP, 1e3)]);
    expect_the_same(&world, "with a late reading");
    world.change(Change::Policy(Policy::parse("10s:10m,30s:1h;hb=15s").unwrap())).unwrap();
    expect_the_same(&world, "of former archives");
    world.round();
    push(&mut world, 86..=90);
    expect_the_same(&world, "of new archives");
}
