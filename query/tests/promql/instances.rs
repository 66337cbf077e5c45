//! Labels of instances: they join series when a query asks, and a change of them makes no series.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use query::{Expr, Limits};
use rrd::{
    Batch, GrantRequest, InstanceChange, InstanceId, Kind, Labels, MemDisk, NewSeries, Policy,
    Sample, SampleFrame, Store, Timestamp,
};

use crate::story::written;

/// A store, and the number of its last frame.
struct Fleet {
    store: Store,
    seq: u64,
}

impl Fleet {
    fn empty() -> Self {
        let (store, _) = Store::open(Arc::new(MemDisk::new()), Path::new("/archives"), 0).unwrap();
        Self { store, seq: 0 }
    }

    /// An instance that reports `load{core="0"}`, the same value for five minutes.
    fn add(&mut self, id: u128, instance: &[(&str, &str)], value: f64) {
        let labels = Labels::from_pairs(instance.iter().copied()).unwrap();
        let pairs = [("__name__", "load"), ("core", "0"), ("team", "of the sender")];
        let labels_of_series = Labels::from_pairs(pairs).unwrap();
        let new = NewSeries { labels: labels_of_series, kind: Kind::Gauge, first_reading: None };
        let policy = Policy::parse("1m:1h").unwrap();
        let id = InstanceId(id);
        let request =
            GrantRequest { instance: id, policy: &policy, labels: &labels, series: &[new] };
        let mut frames = Vec::new();
        let columns = self.store.grant(request, &mut |frame| {
            frames.push(frame.clone());
            Ok::<_, Infallible>(0)
        });
        let column = *columns.unwrap()[0].as_ref().unwrap();
        for frame in frames {
            self.seq += 1;
            self.store.apply_grant(self.seq, &frame).unwrap();
        }
        let sample = |minute: i64| Sample { column, at: Timestamp::from_secs(minute * 60), value };
        let samples = (0..=5).map(sample).collect();
        let frame = SampleFrame { instance: id, batch: Batch::default(), samples };
        self.seq += 1;
        self.store.apply(self.seq, Timestamp::from_secs(300), &frame);
    }

    fn relabel(&mut self, id: u128, instance: &[(&str, &str)]) {
        let labels = Labels::from_pairs(instance.iter().copied()).unwrap();
        let told = InstanceChange { id: InstanceId(id), labels: &labels, is_gone: false };
        self.seq += 1;
        self.store.apply_instance(self.seq, Timestamp::from_secs(300), told).unwrap();
    }

    #[track_caller]
    fn check(&self, expr: &str, expected: &str) {
        let at = Timestamp::from_secs(300);
        let answer = Expr::parse(expr).unwrap().instant(&self.store, at, &Limits::default());
        assert_eq!(written(&answer.unwrap().value), expected, "{expr}");
    }
}

const WEB_1: &[(&str, &str)] =
    &[("instance", "web-1"), ("job", "node"), ("role", "web"), ("region", "eu"), ("team", "a")];
const WEB_2: &[(&str, &str)] =
    &[("instance", "web-2"), ("job", "node"), ("role", "web"), ("region", "us"), ("team", "a")];
const DB_1: &[(&str, &str)] =
    &[("instance", "db-1"), ("job", "node"), ("role", "db"), ("region", "eu"), ("team", "b")];

fn fleet() -> Fleet {
    let mut fleet = Fleet::empty();
    for (id, labels, value) in [(1, WEB_1, 1.0), (2, WEB_2, 2.0), (3, DB_1, 4.0)] {
        fleet.add(id, labels, value);
    }
    fleet
}

#[test]
fn labels_of_an_instance_are_matched_and_grouped_by_like_those_of_a_series() {
    let fleet = fleet();
    for (expr, expected) in [
        (
            "load{instance=\"web-1\"} * 1",
            "{core=\"0\",instance=\"web-1\",job=\"node\",region=\"eu\",role=\"web\",team=\"a\"} 1",
        ),
        ("sum by (region) (load)", "{region=\"eu\"} 5; {region=\"us\"} 2"),
        (
            "sum by (role, core) (load{job=\"node\"})",
            "{core=\"0\",role=\"web\"} 3; {core=\"0\",role=\"db\"} 4",
        ),
        (
            "sum without (instance, region, team, core) (load)",
            "{job=\"node\",role=\"web\"} 3; {job=\"node\",role=\"db\"} 4",
        ),
        ("count(load{role=~\"web|mail\",region!=\"eu\"})", "{} 1"),
        (
            "max by (region) (avg_over_time(load{role!=\"db\"}[3m]))",
            "{region=\"eu\"} 1; {region=\"us\"} 2",
        ),
        ("count by (instance) (load > 1)", "{instance=\"web-2\"} 1; {instance=\"db-1\"} 1"),
        (
            "sum by (role) (load) / on(role) sum by (role) (load{region=\"eu\"})",
            "{role=\"web\"} 3; {role=\"db\"} 1",
        ),
        ("load{region=\"mars\"}", ""),
    ] {
        fleet.check(expr, expected);
    }
}

#[test]
fn a_forced_label_covers_what_the_sender_says() {
    let fleet = fleet();
    fleet.check("sum by (team) (load)", "{team=\"a\"} 3; {team=\"b\"} 4");
    fleet.check("count(load{team=\"of the sender\"})", "");
}

#[test]
fn a_changed_label_counts_for_all_that_was_ever_stored_and_makes_no_series() {
    let mut fleet = fleet();
    fleet.check("sum by (role) (load offset 3m)", "{role=\"web\"} 3; {role=\"db\"} 4");
    let moved = [("instance", "web-2"), ("job", "node"), ("role", "mail"), ("region", "us")];
    fleet.relabel(2, &moved);
    fleet.check(
        "sum by (role) (load offset 3m)",
        "{role=\"web\"} 1; {role=\"mail\"} 2; {role=\"db\"} 4",
    );
    fleet.check("count(load)", "{} 3");
    fleet.check("count(load{role=\"web\"})", "{} 1");
    // What the instance no longer covers is what the sender said.
    fleet.check("sum(load{team=\"of the sender\"})", "{} 2");
}
