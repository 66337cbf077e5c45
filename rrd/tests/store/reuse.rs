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
