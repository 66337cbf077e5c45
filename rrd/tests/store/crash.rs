//! The power goes at every single change of the disk; replay must bring everything back.

use std::collections::BTreeMap;

use rrd::{
    Cell, Change, Column, GrantFrame, GrantedSeries, Kind, Labels, MemDisk, NewSeries, Policy,
};

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
    /// Other archives with the same finest step.
    Policy(&'static str),
    /// Series dropped by name.
    Drop(&'static [&'static str]),
    /// The instance goes.
    Remove,
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

/// Counters that go through many runs of 64 steps, fall, end, and give their column to another.
fn counting_script() -> Vec<Act> {
    let push = |name, steps: std::ops::RangeInclusive<i64>| {
        let count = |step| (step % 50 * step % 30) as f64 + step as f64;
        Act::Push(steps.map(|step| (name, step * 10, count(step))).collect())
    };
    let total = |text| NewSeries { labels: name(text), kind: Kind::Total, first_reading: None };
    vec![
        Act::Grant(vec![total("t"), gauge("g"), total("v")]),
        push("t", 1..=70),
        Act::Round,
        push("t", 71..=127),
        push("v", 100..=127),
        Act::LostRound,
        push("t", 128..=130),
        Act::LostRound,
        push("v", 128..=200),
        Act::Round,
        // The last reading of its run, then a later one of the same run.
        Act::Push(vec![("t", 1311, 7.0), ("t", 1312, f64::NAN)]),
        Act::Round,
        push("t", 133..=140),
        push("v", 201..=205),
        Act::LostRound,
        push("t", 141..=330),
        Act::LostRound,
        Act::Policy("10s:20m,1m:30m,5m:2h;hb=30s"),
        push("t", 331..=335),
        Act::LostRound,
        push("v", 206..=330),
        Act::Round,
        Act::Round,
        push("t", 336..=600),
        Act::Round,
        Act::Drop(&["v"]),
        Act::Round,
        Act::Grant(vec![total("w")]),
        push("w", 580..=600),
        Act::Round,
        Act::Policy("10s:3m,1m:20m;hb=30s"),
        push("w", 601..=650),
        push("t", 601..=650),
        Act::Round,
        Act::Goodbye,
        Act::Round,
        push("t", 670..=710),
        Act::Round,
    ]
}

/// Archives change while series come, go and give their columns to others; at last all goes.
fn changing_script() -> Vec<Act> {
    let push = |name, steps: std::ops::RangeInclusive<i64>| {
        Act::Push(steps.map(|n| (name, n * 10, (n % 7) as f64 / 4.0)).collect())
    };
    let whole = NewSeries { labels: name("u"), kind: Kind::Unknown, first_reading: None };
    vec![
        Act::Grant(vec![gauge("a"), gauge("b"), whole]),
        push("a", 1..=8),
        push("u", 3..=8),
        Act::Round,
        push("a", 9..=27),
        push("b", 9..=12),
        Act::Round,
        push("a", 28..=31),
        // A round of the old archives that does not count comes just before their change.
        Act::LostRound,
        push("u", 9..=32),
        Act::Policy("10s:5m,30s:10m,1m:15m,5m:3h;hb=30s"),
        push("a", 32..=33),
        Act::Grant((0..6).map(|n| gauge(&format!("more{n}"))).collect()),
        push("more5", 33..=40),
        Act::LostRound,
        push("a", 34..=41),
        Act::Drop(&["more2"]),
        Act::Round,
        push("a", 42..=44),
        Act::Round,
        Act::Drop(&["b", "more5"]),
        push("a", 45..=46),
        Act::Grant(vec![gauge("next"), gauge("after next")]),
        push("next", 45..=60),
        Act::Policy("10s:2m,1m:10m;hb=30s;f64;last"),
        Act::Drop(&["a"]),
        Act::Grant(vec![gauge("wide"), gauge("wider")]),
        push("wide", 50..=70),
        push("next", 61..=70),
        Act::Round,
        push("wide", 71..=80),
        Act::LostRound,
        push("next", 71..=95),
        Act::Round,
        Act::Remove,
        Act::LostRound,
        Act::Round,
        Act::Grant(vec![gauge("again")]),
        push("again", 90..=99),
        Act::Round,
    ]
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
            Self::Policy(text) => {
                return world.change(Change::Policy(Policy::parse(text).unwrap())).is_ok();
            }
            Self::Drop(names) => {
                let columns = names.iter().map(|name| world.column(name)).collect();
                return world.change(Change::Drop(columns)).is_ok();
            }
            Self::Remove => return world.change(Change::Remove).is_ok(),
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
    script: &[Act],
) {
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
            check(at, |disk| disk.crash(seed), &dumps, &case, &script());
        }
    }
}

#[test]
fn a_change_survives_a_power_cut_at_any_moment_as_a_whole_or_not_at_all() {
    let (dumps, op_count) = expected(&changing_script());
    for at in 0..op_count {
        for seed in 0..4 {
            let seed = at * 100 + seed;
            let case = format!("power cut after {at} changes, seed {seed}");
            check(at, |disk| disk.crash(seed), &dumps, &case, &changing_script());
        }
    }
}

#[test]
fn a_change_survives_a_kill_at_any_moment_as_a_whole_or_not_at_all() {
    let (dumps, op_count) = expected(&changing_script());
    for at in 0..op_count {
        let case = format!("kill after {at} changes");
        check(at, MemDisk::kill, &dumps, &case, &changing_script());
    }
}

#[test]
fn a_kill_at_any_moment_changes_nothing_that_can_be_seen() {
    let (dumps, op_count) = expected(&script());
    for at in 0..op_count {
        check(at, MemDisk::kill, &dumps, &format!("kill after {at} changes"), &script());
    }
}

#[test]
fn counters_come_through_a_power_cut_and_a_kill_at_any_moment() {
    let (dumps, op_count) = expected(&counting_script());
    let last = dumps.values().last().unwrap();
    assert!(last.contains("anchor ") && last.contains(" reset"), "{last}");
    for at in 0..op_count {
        check(at, MemDisk::kill, &dumps, &format!("kill after {at} changes"), &counting_script());
        for seed in 0..4 {
            let seed = at * 100 + seed;
            let case = format!("power cut after {at} changes, seed {seed}");
            check(at, |disk| disk.crash(seed), &dumps, &case, &counting_script());
        }
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
