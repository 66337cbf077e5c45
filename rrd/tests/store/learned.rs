//! Heartbeats that are learned: a sender that comes seldom and regularly is known, the others stay as they are.

use rrd::{Batch, Change, MemDisk, Policy, Sample, SampleFrame};

use crate::world::{Frame, WEB, World, dump, gauge, secs};

const POLICY: &str = "1m:2d,10m:14d";

/// A world in which a relay sends for the instance: its batches have no numbers.
fn relayed(policy: &str, series: &[&str]) -> World {
    let mut world = World::new(policy);
    let series: Vec<_> = series.iter().map(|name| gauge(name)).collect();
    world.grant(&series).unwrap();
    world
}

fn send(world: &mut World, series: &str, at: i64) {
    let sample = Sample { column: world.column(series), at: secs(at), value: 1.0 };
    world.now = world.now.max(secs(at));
    let batch = Batch::default();
    world.append(Frame::Samples(SampleFrame { instance: WEB, batch, samples: vec![sample] }));
}

fn heartbeat_s(world: &World, series: &str) -> Option<u64> {
    let column = world.column(series);
    let found = world.store.select(&[]).into_iter().find(|one| one.series.column == column);
    found.and_then(|one| one.visible_ms).map(|ms| ms / 1000)
}

#[test]
fn what_comes_every_ten_minutes_is_known_from_its_fourth_reading_on() {
    let mut world = relayed(POLICY, &["slow"]);
    for n in 1..=6 {
        send(&mut world, "slow", n * 600);
        let wanted = if n < 4 { 300 } else { 1800 };
        assert_eq!(heartbeat_s(&world, "slow"), Some(wanted), "reading {n}");
    }
    let known = world.rows("slow", 1, 0, 3600).known;
    assert_eq!(known, [1, 0, 0, 10, 10, 10]);
    let fine = world.rows("slow", 0, 1800, 3600);
    assert!(fine.average.iter().all(|value| *value == 1.0), "{:?}", fine.average);
}

#[test]
fn what_is_learned_outlasts_rounds_restarts_and_power_cuts() {
    for written_after in 0..9 {
        let mut world = relayed(POLICY, &["slow", "fast", "odd"]);
        let mut learned = String::new();
        for n in 1..=8 {
            send(&mut world, "slow", n * 600);
            for minute in 1..=9 {
                send(&mut world, "fast", n * 600 + minute * 60);
            }
            send(&mut world, "odd", n * 600 + n % 2 * 300);
            if n == written_after {
                world.round();
            }
            learned = dump(&world.store);
        }
        for disk in [world.disk.kill(), world.disk.crash(1), world.disk.crash(2)] {
            let (found, damage) = world.restarted(disk);
            assert_eq!(damage, []);
            assert_eq!(dump(&found.store), learned, "a round after reading {written_after}");
            let heartbeats = ["slow", "fast", "odd"].map(|name| heartbeat_s(&found, name));
            assert_eq!(heartbeats, [Some(1800), Some(300), Some(300)]);
            world = found;
        }
        world.round();
        let disk: MemDisk = world.disk.kill();
        let (mut found, _) = world.restarted(disk);
        assert_eq!(heartbeat_s(&found, "slow"), Some(1800), "as the catalogue has it");
        found.change(Change::Policy(Policy::parse("1m:3d,30m:30d").unwrap())).unwrap();
        assert_eq!(heartbeat_s(&found, "slow"), Some(1800));
        assert_eq!(found.round().failed, []);
        found.change(Change::Policy(Policy::parse("1m:3d;hb=7m").unwrap())).unwrap();
        assert_eq!(heartbeat_s(&found, "slow"), Some(420));
    }
}

#[test]
fn our_agents_and_policies_that_name_a_heartbeat_teach_nothing() {
    let mut native = relayed(POLICY, &["slow"]);
    let mut named = relayed("1m:2d,10m:14d;hb=5m", &["slow"]);
    for n in 1..=8 {
        native.push(&[("slow", n * 600, 1.0)]);
        send(&mut named, "slow", n * 600);
    }
    assert_eq!([heartbeat_s(&native, "slow"), heartbeat_s(&named, "slow")], [Some(300); 2]);
}
