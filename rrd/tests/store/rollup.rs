//! Members of a role that come and go: what they have had outlives them, at any crash.

use std::convert::Infallible;
use std::sync::Arc;

use rrd::{
    Batch, Change, ChangeError, Disk, GrantRequest, InstanceId, Kind, Labels, MatchOp, Matcher,
    NewSeries, Policy, RollUp, RollUpFrame, RolledUp, Room, Sample, SampleFrame, Store,
};

use crate::moments::Story;
use crate::world::{DIR, Frame, World, dump, gauge, name, secs, shown, span};

const POLICY: &str = "10s:10m,1m:1h;hb=30s";
const ROLE: InstanceId = InstanceId(1);
const OTHER_ROLE: InstanceId = InstanceId(2);
const A: InstanceId = InstanceId(0xa);
const B: InstanceId = InstanceId(0xb);
const C: InstanceId = InstanceId(0xc);

fn role_labels() -> Labels {
    Labels::from_pairs([("job", "rollup"), ("role", "web")]).unwrap()
}

impl World {
    fn grant_of(&mut self, instance: InstanceId, policy: &str, series: &[NewSeries]) -> bool {
        let policy = Policy::parse(policy).unwrap();
        let labels = Labels::from_pairs([("instance", &*instance.to_string())]).unwrap();
        let request = GrantRequest { instance, policy: &policy, labels: &labels, series };
        let mut appended = Vec::new();
        let granted = self.store.grant(request, &mut |frame| {
            appended.push(frame.clone());
            Ok::<_, Infallible>(0)
        });
        for frame in appended {
            self.append(Frame::Grant(frame));
        }
        granted.is_ok()
    }

    /// Readings of one series, ten seconds apart from `from` on.
    fn push_of(&mut self, instance: InstanceId, series: &str, from: i64, values: &[f64]) {
        let column = self.store.resolve(instance, &name(series).to_key()).unwrap();
        let moments = (0..).map(|n| secs(from + 10 * n));
        let samples: Vec<_> =
            moments.zip(values).map(|(at, &value)| Sample { column, at, value }).collect();
        self.now = samples.last().map_or(self.now, |sample| sample.at).max(self.now);
        let batch = Batch { incarnation: 1, boot_id: 2, number: self.seq() };
        self.append(Frame::Samples(SampleFrame { instance, batch, samples }));
    }

    fn roll_up_within(
        &mut self,
        member: InstanceId,
        role: InstanceId,
        room: Room,
    ) -> Result<RolledUp, ChangeError<Infallible>> {
        let mut frames = Vec::new();
        let labels = role_labels();
        let wanted = RollUp { member, role, labels: &labels, room };
        let rolled_up = self.store.roll_up(wanted, &mut |frame| {
            frames.push(match frame {
                RollUpFrame::Grant(grant) => Frame::Grant(grant.clone()),
                RollUpFrame::Change(change) => Frame::Change(change.clone()),
            });
            Ok(0)
        });
        for frame in frames {
            self.append(frame);
        }
        rolled_up
    }

    fn roll_up(&mut self, member: InstanceId) -> Result<RolledUp, ChangeError<Infallible>> {
        self.roll_up_within(member, ROLE, Room::default())
    }

    /// Averages, minima, maxima and known steps of a series of the role.
    fn of_role(&self, series: &str, archive: usize, start: i64, end: i64) -> [String; 4] {
        let column = self.store.resolve(ROLE, &name(series).to_key()).unwrap();
        let series = rrd::SeriesRef { instance: ROLE, column };
        let rows = self.store.rows(series, archive, span(start, end));
        let known: Vec<_> = rows.known.iter().map(|&known| f64::from(known)).collect();
        [&rows.average, &rows.min, &rows.max, &known].map(|values| shown(values))
    }

    fn role_average(&self, series: &str, archive: usize, start: i64, end: i64) -> String {
        self.of_role(series, archive, start, end)[0].clone()
    }
}

/// Two members: one is there for two minutes and a half, the other for one from 60 s on.
fn two_members() -> World {
    let mut world = World::new(POLICY);
    for member in [A, B] {
        assert!(world.grant_of(member, POLICY, &[gauge("load")]));
    }
    world.push_of(A, "load", 10, &[2.0; 15]);
    world.push_of(B, "load", 70, &[4.0, 4.0, 4.0, 10.0, 4.0, 4.0]);
    world
}

#[test]
fn a_role_has_mean_extremes_and_count_of_members_that_are_gone() {
    let mut world = two_members();
    world.round();
    assert_eq!(world.roll_up(A).unwrap().series, 1);
    world.roll_up(B).unwrap();
    let check = |world: &World, when: &str| {
        let [mean, min, max, known] = world.of_role("role:load:avg", 1, 0, 240);
        assert_eq!(mean, "2 3.5 2", "{when}");
        assert_eq!((&*min, &*max, &*known), ("2 2 2", "2 10 2", "6 6 3"), "{when}");
        assert_eq!(world.role_average("role:load:count", 1, 0, 240), "1 2 0.5", "{when}");
        assert_eq!(world.role_average("role:load:avg", 0, 0, 120), "2 2 2 2 2 2 3 3 3 6 3 3");
        assert_eq!(world.role_average("role:load:count", 0, 50, 80), "1 2 2", "{when}");
        let matchers = [Matcher::new("role", MatchOp::Equal, "web").unwrap()];
        assert_eq!(world.store.select(&matchers).len(), 2, "{when}");
    };
    check(&world, "before the round");
    assert!(
        world.store.info(A).is_none() && world.store.info(B).is_none(),
        "they are gone at once"
    );
    world.round();
    check(&world, "after the round");
    assert_eq!(world.files(), ["1.rrd"], "one file is left");
    let disk = world.disk.crash(7);
    let (world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    check(&world, "after a restart");
}

#[test]
fn the_file_of_a_role_stays_as_long_as_it_is_however_many_members_go() {
    let mut world = World::new(POLICY);
    let mut len = None;
    for n in 0..20_u32 {
        let member = InstanceId(100 + u128::from(n));
        assert!(world.grant_of(member, POLICY, &[gauge("load"), gauge("idle")]));
        let from = i64::from(n) * 60 + 10;
        world.push_of(member, "load", from, &[f64::from(n); 6]);
        world.roll_up(member).unwrap();
        world.round();
        let role = world.store.info(ROLE).unwrap();
        assert_eq!(role.file_len, *len.get_or_insert(role.file_len));
    }
    assert_eq!(world.files(), ["1.rrd"]);
    let means = world.role_average("role:load:avg", 1, 0, 1200);
    let expected: Vec<f64> = (0..20).map(f64::from).collect();
    assert_eq!(means, shown(&expected), "each had its minute");
    assert_eq!(world.store.damage(), []);
}

#[test]
fn counters_leave_rates_and_members_of_other_archives_fit_in() {
    let mut world = World::new(POLICY);
    let total = |text| NewSeries { labels: name(text), kind: Kind::Total, first_reading: None };
    assert!(world.grant_of(A, POLICY, &[total("requests_total")]));
    let counts: Vec<f64> = (0..13).map(|n| 50.0 * f64::from(n)).collect();
    world.push_of(A, "requests_total", 0, &counts);
    world.roll_up(A).unwrap();
    assert_eq!(world.role_average("role:requests_total:rate_avg", 1, 0, 120), "5 5");
    // Steps of 5 s; its minutes are those of the role all the same.
    assert!(world.grant_of(B, "5s:10m,1m:1h;hb=30s", &[total("requests_total")]));
    let counts: Vec<f64> = (0..13).map(|n| 150.0 * f64::from(n)).collect();
    world.push_of(B, "requests_total", 0, &counts);
    world.roll_up(B).unwrap();
    for _ in 0..2 {
        assert_eq!(world.role_average("role:requests_total:rate_avg", 1, 0, 120), "10 10");
        assert_eq!(world.role_average("role:requests_total:rate_count", 1, 0, 120), "2 2");
        world.round();
    }
    // Steps of 7 s fit nowhere: it is refused, and stays as it is.
    assert!(world.grant_of(C, "7s:7m;hb=30s", &[gauge("load")]));
    world.push_of(C, "load", 0, &[1.0; 9]);
    let before = dump(&world.store);
    assert!(matches!(world.roll_up(C), Err(ChangeError::OtherStep { instance: ROLE, .. })));
    assert!(
        dump(&world.store).contains("series 0 1 {__name__=\"load\"}") || before.contains("load")
    );
    assert!(world.store.info(C).is_some());
}

#[test]
fn series_for_which_a_role_has_no_column_are_told() {
    let mut world = World::new(POLICY);
    let all: Vec<_> = (0..5).map(|n| gauge(&format!("m{n}"))).collect();
    assert!(world.grant_of(A, POLICY, &all));
    (0..4).for_each(|n| world.push_of(A, &format!("m{n}"), 0, &[1.0; 3]));
    let room = Room { most: 6, ..Room::default() };
    let rolled_up = world.roll_up_within(A, ROLE, room).unwrap();
    assert_eq!((rolled_up.series, rolled_up.left_out), (4, 1), "m4 never had a reading");
    world.round();
    assert_eq!(world.store.info(ROLE).unwrap().series_count, 6);
}

#[test]
fn a_member_stays_on_the_disk_until_its_role_could_be_written() {
    let mut world = two_members();
    world.round();
    world.roll_up(A).unwrap();
    let before = dump(&world.store);
    world.disk.fail_sync(format!("{DIR}/{ROLE}.next"));
    let report = world.round();
    let failed: Vec<_> = report.failed.iter().map(|(id, _)| *id).collect();
    assert_eq!(failed, [ROLE, A], "{report:?}");
    // As the server does with a file that fails: the round counts for the others.
    world.store.finish_round(world.seq());
    assert!(world.files().contains(&"a.rrd".to_owned()));
    assert_eq!(dump(&world.store), before);
    world.disk.heal();
    world.push_of(B, "load", 130, &[4.0]);
    assert_eq!(world.round().failed, []);
    assert_eq!(world.files(), ["1.rrd", "b.rrd"]);
    assert_eq!(world.role_average("role:load:avg", 1, 0, 180), "2 2 2");
}

/// The files of role and members failed, so that their frames were set aside and are applied one instance
/// after the other.
#[test]
fn frames_set_aside_add_the_same_members_in_any_order() {
    for order in [[A, B], [B, A]] {
        let mut world = two_members();
        world.round();
        let done = world.checkpoint;
        world.roll_up(A).unwrap();
        world.roll_up(B).unwrap();
        let expected = dump(&world.store);
        world.disk.fail_sync(format!("{DIR}/{ROLE}.next"));
        let failed: Vec<_> = world.round().failed.iter().map(|(id, _)| *id).collect();
        assert_eq!(failed, [ROLE, A, B]);
        world.disk.heal();
        let excepted = failed.into_iter().map(|id| (id, done)).collect();
        let disk: Arc<dyn Disk> = Arc::new(world.disk.kill());
        let dir = std::path::Path::new(DIR);
        let (store, damage) =
            Store::open_excepting(Arc::clone(&disk), dir, world.seq(), &excepted).unwrap();
        assert_eq!(damage, []);
        for id in [ROLE].into_iter().chain(order) {
            for (seq, (stamp, frame)) in
                (1..).zip(&world.frames).skip(usize::try_from(done).unwrap())
            {
                let owner = match frame {
                    Frame::Grant(grant) => grant.instance,
                    Frame::Change(change) => change.instance,
                    _ => continue,
                };
                if owner == id {
                    World::apply_to(&store, seq, *stamp, frame);
                }
            }
        }
        assert_eq!(dump(&store), expected, "{order:?}");
        let round = store.begin_round(world.seq() + 1, 1);
        assert_eq!(round.write().failed, []);
        store.finish_round(world.seq() + 1);
        assert_eq!(dump(&store), expected, "{order:?}");
        assert_eq!(disk.list(dir).unwrap().len(), 1, "{order:?}");
    }
}

#[test]
fn a_member_that_comes_while_the_round_writes_is_in_the_next_one() {
    let mut world = two_members();
    world.round();
    world.roll_up(A).unwrap();
    let seq = world.seq();
    let round = world.store.begin_round(seq, 1);
    // The frame was in the journal before the round began, and is applied after.
    let labels = role_labels();
    let change = rrd::ChangeFrame { instance: B, change: Change::RollUp(ROLE) };
    world.append(Frame::Labels(ROLE, labels));
    world.append(Frame::Change(change));
    let expected = dump(&world.store);
    assert_eq!(round.write().failed, []);
    world.checkpoint = seq;
    world.store.finish_round(seq);
    assert_eq!(dump(&world.store), expected);
    assert_eq!(world.files(), ["1.rrd", "b.rrd"]);
    let (mut again, damage) = {
        let disk = world.disk.kill();
        world.restarted(disk)
    };
    assert_eq!((damage, dump(&again.store)), (vec![], expected.clone()));
    again.round();
    assert_eq!(dump(&again.store), expected);
    assert_eq!(again.files(), ["1.rrd"]);
}

#[test]
fn a_second_change_of_a_role_waits_and_a_role_is_no_member_of_itself() {
    let mut world = two_members();
    world.roll_up(A).unwrap();
    let refused = |error: ChangeError<Infallible>| error.to_string();
    let again = refused(world.roll_up(A).unwrap_err());
    assert!(again.contains("no instance"), "{again}");
    let itself = refused(world.roll_up(ROLE).unwrap_err());
    assert!(itself.contains("itself"), "{itself}");
    let mut none = |_: &rrd::ChangeFrame| Ok::<_, Infallible>(0);
    for change in [Change::Remove, Change::Policy(Policy::parse("10s:9m").unwrap())] {
        let refused = refused(world.store.change(ROLE, change, &mut none).unwrap_err());
        assert!(refused.contains("being changed"), "{refused}");
    }
    world.roll_up_within(B, OTHER_ROLE, Room::default()).unwrap();
    world.round();
    assert_eq!(world.files(), ["1.rrd", "2.rrd"]);
}

/// What happens in the crash tests.
enum Act {
    Grant(InstanceId, &'static [&'static str]),
    Push(InstanceId, &'static str, i64),
    RollUp(InstanceId, InstanceId),
    Round,
    /// A round whose record the journal never got: it does not count.
    LostRound,
}

/// Members come, go into two roles, and come again.
const ACTS: [Act; 19] = [
    Act::Grant(A, &["x", "y"]),
    Act::Grant(B, &["x"]),
    Act::Grant(C, &["x", "y"]),
    Act::Push(A, "x", 0),
    Act::Push(B, "x", 0),
    Act::Push(C, "x", 0),
    Act::Round,
    Act::Push(A, "y", 90),
    Act::RollUp(A, ROLE),
    Act::Push(B, "x", 95),
    Act::LostRound,
    Act::RollUp(B, ROLE),
    Act::Round,
    Act::Grant(A, &["z"]),
    Act::Push(A, "z", 420),
    Act::RollUp(C, OTHER_ROLE),
    Act::LostRound,
    Act::RollUp(A, ROLE),
    Act::Round,
];

impl Act {
    /// False when the disk failed: the power is off.
    fn perform(&self, world: &mut World) -> bool {
        match *self {
            Self::Grant(member, names) => {
                let series: Vec<_> = names.iter().map(|name| gauge(name)).collect();
                return world.grant_of(member, POLICY, &series);
            }
            Self::Push(member, series, from) => {
                let values: Vec<f64> = (0..9).map(|n| f64::from(n % 5) / 4.0).collect();
                world.push_of(member, series, from, &values);
            }
            Self::RollUp(member, role) => {
                return world.roll_up_within(member, role, Room::default()).is_ok();
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
    files: &["1.rrd", "2.rrd"],
    may_count_anew: true,
};

#[test]
fn a_kill_at_any_moment_loses_nothing_of_a_member_and_counts_nothing_twice() {
    STORY.survives_a_kill_at_any_moment();
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_of_a_member_and_counts_nothing_twice() {
    STORY.survives_a_power_cut_at_any_moment();
}
