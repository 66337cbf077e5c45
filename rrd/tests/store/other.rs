//! Series whose columns others take: what they kept is found in the others of their metric, at any crash.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::spawn;
use std::time::Duration;

use rrd::{
    Batch, Change, ChangeError, Column, GrantRequest, Kind, Labels, NewSeries, Policy, Refusal,
    Room, Sample, SampleFrame, SeriesRef,
};

use crate::moments::Story;
use crate::world::{Frame, WEB, World, dump, name, secs, shown, span};

const POLICY: &str = "10s:20m,1m:2h;hb=30s";
/// Silent for so long, a series may go.
const SILENT_MS: u64 = 120_000;

fn of(metric: &str, device: &str) -> Labels {
    name(metric).with("device", device)
}

fn other(series: &str) -> Labels {
    name(&format!("other:{series}")).with("series", "__other__")
}

fn room(most: usize) -> Room {
    Room { most, reuse_after_ms: SILENT_MS, ..Room::default() }
}

impl World {
    fn ask(
        &mut self,
        room: Room,
        kind: Kind,
        series: &[Labels],
    ) -> Result<Vec<Result<Column, rrd::Refusal>>, rrd::GrantError<Infallible>> {
        let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
        let new = |labels: &Labels| NewSeries { labels: labels.clone(), kind, first_reading: None };
        let series: Vec<_> = series.iter().map(new).collect();
        let policy = self.policy.clone();
        let request =
            GrantRequest { instance: WEB, policy: &policy, labels: &labels, series: &series };
        let mut frames = Vec::new();
        let answers = self.store.grant_within(room, request, &mut |frame| {
            frames.push(frame.clone());
            Ok(0)
        });
        for frame in frames {
            self.append(Frame::Grant(frame));
        }
        answers
    }

    /// Devices of one metric of which each has a column now.
    fn has_room(&mut self, most: usize, metric: &str, devices: &[&str]) -> Vec<bool> {
        let series: Vec<_> = devices.iter().map(|device| of(metric, device)).collect();
        let answers = self.ask(room(most), Kind::Gauge, &series).unwrap();
        answers.iter().map(Result::is_ok).collect()
    }

    fn find(&self, labels: &Labels) -> Option<Column> {
        self.store.resolve(WEB, &labels.to_key())
    }

    /// Readings of one series, ten seconds apart from `from` on.
    fn read(&mut self, labels: &Labels, from: i64, values: &[f64]) {
        let column = self.find(labels).unwrap();
        let moments = (0..).map(|n| secs(from + 10 * n));
        let samples: Vec<_> =
            moments.zip(values).map(|(at, &value)| Sample { column, at, value }).collect();
        self.now = samples.last().map_or(self.now, |sample| sample.at).max(self.now);
        let batch = Batch { incarnation: 1, boot_id: 2, number: self.seq() };
        self.append(Frame::Samples(SampleFrame { instance: WEB, batch, samples }));
    }

    fn read_at(&mut self, column: Column, at: i64, value: f64) {
        let samples = vec![Sample { column, at: secs(at), value }];
        self.append(Frame::Samples(SampleFrame {
            instance: WEB,
            batch: Batch::default(),
            samples,
        }));
    }

    /// Averages, minima, maxima and known steps.
    fn shown_of(&self, labels: &Labels, archive: usize, start: i64, end: i64) -> [String; 4] {
        let column = self.find(labels).unwrap();
        let series = SeriesRef { instance: WEB, column };
        let rows = self.store.rows(series, archive, span(start, end));
        let known: Vec<_> = rows.known.iter().map(|&known| f64::from(known)).collect();
        [&rows.average, &rows.min, &rows.max, &known].map(|values| shown(values))
    }
}

/// Three that fell silent one after the other, and one that goes on.
fn three_silent() -> World {
    let mut world = World::new(POLICY);
    assert_eq!(world.has_room(4, "load", &["a", "b", "c", "on"]), [true; 4]);
    world.read(&of("load", "a"), 10, &[2.0; 12]);
    world.read(&of("load", "b"), 70, &[4.0, 4.0, 4.0, 10.0, 4.0, 4.0]);
    world.read(&of("load", "c"), 70, &[6.0; 9]);
    world.read(&of("load", "on"), 10, &[1.0; 40]);
    world
}

fn check_three(world: &World, when: &str) {
    let [mean, min, max, known] = world.shown_of(&other("load:avg"), 1, 0, 180);
    assert_eq!(mean, "2 4.333333492279053 6", "{when}");
    assert_eq!((&*min, &*max, &*known), ("2 2 6", "2 10 6", "6 6 3"), "{when}");
    assert_eq!(world.shown_of(&other("load:count"), 1, 0, 180)[0], "1 3 0.5", "{when}");
    let fine = world.shown_of(&other("load:count"), 0, 40, 160)[0].clone();
    assert_eq!(fine, "1 1 3 3 3 3 3 3 1 1 1 -", "{when}");
    assert_eq!(world.shown_of(&of("load", "on"), 0, 380, 400)[0], "1 1", "{when}");
    for gone in ["a", "b", "c"] {
        assert_eq!(world.find(&of("load", gone)), None, "{when}");
    }
    assert_eq!(world.store.damage(), [], "{when}");
}

#[test]
fn what_series_kept_whose_columns_others_take_is_in_the_others_of_their_metric() {
    for rounds in [false, true] {
        let mut world = three_silent();
        if rounds {
            world.round();
        }
        let (len, on) = (world.file_len(), world.find(&of("load", "on")));
        assert_eq!(world.has_room(4, "load", &["d"]), [true]);
        check_three(&world, "before the round");
        assert_eq!(world.store.info(WEB).unwrap().series_count, 4, "none more than there may be");
        assert_eq!(world.store.info(WEB).unwrap().newest, secs(400), "nobody is heard of later");
        world.read(&of("load", "d"), 410, &[7.0; 3]);
        world.read(&of("load", "on"), 410, &[1.0; 3]);
        assert_eq!(world.round().failed, []);
        check_three(&world, "after the round");
        assert_eq!(world.shown_of(&of("load", "d"), 0, 0, 430)[0], "7 7 7");
        assert_eq!((world.file_len(), world.find(&of("load", "on"))), (len, on));
        assert_eq!(world.used_bytes(), len, "one file is left");
        let expected = dump(&world.store);
        let disk = world.disk.crash(7);
        let (mut world, damage) = world.restarted(disk);
        assert_eq!((damage, dump(&world.store)), (vec![], expected));
        check_three(&world, "after a restart");
        // There are columns now: from here on one goes at a time, and what there was counts on.
        world.read(&of("load", "on"), 440, &[1.0; 20]);
        assert_eq!(world.has_room(4, "load", &["e", "f"]), [true, false]);
        assert_eq!(world.shown_of(&other("load:avg"), 0, 400, 430)[0], "7 7 7");
        check_three(&world, "with one more");
    }
}

#[test]
fn the_one_silent_longest_goes_first_and_one_that_is_asked_for_stays() {
    let mut world = World::new(POLICY);
    let all = ["a", "b", "c", "d", "e", "f"];
    assert_eq!(world.has_room(6, "load", &[&all[..], &["g"]].concat())[5..], [true, false]);
    for (device, at) in [("b", 30), ("c", 40), ("d", 50), ("e", 60), ("a", 100), ("f", 200)] {
        world.read(&of("load", device), at, &[1.0; 2]);
    }
    let columns = ["b", "c", "d", "e"].map(|device| world.find(&of("load", device)).unwrap());
    assert_eq!(world.has_room(6, "load", &["g"]), [true], "three have been silent for long");
    let found = |world: &World, of: &Labels| world.find(of).unwrap().index;
    assert_eq!(found(&world, &of("load", "g")), columns[0].index);
    assert_eq!(found(&world, &other("load:avg")), columns[1].index);
    assert_eq!(found(&world, &other("load:count")), columns[2].index);
    world.read(&of("load", "f"), 220, &[1.0]);
    assert_eq!(world.has_room(6, "load", &["h", "e"]), [false, true], "it is asked for");
    let mut next = Column { index: columns[3].index, generation: columns[3].generation + 1 };
    for device in ["h", "i"] {
        world.read(&of("load", "g"), 220, &[1.0]);
        assert_eq!(world.has_room(6, "load", &[device]), [true]);
        assert_eq!(world.find(&of("load", device)), Some(next));
        next = world.find(&of("load", "a")).map_or(next, |a| Column { generation: 2, ..a });
        world.read(&of("load", "f"), 240, &[1.0]);
    }
    assert_eq!(world.has_room(6, "load", &["j"]), [false], "all have been heard");
    assert_eq!(world.store.info(WEB).unwrap().series_count, 6);
}

#[test]
fn a_column_is_not_taken_twice_before_the_first_grant_is_applied() {
    let mut world = three_silent();
    let policy = world.policy.clone();
    let mut frames = Vec::new();
    let mut ask = |device| {
        let (kind, first_reading) = (Kind::Gauge, None);
        let series = [NewSeries { labels: of("load", device), kind, first_reading }];
        let labels = Labels::default();
        let request =
            GrantRequest { instance: WEB, policy: &policy, labels: &labels, series: &series };
        let mut append = |frame: &rrd::GrantFrame| {
            frames.push(frame.clone());
            Ok::<_, Infallible>(0)
        };
        world.store.grant_within(room(4), request, &mut append).unwrap()[0]
    };
    assert_eq!(ask("d"), Ok(Column { index: 0, generation: 2 }));
    assert_eq!(ask("e"), Err(rrd::Refusal::TooManySeries));
    assert_eq!(frames.len(), 1);
    // A reading that was on its way is kept too.
    world.read_at(Column { index: 0, generation: 1 }, 130, 8.0);
    world.append(Frame::Grant(frames.remove(0)));
    assert_eq!(world.shown_of(&other("load:avg"), 0, 120, 150)[0], "7 6 6");
}

#[test]
fn counters_leave_rates_and_metrics_stay_apart() {
    let mut world = World::new(POLICY);
    world.ask(room(7), Kind::Gauge, &[name("on")]).unwrap();
    let totals = ["a", "b", "c"].map(|device| of("hits_total", device));
    world.ask(room(7), Kind::Total, &totals).unwrap();
    world.has_room(7, "load", &["a", "b", "c"]);
    for device in ["a", "b", "c"] {
        let counts: Vec<f64> = (0..13).map(|n| 50.0 * f64::from(n)).collect();
        world.read(&of("hits_total", device), 0, &counts);
        world.read(&of("load", device), 0, &[3.0; 13]);
    }
    world.now = secs(1000);
    world.read(&name("on"), 1000, &[0.0]);
    let new = [of("hits_total", "d")];
    assert!(world.ask(room(7), Kind::Total, &new).unwrap()[0].is_ok());
    assert_eq!(world.find(&other("load:avg")), None);
    assert_eq!(world.has_room(7, "load", &["d"]), [true]);
    for _ in 0..2 {
        assert_eq!(world.shown_of(&other("hits_total:rate_avg"), 1, 0, 120)[0], "5 5");
        assert_eq!(world.shown_of(&other("hits_total:rate_count"), 1, 0, 120)[0], "3 3");
        assert_eq!(world.shown_of(&other("load:avg"), 1, 0, 120)[0], "3 3");
        world.round();
    }
}

#[test]
fn nothing_goes_where_its_metric_has_no_column_for_it() {
    let mut world = World::new(POLICY);
    world.has_room(5, "load", &["a", "b", "on"]);
    world.has_room(5, "idle", &["a", "b"]);
    for (metric, device) in [("load", "a"), ("load", "b"), ("idle", "a"), ("idle", "b")] {
        world.read(&of(metric, device), 0, &[1.0; 5]);
    }
    world.read(&of("load", "on"), 1000, &[1.0]);
    let before = dump(&world.store);
    assert_eq!(world.has_room(5, "load", &["c"]), [false], "two of a metric cannot become three");
    assert_eq!(dump(&world.store), before);
}

#[test]
fn the_room_for_the_file_of_the_round_is_there_before_anybody_goes() {
    let mut world = three_silent();
    world.round();
    let len = world.file_len();
    let before = dump(&world.store);
    let little = Room { bytes: len - 1, ..room(4) };
    let answers = world.ask(little, Kind::Gauge, &[of("load", "d")]).unwrap();
    assert_eq!(answers, [Err(rrd::Refusal::TooManySeries)]);
    world.disk.set_capacity(len);
    let full = world.ask(room(4), Kind::Gauge, &[of("load", "d")]);
    assert!(matches!(full, Err(rrd::GrantError::DiskFull { .. })), "{full:?}");
    assert_eq!(dump(&world.store), before);
    world.disk.heal();
    world.disk.set_capacity(2 * len);
    assert_eq!(world.has_room(4, "load", &["d"]), [true]);
    assert_eq!(world.used_bytes(), 2 * len);
    assert_eq!(world.round().failed, []);
    assert_eq!(world.used_bytes(), len);
}

#[test]
fn archives_change_before_or_after_and_a_round_comes_between() {
    let mut world = three_silent();
    let wider = Policy::parse("10s:30m,1m:2h;hb=30s").unwrap();
    world.change(Change::Policy(wider.clone())).unwrap();
    assert_eq!(world.has_room(4, "load", &["d"]), [false], "its archives are being changed");
    world.round();
    assert_eq!(world.has_room(4, "load", &["d"]), [true]);
    check_three(&world, "in the archives it has by now");
    let refused = world.change(Change::Policy(Policy::parse(POLICY).unwrap()));
    assert!(matches!(refused, Err(ChangeError::UnderWay(WEB))));
    world.round();
    world.change(Change::Policy(Policy::parse(POLICY).unwrap())).unwrap();
    check_three(&world, "in those it had before");
    world.round();
    check_three(&world, "after all");
}

#[test]
fn a_grant_that_comes_while_the_round_writes_is_in_the_next_one() {
    for is_first in [true, false] {
        let mut world = World::new(POLICY);
        world.has_room(6, "load", &["a", "b", "c", "x", "y", "on"]);
        for device in ["a", "b", "c"] {
            world.read(&of("load", device), 10, &[2.0; 9]);
        }
        world.read(&of("load", "x"), 10, &[4.0; 20]);
        world.read(&of("load", "y"), 10, &[5.0; 20]);
        world.read(&of("load", "on"), 10, &[1.0; 40]);
        world.round();
        if !is_first {
            assert_eq!(world.has_room(6, "load", &["d"]), [true]);
        }
        world.read(&of("load", "on"), 410, &[2.0; 5]);
        let seq = world.seq();
        let round = world.store.begin_round(seq, 1);
        assert_eq!(world.has_room(6, "load", &["e"]), [true]);
        world.read(&of("load", "e"), 460, &[8.0; 3]);
        world.read(&of("load", "on"), 460, &[3.0; 3]);
        let expected = dump(&world.store);
        assert_eq!(round.write().failed, []);
        assert_eq!(dump(&world.store), expected);
        world.checkpoint = seq;
        world.store.finish_round(seq);
        assert_eq!(dump(&world.store), expected, "first {is_first}");
        let disk = world.disk.kill();
        let (mut again, damage) = world.restarted(disk);
        assert_eq!((damage, dump(&again.store)), (vec![], expected.clone()));
        again.round();
        assert_eq!(dump(&again.store), expected);
        let disk = again.disk.kill();
        let (again, damage) = again.restarted(disk);
        assert_eq!((damage, dump(&again.store)), (vec![], expected));
    }
}

#[test]
fn a_thousand_devices_that_come_and_go_leave_means_and_counts_and_take_no_room() {
    const MOST: usize = 13;
    let mut world = World::new("10s:2m,1m:2h;hb=30s");
    world.has_room(MOST, "load", &["on"]);
    let mut len = None;
    for n in 0..200_i64 {
        let at = n * 150;
        let devices: Vec<String> = (0..5).map(|k| format!("{n}-{k}")).collect();
        let devices: Vec<_> = devices.iter().map(String::as_str).collect();
        assert_eq!(world.has_room(MOST, "load", &devices), [true; 5], "{n}");
        for (device, value) in devices.iter().zip([1.0, 2.0, 3.0, 4.0, 5.0]) {
            world.read(&of("load", device), at, &[value; 7]);
        }
        world.read(&of("load", "on"), at, &[9.0; 15]);
        if n % 7 == 0 {
            assert_eq!(world.round().failed, []);
        }
        if n > 10 {
            assert_eq!(world.file_len(), *len.get_or_insert(world.file_len()), "{n}");
        }
    }
    world.round();
    assert_eq!(world.used_bytes(), world.file_len());
    let end = 198 * 150 / 60 * 60;
    for (series, least) in [("load:avg", 3.0), ("load:count", 0.8)] {
        let column = world.find(&other(series)).unwrap();
        let series = SeriesRef { instance: WEB, column };
        let rows = world.store.rows(series, 1, span(end - 7200 + 600, end - 600));
        let known: Vec<f64> = rows.average.iter().copied().filter(|v| !v.is_nan()).collect();
        assert!(known.len() >= 50, "{known:?}");
        assert!(known.iter().all(|&value| value >= least && value <= 5.0), "{known:?}");
    }
    assert_eq!(world.store.damage(), []);
}

/// What happens in the crash tests.
enum Act {
    Grant(&'static str, &'static [&'static str]),
    Read(&'static str, &'static str, i64),
    Round,
    /// A round whose record the journal never got: it does not count.
    LostRound,
}

const ACTS: [Act; 22] = [
    Act::Grant("x", &["a", "b", "c"]),
    Act::Grant("y", &["a", "b", "c"]),
    Act::Read("x", "a", 0),
    Act::Read("x", "b", 30),
    Act::Read("x", "c", 60),
    Act::Read("y", "a", 0),
    Act::Round,
    Act::Read("y", "b", 0),
    Act::Read("y", "c", 300),
    Act::Grant("x", &["d"]),
    Act::Read("x", "d", 310),
    Act::LostRound,
    Act::Read("y", "c", 400),
    Act::Round,
    Act::Read("y", "c", 600),
    Act::Grant("x", &["e"]),
    Act::Read("x", "e", 700),
    Act::LostRound,
    Act::Read("y", "c", 900),
    Act::Grant("x", &["f"]),
    Act::Read("x", "f", 1000),
    Act::Round,
];

impl Act {
    /// False when the disk failed: the power is off.
    fn perform(&self, world: &mut World) -> bool {
        match *self {
            Self::Grant(metric, devices) => {
                let series: Vec<_> = devices.iter().map(|device| of(metric, device)).collect();
                let answers = world.ask(room(6), Kind::Gauge, &series);
                return answers.is_ok_and(|answers| answers.iter().all(Result::is_ok));
            }
            Self::Read(metric, device, from) => {
                let values: Vec<f64> = (0..9).map(|n| f64::from(n % 5) / 4.0).collect();
                world.read(&of(metric, device), from, &values);
            }
            Self::Round => return world.round().failed.is_empty(),
            Self::LostRound => {
                return world.store.begin_round(world.seq(), 1).write().failed.is_empty();
            }
        }
        true
    }
}

const STORY: Story<Act> = Story {
    policy: POLICY,
    acts: &ACTS,
    perform: Act::perform,
    files: &["feed.rrd"],
    may_count_anew: false,
};

#[test]
fn who_looks_for_silent_series_and_the_worker_wait_for_each_other_in_one_order() {
    const TIMES: u64 = 5_000;
    let mut world = World::new(POLICY);
    assert_eq!(world.has_room(4, "x", &["a", "b", "c", "d"]), [true; 4]);
    let Some((_, Frame::Grant(frame))) = world.frames.last().cloned() else { panic!("a grant") };
    let first = world.seq() + 1;
    let (store, policy) = (Arc::new(world.store), world.policy);
    let (done, both) = channel();
    let worker = (Arc::clone(&store), done.clone());
    spawn(move || {
        for seq in first..first + TIMES {
            worker.0.apply_grant(seq, &frame).unwrap();
        }
        worker.1.send(()).unwrap();
    });
    spawn(move || {
        let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
        let new = NewSeries { labels: of("x", "e"), kind: Kind::Gauge, first_reading: None };
        for _ in 0..TIMES {
            let series = std::slice::from_ref(&new);
            let request = GrantRequest { instance: WEB, policy: &policy, labels: &labels, series };
            let nothing = &mut |_: &_| -> Result<u64, Infallible> { panic!("nobody is silent") };
            let answers = store.grant_within(room(4), request, nothing).unwrap();
            assert_eq!(answers, [Err(Refusal::TooManySeries)]);
        }
        done.send(()).unwrap();
    });
    for _ in 0..2 {
        both.recv_timeout(Duration::from_mins(1)).expect("one waits for the other for ever");
    }
}

#[test]
fn in_the_end_a_series_is_gone_and_what_it_kept_is_there() {
    let world = STORY.end();
    let last = dump(&world.store);
    assert!(last.contains("other:x:avg") && last.contains("other:x:count"), "{last}");
    assert_eq!(world.find(&of("x", "d")), None);
}

#[test]
fn a_kill_at_any_moment_leaves_a_series_or_what_it_was_added_to() {
    STORY.survives_a_kill_at_any_moment();
}

#[test]
fn a_power_cut_at_any_moment_leaves_a_series_or_what_it_was_added_to() {
    STORY.survives_a_power_cut_at_any_moment();
}
