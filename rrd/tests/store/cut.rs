//! A live archive that is cut under its map: its readers get unknown rows, the others notice nothing.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rrd::{Batch, GrantRequest, InstanceId, Labels, OsDisk, Policy, Sample, SampleFrame, Store};

use crate::world::{gauge, secs, span};

const INSTANCES: u128 = 11;
const CUT: InstanceId = InstanceId(5);

/// Eleven instances with rows in their files, and a round behind them; the next frame's number.
fn fleet(dir: &Path) -> (Store, u64) {
    let (store, damage) = Store::open(Arc::new(OsDisk), dir, 0).unwrap();
    assert_eq!(damage, []);
    let policy = Policy::parse("10s:1h").unwrap();
    let mut seq = 0;
    for instance in (0..INSTANCES).map(InstanceId) {
        let (labels, series) = (Labels::default(), [gauge("a")]);
        let request = GrantRequest { instance, policy: &policy, labels: &labels, series: &series };
        let mut granted = None;
        let mut append = |frame: &rrd::GrantFrame| {
            granted = Some(frame.clone());
            Ok::<u64, ()>(1)
        };
        store.grant(request, &mut append).unwrap();
        seq += 1;
        store.apply_grant(seq, &granted.unwrap()).unwrap();
    }
    for n in 1..=300 {
        for instance in (0..INSTANCES).map(InstanceId) {
            seq += 1;
            push(&store, seq, instance, n);
        }
    }
    assert_eq!(store.begin_round(seq, 1).write().failed, []);
    store.finish_round(seq);
    (store, seq)
}

fn push(store: &Store, seq: u64, instance: InstanceId, n: i64) {
    let column = store.resolve(instance, &gauge("a").labels.to_key()).unwrap();
    let sample = Sample { column, at: secs(n * 10), value: n as f64 };
    let frame = SampleFrame { instance, batch: Batch::default(), samples: vec![sample] };
    assert_eq!(store.apply(seq, secs(n * 10), &frame).stored, 1);
}

/// Known rows of each instance, which are always the number of their step.
fn known(store: &Store) -> Vec<usize> {
    let of = |series: rrd::SeriesInfo| {
        let rows = store.rows(series.series, 0, span(0, 10_000));
        let known = (1..).zip(&rows.average).filter(|(_, value)| !value.is_nan());
        known.inspect(|&(n, &value)| assert_eq!(value, f64::from(n))).count()
    };
    store.select(&[]).into_iter().map(of).collect()
}

#[test]
fn a_live_archive_that_is_cut_is_set_apart_and_the_others_are_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut seq) = fleet(folder.path());
    let whole = known(&store);
    assert!(whole.iter().all(|&count| count >= 299), "{whole:?}");
    let path = folder.path().join(format!("{CUT}.rrd"));
    File::options().write(true).open(&path).unwrap().set_len(20_480).unwrap();

    let after = known(&store);
    for (instance, (before, after)) in (0..).map(InstanceId).zip(whole.iter().zip(&after)) {
        if instance == CUT {
            assert!(after < before, "rows of a file that is gone");
        } else {
            assert_eq!(before, after, "{instance}");
        }
    }
    let apart: Vec<_> = store.unavailable();
    assert_eq!(apart.len(), 1, "{apart:?}");
    assert_eq!(apart[0].instance, Some(CUT));
    assert!(apart[0].what.contains("20480 bytes") && apart[0].what.contains("restore"));
    assert!(store.damage().iter().all(|damage| damage.instance == Some(CUT)));

    // It is not written to, or it would have holes where its rows were.
    for instance in (0..INSTANCES).map(InstanceId) {
        seq += 1;
        push(&store, seq, instance, 301);
    }
    let report = store.begin_round(seq, 1).write();
    assert_eq!(report.failed.len(), 1, "{report:?}");
    assert_eq!((report.failed[0].0, report.files), (CUT, 10));
    store.finish_round(seq);
    assert!(store.is_unavailable(CUT));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 20_480);
}

#[test]
fn readers_of_an_archive_that_is_cut_meanwhile_all_live() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = fleet(folder.path());
    let path = folder.path().join(format!("{CUT}.rrd"));
    let is_cut = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // Once more than it takes, in case that all rows are still in memory.
                while !store.is_unavailable(CUT) && !is_cut.load(Ordering::Acquire) {
                    known(&store);
                }
                known(&store);
            });
        }
        File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
        is_cut.store(true, Ordering::Release);
    });
    assert_eq!(known(&store).len(), 11);
}
