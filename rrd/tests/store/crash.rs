//! The power goes at every single change of the disk; replay must bring everything back.

use std::collections::BTreeMap;

use rrd::{Cell, Column, GrantFrame, GrantedSeries, Kind, Labels, MemDisk, NewSeries};

use crate::world::{Frame, WEB, World, dump, gauge, name};

/// Small rings, so that a crash finds them in their first lap, wrapping and overrun.
const POLICY: &str = "10s:3m,1m:20m;hb=30s;last";

/// One thing that happens.
enum Act {
    Grant(Vec<NewSeries>),
    Push(Vec<(&'static str, i64, f64)>),
    Labels(&'static str),
    Goodbye,
    /// The column of this series goes to another.
    Reuse(&'static str, &'static str),
    Round,
    /// A round whose record the journal never got: it does not count.
    LostRound,
}

fn script() -> Vec<Act> {
    let mut acts = vec![
        Act::Grant(vec![
            gauge("a"),
            gauge("b"),
            NewSeries { labels: name("u"), kind: Kind::Unknown, first_reading: None },
        ]),
        Act::Push((1..=5).map(|n| ("a", n * 10, n as f64)).collect()),
        Act::Round,
        Act::Push((6..=20).flat_map(|n| [("a", n * 10, n as f64), ("u", n * 10, 0.1)]).collect()),
        Act::Labels("first"),
        Act::Round,
        Act::Grant((0..6).map(|n| gauge(&format!("more{n}"))).collect()),
        Act::Push(vec![
            ("more0", 215, 1.0),
            ("more5", 221, 2.0),
            ("b", 223, 5.0),
            ("a", 215, 21.0),
        ]),
        Act::Round,
        Act::Round,
        Act::Push(vec![("a", 216, 9.0), ("b", 233, 5.0), ("more5", 241, 2.0)]),
        Act::LostRound,
        Act::Grant(vec![gauge("after a lost round")]),
        // One round writes more rows than the rings have.
        Act::Push((22..=90).map(|n| ("a", n * 10, f64::from(i32::try_from(n).unwrap()))).collect()),
        Act::Round,
        Act::Reuse("b", "c"),
        Act::Push((91..=95).flat_map(|n| [("c", n * 10, -1.0), ("a", n * 10, 3.0)]).collect()),
        Act::Round,
        Act::Labels("second"),
        Act::Goodbye,
        Act::Push((96..=130).map(|n| ("c", n * 10, -2.0)).collect()),
        Act::LostRound,
        Act::Push(vec![("c", 1310, -3.0)]),
        Act::LostRound,
        // A gap longer than every ring.
        Act::Push(vec![("a", 90_000, 1.0), ("a", 90_010, 2.0), ("u", 90_010, f64::NAN)]),
        Act::Round,
    ];
    for n in 0..6 {
        acts.push(Act::Push((0..5).map(|k| ("a", 90_020 + n * 50 + k * 10, 4.0)).collect()));
        acts.push(Act::Round);
    }
    acts
}

impl Act {
    /// False when the disk failed: the power is off.
    fn perform(&self, world: &mut World) -> bool {
        match self {
            Self::Grant(series) => return world.grant(series).is_ok(),
            Self::Push(readings) => drop(world.push(readings)),
            Self::Labels(zone) => {
                let labels = Labels::from_pairs([("instance", "web-1"), ("zone", zone)]).unwrap();
                world.append(Frame::Labels(WEB, labels));
            }
            Self::Goodbye => {
                let labels = Labels::from_pairs([("instance", "web-1"), ("zone", "gone")]).unwrap();
                world.append(Frame::Gone(WEB, labels));
            }
            Self::Reuse(old, new) => {
                let index = world.column(old).index;
                let granted = GrantedSeries {
                    column: Column { index, generation: 2 },
                    labels: name(new),
                    kind: Kind::Gauge,
                    heartbeat_ms: 30_000,
                    cell: Cell::F32,
                    min: f64::NAN,
                    max: f64::NAN,
                };
                let (policy, labels) = (world.policy.clone(), Labels::default());
                let frame = GrantFrame { instance: WEB, policy, labels, series: vec![granted] };
                world.append(Frame::Grant(frame));
            }
            Self::LostRound => {
                return world.store.begin_round(world.seq(), 1).write().failed.is_empty();
            }
            Self::Round => return world.round().failed.is_empty(),
        }
        true
    }
}

/// What the store holds after each frame, on a disk without faults.
fn expected(script: &[Act]) -> (BTreeMap<u64, String>, u64) {
    let mut world = World::new(POLICY);
    let mut dumps = BTreeMap::from([(0, String::new())]);
    for act in script {
        assert!(act.perform(&mut world));
        let now = dump(&world.store);
        if let Some(before) = dumps.insert(world.seq(), now.clone()) {
            assert_eq!(before, now, "a round changes nothing that can be seen");
        }
    }
    assert_eq!(world.store.damage(), []);
    (dumps, world.disk.op_count())
}

/// Runs the script until the power goes after `op_count` changes, restarts with `after`, and goes on.
fn check(
    op_count: u64,
    after: impl Fn(&MemDisk) -> MemDisk,
    dumps: &BTreeMap<u64, String>,
    case: &str,
) {
    let script = script();
    let mut world = World::new(POLICY);
    world.disk.stop_after(op_count);
    let mut acts = script.iter();
    let rest = loop {
        let rest = acts.as_slice();
        match acts.next() {
            Some(act) if act.perform(&mut world) => {}
            _ => break rest,
        }
    };
    let disk = after(&world.disk);
    let (mut world, damage) = world.restarted(disk);
    assert_eq!(damage, [], "{case}");
    assert_eq!(dump(&world.store), dumps[&world.seq()], "{case}: after the restart");
    for act in rest {
        assert!(act.perform(&mut world), "{case}");
        assert_eq!(dump(&world.store), dumps[&world.seq()], "{case}: later on");
    }
    // Once more, from files that were written after a crash.
    let disk = world.disk.clone();
    let (world, damage) = world.restarted(disk);
    assert_eq!(damage, [], "{case}");
    assert_eq!(dump(&world.store), dumps[&world.seq()], "{case}: after another restart");
    assert_eq!(world.store.damage(), [], "{case}");
}

#[test]
fn a_power_cut_at_any_moment_changes_nothing_that_can_be_seen() {
    let (dumps, op_count) = expected(&script());
    assert!(op_count > 60, "the script makes {op_count} changes");
    for at in 0..op_count {
        for seed in 0..4 {
            let seed = at * 100 + seed;
            let case = format!("power cut after {at} changes, seed {seed}");
            check(at, |disk| disk.crash(seed), &dumps, &case);
        }
    }
}

#[test]
fn a_kill_at_any_moment_changes_nothing_that_can_be_seen() {
    let (dumps, op_count) = expected(&script());
    for at in 0..op_count {
        check(at, MemDisk::kill, &dumps, &format!("kill after {at} changes"));
    }
}

#[test]
fn what_a_start_finds_of_a_killed_grant_outlasts_the_power() {
    for (before, at, seed) in
        (0..2).flat_map(|b| (0..10).flat_map(move |at| (0..8).map(move |seed| (b, at, seed))))
    {
        let case = format!("{before} granted before, killed after {at} changes, seed {seed}");
        let mut world = World::new(POLICY);
        let first: Vec<_> = (0..4 * before).map(|n| gauge(&format!("first{n}"))).collect();
        world.grant(&first).unwrap();
        world.disk.stop_after(at);
        let _cut_short = world.grant(&[gauge("a")]);
        let disk = world.disk.kill();
        let (mut world, damage) = world.restarted(disk);
        assert_eq!(damage, [], "{case}");
        world.grant(&[gauge("a")]).unwrap();
        world.push(&[("a", 10, 1.0), ("a", 20, 2.0)]);
        let (expected, disk) = (dump(&world.store), world.disk.crash(seed));
        let (world, damage) = world.restarted(disk);
        assert_eq!(damage, [], "{case}");
        assert_eq!(dump(&world.store), expected, "{case}");
    }
}
