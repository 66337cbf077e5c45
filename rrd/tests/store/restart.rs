//! What is written is read back, before and after a round and a restart.

use rrd::{Labels, MatchOp};

use crate::world::{Frame, WEB, World, dump, gauge, name, secs};

const POLICY: &str = "10s:5m,1m:30m;hb=1m";

fn busy_world() -> World {
    let mut world = World::new(POLICY);
    world.grant(&[gauge("load"), gauge("temp")]).unwrap();
    for step in 1..=20 {
        world.push(&[("load", step * 10, step as f64), ("temp", step * 10, 100.5)]);
    }
    world
}

#[test]
fn rows_are_the_same_waiting_written_and_reopened() {
    let mut world = busy_world();
    let first = (world.averages("load", 0, 0, 300), world.averages("load", 1, 0, 300));
    assert_eq!(first.0, (1..=20).map(|v| v.to_string()).collect::<Vec<_>>().join(" "));
    assert_eq!(first.1, "3.5 9.5 15.5");
    let rows = world.rows("load", 1, 0, 300);
    assert_eq!((rows.first_end, rows.min[0], rows.max[0], rows.known[0]), (secs(60), 1.0, 6.0, 6));
    let before = dump(&world.store);
    assert_eq!(world.round().files, 1);
    assert_eq!(dump(&world.store), before);
    let disk = world.disk.clone();
    let (world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    assert_eq!(dump(&world.store), before);
    assert_eq!((world.averages("load", 0, 0, 300), world.averages("load", 1, 0, 300)), first);
    assert_eq!(world.store.damage(), []);
}

#[test]
fn rows_partly_in_the_file_and_partly_waiting_are_one() {
    let mut world = busy_world();
    world.round();
    for step in 21..=30 {
        world.push(&[("load", step * 10, step as f64)]);
    }
    let all = (1..=30).map(|v| v.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(world.averages("load", 0, 0, 300), all);
    // Between the beginning of a round and its end everything is to be seen as well.
    let round = world.store.begin_round(world.seq(), 1);
    assert_eq!(world.averages("load", 0, 0, 300), all);
    assert_eq!(round.write().failed, []);
    assert_eq!(world.averages("load", 0, 0, 300), all);
    world.store.finish_round(world.seq());
    assert_eq!(world.averages("load", 0, 0, 300), all);
    assert_eq!(world.averages("load", 0, 255, 281), "26 27 28", "rows that END within the span");
}

#[test]
fn a_frame_applied_twice_counts_once() {
    let mut world = busy_world();
    world.round();
    let before = dump(&world.store);
    let (stamp, Frame::Samples(frame)) = world.frames[5].clone() else { unreachable!() };
    let verdicts = world.store.apply(6, stamp, &frame);
    assert_eq!(verdicts, rrd::Verdicts::default());
    assert_eq!(dump(&world.store), before);
}

#[test]
fn batch_labels_and_index_survive_a_restart() {
    let mut world = busy_world();
    let labels = Labels::from_pairs([("instance", "web-1"), ("zone", "eu")]).unwrap();
    world.append(Frame::Labels(WEB, labels));
    let batch = world.store.last_batch(WEB).unwrap();
    let column = world.column("temp");
    world.round();
    let disk = world.disk.clone();
    let (world, _) = world.restarted(disk);
    assert_eq!(world.store.last_batch(WEB), Some(batch));
    assert_eq!(world.column("temp"), column);
    let everything = [
        r#"load{instance="web-1",zone="eu"}"#.to_owned(),
        r#"temp{instance="web-1",zone="eu"}"#.to_owned(),
    ];
    assert_eq!(world.names(MatchOp::Equal, "zone", "eu"), everything);
    assert_eq!(world.names(MatchOp::Regex, "__name__", "l.*"), everything[..1]);
    assert_eq!(world.names(MatchOp::NotEqual, "instance", "web-1"), [] as [String; 0]);
    assert_eq!(world.names(MatchOp::Equal, "absent", ""), everything);
    let info = &world.store.instances()[0];
    assert_eq!((info.series_count, info.newest), (2, secs(200)));
    assert_eq!(info.file_len, world.file_len());
}

#[test]
fn samples_for_unknown_columns_are_counted() {
    let mut world = busy_world();
    let column = world.column("load");
    let sample = |index, generation| rrd::Sample {
        column: rrd::Column { index, generation },
        at: secs(300),
        value: 1.0,
    };
    let samples = vec![sample(column.index, 9), sample(77, 1), sample(u32::MAX, 1)];
    let batch = rrd::Batch::default();
    let frame = rrd::SampleFrame { instance: WEB, batch, samples: samples.clone() };
    assert_eq!(world.append(Frame::Samples(frame)).stale_generation, 3);
    let nobody = rrd::InstanceId(1);
    let frame = rrd::SampleFrame { instance: nobody, batch, samples };
    assert_eq!(world.append(Frame::Samples(frame)).stale_generation, 3);
    assert_eq!(world.store.resolve(nobody, &name("load").to_key()), None);
}

#[test]
fn a_silent_instance_costs_a_round_nothing() {
    let mut world = busy_world();
    assert_eq!(world.round().files, 1);
    assert_eq!(world.round(), rrd::RoundReport::default());
    world.push(&[("load", 300, 1.0)]);
    let report = world.round();
    assert_eq!(report.files, 1);
    assert!(report.bytes < 40_000, "{report:?}");
}

#[test]
fn a_failed_file_keeps_its_rows_and_the_next_round_writes_them() {
    let mut world = busy_world();
    world.round();
    world.push(&[("load", 210, 21.0)]);
    world.disk.fail_sync(World::file_path());
    let report = world.round();
    assert_eq!(report.failed.len(), 1);
    assert_eq!(report.failed[0].0, WEB);
    assert_eq!(world.averages("load", 0, 180, 300), "19 20 21");
    world.disk.heal();
    world.push(&[("load", 220, 22.0)]);
    assert_eq!(world.round().failed, []);
    let disk = world.disk.clone();
    let (world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    assert_eq!(world.averages("load", 0, 180, 300), "19 20 21 22");
}

#[test]
fn the_same_rows_come_from_a_map_of_a_real_file() {
    let folder = tempfile::tempdir().unwrap();
    let open = |upto| {
        let disk = std::sync::Arc::new(rrd::OsDisk);
        rrd::Store::open(disk, folder.path(), upto).unwrap()
    };
    let mut world = busy_world();
    let expected = dump(&world.store);
    let (store, _) = open(0);
    let policy = world.policy.clone();
    let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
    let series = [gauge("load"), gauge("temp")];
    let request =
        rrd::GrantRequest { instance: WEB, policy: &policy, labels: &labels, series: &series };
    store.grant(request, &mut |_| Ok::<u64, ()>(1)).unwrap();
    world.store = store;
    for (seq, (stamp, frame)) in (1..).zip(world.frames.clone()) {
        match frame {
            Frame::Grant(frame) => world.store.apply_grant(seq, &frame).unwrap(),
            Frame::Samples(frame) => drop(world.store.apply(seq, stamp, &frame)),
            Frame::Labels(..) | Frame::Gone(..) | Frame::Change(..) => {}
        }
    }
    assert_eq!(world.round().failed, []);
    assert_eq!(dump(&world.store), expected, "through the first map");
    let (store, damage) = open(world.checkpoint);
    assert_eq!(damage, []);
    assert_eq!(dump(&store), expected, "after a restart");
}

#[test]
fn readers_beside_the_worker_and_rounds_see_whole_rows_only() {
    let folder = tempfile::tempdir().unwrap();
    let disk = std::sync::Arc::new(rrd::OsDisk);
    let (store, _) = rrd::Store::open(disk, folder.path(), 0).unwrap();
    let policy = rrd::Policy::parse(POLICY).unwrap();
    let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
    let series = [gauge("load")];
    let request =
        rrd::GrantRequest { instance: WEB, policy: &policy, labels: &labels, series: &series };
    let mut frames = Vec::new();
    let granted = store.grant(request, &mut |frame| {
        frames.push(frame.clone());
        Ok::<u64, ()>(1)
    });
    let column = granted.unwrap()[0].unwrap();
    store.apply_grant(1, &frames[0]).unwrap();
    let newest = std::sync::atomic::AtomicI64::new(0);
    let series = rrd::SeriesRef { instance: WEB, column };
    let all = rrd::Span::new(secs(0), secs(1 << 40)).unwrap();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            for step in 1..=3000_i64 {
                let seq = 1 + u64::try_from(step).unwrap();
                let sample = rrd::Sample { column, at: secs(step * 10), value: step as f64 };
                let batch = rrd::Batch::default();
                let frame = rrd::SampleFrame { instance: WEB, batch, samples: vec![sample] };
                store.apply(seq, secs(step * 10), &frame);
                newest.store(step, std::sync::atomic::Ordering::Release);
                if step % 5 == 0 {
                    assert_eq!(store.begin_round(seq, 1).write().failed, []);
                    store.finish_round(seq);
                }
            }
        });
        while !worker.is_finished() {
            let least = newest.load(std::sync::atomic::Ordering::Acquire);
            let rows = store.rows(series, 0, all);
            let first = rows.first_end.as_millis() / 10_000;
            for (step, &value) in (first..).zip(&rows.average) {
                assert_eq!(value, step as f64, "row {step} of {first}..");
            }
            let last = first + i64::try_from(rows.len()).unwrap() - 1;
            assert!(least == 0 || last >= least, "{last} read, {least} were closed before");
        }
    });
    assert_eq!(store.damage(), []);
}

#[test]
fn the_series_of_an_instance_that_is_gone_end_and_may_come_back() {
    let mut world = busy_world();
    let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
    let visible = |world: &World| {
        let found = world.store.select(&[]);
        found.iter().filter(|series| series.visible_ms.is_some()).count()
    };
    let series = visible(&world);
    assert!(series > 0);
    world.append(Frame::Gone(WEB, labels));
    assert_eq!(visible(&world), 0, "ended as by a marker");
    let expected = dump(&world.store);
    world.round();
    let disk = world.disk.clone();
    let (world, _) = world.restarted(disk);
    assert_eq!(dump(&world.store), expected, "and stay so over a restart");
}
