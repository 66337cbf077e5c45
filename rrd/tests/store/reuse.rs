//! Columns of dropped series go to others, and nothing of the former shows under the new.

use rrd::{Change, Column, Kind, NewSeries};

use crate::world::{World, gauge, name};

const POLICY: &str = "10s:5m,1m:20m;hb=30s";

#[test]
fn a_new_series_takes_the_column_of_a_dropped_one_and_none_of_its_rows() {
    let mut world = World::new(POLICY);
    world.grant(&[gauge("a"), gauge("b"), gauge("c")]).unwrap();
    world.push(&[("b", 10, 1.0), ("b", 20, 2.0), ("b", 130, 3.0)]);
    world.round();
    let (former, len) = (world.column("b"), world.file_len());
    world.change(Change::Drop(vec![former])).unwrap();
    assert_eq!(world.store.resolve(crate::world::WEB, &name("b").to_key()), None);
    assert_eq!(world.store.select(&[]).len(), 2);
    let whole = NewSeries { labels: name("whole"), kind: Kind::Unknown, first_reading: None };
    world.grant(&[whole, gauge("d"), gauge("e")]).unwrap();
    assert_eq!(world.column("d"), Column { index: former.index, generation: 2 });
    assert_eq!(world.column("e"), Column { index: 3, generation: 1 });
    assert_eq!(world.column("whole").index, 4, "no column of another cell is taken");
    assert_eq!(world.averages("d", 0, 0, 300), "");
    world.push(&[("d", 70, 7.0), ("d", 80, 8.0)]);
    assert_eq!(world.averages("d", 0, 0, 300), "7 8");
    world.round();
    assert_eq!(world.averages("d", 0, 0, 300), "7 8");
    assert!(world.file_len() > len, "the block of wide cells is new");
    let disk = world.disk.clone();
    let (mut world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    assert_eq!(world.averages("d", 0, 0, 300), "7 8");
    let column = world.column("d");
    world.change(Change::Drop(vec![column])).unwrap();
    world.round();
    let disk = world.disk.clone();
    let (mut world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    world.grant(&[gauge("f")]).unwrap();
    assert_eq!(world.column("f"), Column { index: former.index, generation: 3 });
    assert_eq!(world.averages("f", 0, 0, 300), "");
}

#[test]
fn samples_for_a_dropped_series_are_stale() {
    let mut world = World::new(POLICY);
    world.grant(&[gauge("a")]).unwrap();
    let column = world.column("a");
    world.change(Change::Drop(vec![column])).unwrap();
    let sample = rrd::Sample { column, at: crate::world::secs(10), value: 1.0 };
    for again in [false, true] {
        let frame = rrd::SampleFrame {
            instance: crate::world::WEB,
            batch: rrd::Batch::default(),
            samples: vec![sample],
        };
        assert_eq!(world.append(crate::world::Frame::Samples(frame)).stale_generation, 1);
        if !again {
            world.grant(&[gauge("b")]).unwrap();
        }
    }
}

#[test]
fn thousands_of_drops_and_grants_leave_room_in_the_catalogue() {
    let mut world = World::new(POLICY);
    let long = |n: usize| gauge(&format!("{n:0700}"));
    world.grant(&[long(0), long(1)]).unwrap();
    world.push(&[]);
    let len = world.file_len();
    for n in 2..2000 {
        let column = world.column(&format!("{:0700}", n - 2));
        world.change(Change::Drop(vec![column])).unwrap();
        world.grant(&[long(n)]).unwrap();
    }
    assert_eq!(world.file_len(), len);
    assert_eq!(world.round().failed, []);
    let disk = world.disk.clone();
    let (world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    assert_eq!(world.store.select(&[]).len(), 2);
}

/// Grants within room for so many series; the names of those that got a column.
fn grant_within(world: &mut World, most: usize, series: &[&str]) -> Vec<String> {
    let labels = rrd::Labels::from_pairs([("instance", "web-1")]).unwrap();
    let series: Vec<_> = series.iter().map(|name| gauge(name)).collect();
    let policy = world.policy.clone();
    let request = rrd::GrantRequest {
        instance: crate::world::WEB,
        policy: &policy,
        labels: &labels,
        series: &series,
    };
    let room = rrd::Room { most, reuse_after_ms: 60_000, ..rrd::Room::default() };
    let mut frames = Vec::new();
    let answers = world.store.grant_within(room, request, &mut |frame| {
        frames.push(frame.clone());
        Ok::<u64, ()>(0)
    });
    // Several grants may come before the worker applies the first.
    for frame in frames {
        world.append(crate::world::Frame::Grant(frame));
    }
    let named = series.iter().zip(answers.unwrap()).filter(|(_, answer)| answer.is_ok());
    named.map(|(series, _)| series.labels.metric().unwrap().to_owned()).collect()
}

#[test]
fn beyond_its_room_a_new_series_takes_the_place_of_the_one_silent_longest() {
    let mut world = World::new(POLICY);
    assert_eq!(grant_within(&mut world, 3, &["a", "b", "c", "d"]), ["a", "b", "c"]);
    for (series, at) in [("a", 1000), ("b", 1010), ("c", 1020), ("a", 1040)] {
        world.push(&[(series, at, 1.0)]);
    }
    assert_eq!(grant_within(&mut world, 3, &["d"]), [""; 0], "nobody is silent for a minute");
    world.push(&[("a", 1070, 3.0)]);
    let b = world.column("b");
    assert_eq!(grant_within(&mut world, 3, &["d", "e"]), ["d"], "b is, and c not yet");
    assert_eq!(world.column("d"), Column { index: b.index, generation: 2 });
    assert_eq!(world.store.resolve(crate::world::WEB, &name("b").to_key()), None);
    assert_eq!(world.averages("d", 0, 0, 2000), "");
    world.push(&[("a", 1100, 3.0)]);
    assert_eq!(grant_within(&mut world, 3, &["e", "c"]), ["c"], "a series that is asked for stays");
    assert_eq!(grant_within(&mut world, 3, &["e"]), ["e"]);
    assert_eq!(world.store.select(&[]).len(), 3);
    world.push(&[("d", 1100, 5.0), ("e", 1100, 6.0), ("e", 1110, 6.5)]);
    let expected = crate::world::dump(&world.store);
    world.round();
    let disk = world.disk.clone();
    let (mut world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    assert_eq!(crate::world::dump(&world.store), expected);
    assert_eq!(grant_within(&mut world, 3, &["f"]), [""; 0], "all have been heard");
}

#[test]
fn a_column_is_not_taken_twice_before_the_first_grant_is_applied() {
    let mut world = World::new(POLICY);
    grant_within(&mut world, 2, &["a", "b"]);
    world.push(&[("a", 1000, 1.0), ("b", 1010, 1.0)]);
    world.push(&[("b", 1100, 1.0)]);
    let labels = rrd::Labels::default();
    let room = rrd::Room { most: 2, reuse_after_ms: 60_000, ..rrd::Room::default() };
    let mut columns = Vec::new();
    for name in ["c", "d"] {
        let (policy, series) = (&world.policy, &[gauge(name)]);
        let request =
            rrd::GrantRequest { instance: crate::world::WEB, policy, labels: &labels, series };
        let answer = world.store.grant_within(room, request, &mut |_| Ok::<u64, ()>(0));
        columns.push(answer.unwrap()[0]);
    }
    assert_eq!(columns[0], Ok(Column { index: 0, generation: 2 }));
    assert_eq!(columns[1], Err(rrd::Refusal::TooManySeries));
}

#[test]
fn the_archive_not_heard_for_longest_is_given_up_first() {
    let mut world = World::new(POLICY);
    let ids = [1, 2, 3, 4].map(rrd::InstanceId);
    let policy = world.policy.clone();
    for (id, at) in ids.into_iter().zip([Some(300), None, Some(100), Some(200)]) {
        let (labels, series) = (rrd::Labels::default(), [gauge("a")]);
        let request =
            rrd::GrantRequest { instance: id, policy: &policy, labels: &labels, series: &series };
        let mut frame = None;
        let granted = world.store.grant(request, &mut |granted| {
            frame = Some(granted.clone());
            Ok::<u64, ()>(0)
        });
        world.append(crate::world::Frame::Grant(frame.unwrap()));
        let Some(at) = at else { continue };
        let (column, at) = (granted.unwrap()[0].unwrap(), crate::world::secs(at));
        let samples = vec![rrd::Sample { column, at, value: 1.0 }];
        let batch = rrd::Batch::default();
        world.now = at;
        world.append(crate::world::Frame::Samples(rrd::SampleFrame {
            instance: id,
            batch,
            samples,
        }));
    }
    let order = |world: &World, of: &[rrd::InstanceId]| {
        let found = world.store.reclaim_candidates(of.iter().copied());
        assert!(found.iter().all(|one| one.file_len > 0));
        found.iter().map(|one| one.id.0).collect::<Vec<_>>()
    };
    assert_eq!(order(&world, &ids), [2, 3, 4, 1]);
    assert_eq!(order(&world, &[ids[0], ids[2], rrd::InstanceId(9)]), [3, 1]);
    let change = &mut |_: &rrd::ChangeFrame| Ok::<u64, ()>(0);
    world.store.change(ids[2], Change::Remove, change).unwrap();
    let frame = rrd::ChangeFrame { instance: ids[2], change: Change::Remove };
    world.append(crate::world::Frame::Change(frame));
    assert_eq!(order(&world, &ids), [2, 4, 1]);
}
