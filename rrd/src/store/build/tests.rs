//! What is built opens as if a store had lived through it.

use super::*;
use crate::store::{Store, lock};
use crate::{GrantRequest, Kind, MemDisk, NewSeries, Sample, SampleFrame, Timestamp};

const WEB: InstanceId = InstanceId(0xfeed);

fn dump(store: &Store) -> String {
    let mut text = String::new();
    store.canonical_dump(&mut text).unwrap();
    text
}

/// A store with series in both cells, one of them unborn, and rings in their second lap.
fn lived(disk: &MemDisk, policy: &Policy) -> Store {
    let disk = Arc::new(disk.clone());
    let (store, _) = Store::open(disk, Path::new("/lived"), 0).unwrap();
    let series = |name: &str, kind| NewSeries {
        labels: Labels::from_pairs([("__name__", name)]).unwrap(),
        kind,
        first_reading: None,
    };
    let mut series: Vec<_> = (0..6).map(|n| series(&format!("gauge{n}"), Kind::Gauge)).collect();
    series.push(NewSeries { kind: Kind::Unknown, ..series[0].clone() });
    series[6].labels = Labels::from_pairs([("__name__", "wide")]).unwrap();
    let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
    let request = GrantRequest { instance: WEB, policy, labels: &labels, series: &series };
    let mut frame = None;
    let columns = store.grant(request, &mut |granted| {
        frame = Some(granted.clone());
        Ok::<u64, ()>(1)
    });
    let columns: Vec<_> = columns.unwrap().into_iter().map(Result::unwrap).collect();
    store.apply_grant(1, &frame.unwrap()).unwrap();
    for n in 1..200_i64 {
        let at = Timestamp::from_secs(n * 7 + if n > 150 { 500 } else { 0 });
        let value = f64::from(i32::try_from(n).unwrap()) / 3.0;
        let sample = |column: &Column| Sample { column: *column, at, value };
        let samples = columns[1..].iter().map(sample).collect();
        let batch = Batch { incarnation: 1, boot_id: 2, number: 3 };
        let seq = u64::try_from(n).unwrap() + 1;
        store.apply(seq, at, &SampleFrame { instance: WEB, batch, samples });
    }
    store
}

fn series_of(store: &Store) -> Vec<BuiltSeries> {
    let instance = store.instance(WEB).unwrap();
    let columns: Vec<_> = {
        let state = lock(&instance.state);
        let built = |series: crate::store::columns::Series<'_>| BuiltSeries {
            key: series.key.bytes().into(),
            generation: series.head.generation,
            definition: series.class.definition,
            cell: series.class.kept.cell,
            open: series.open(&state.form.grid),
            rows: Vec::new(),
            anchors: Vec::new(),
        };
        state.all_series().map(|series| (series.column(), built(series))).collect()
    };
    let form = Arc::clone(&lock(&instance.state).form);
    let rows = |column, archive| store.stored_rows(&instance, column, archive, None).0;
    columns
        .into_iter()
        .map(|(column, series)| {
            let archives = form.archives.iter().enumerate();
            let rows = archives.map(|(n, spec)| rows(column, n).to_runs(n, spec)).collect();
            BuiltSeries { rows, ..series }
        })
        .collect()
}

#[test]
fn a_built_file_opens_as_the_store_that_lived_through_it() {
    for text in ["10s:3m,1m:20m;hb=30s;last", "10s:1h;f64", "5s:2m,10s:10m,1h:9d"] {
        let disk = MemDisk::new();
        let policy = Policy::parse(text).unwrap();
        let store = lived(&disk, &policy);
        let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
        let batch = Batch { incarnation: 1, boot_id: 2, number: 3 };
        let (instance, policy, labels) = (WEB, &policy, &labels);
        let whole = Whole { instance, policy, labels, batch, seq: 200, epoch: 1 };
        let dir = Path::new("/built");
        let bytes = build(&disk, dir, &whole, series_of(&store)).unwrap();
        let info = store.info(WEB).unwrap();
        assert_eq!(bytes, info.file_len, "as large as grants would have made it");
        let path = dir.join(format!("{WEB}"));
        disk.rename(&path.with_extension("new"), &path.with_extension("rrd")).unwrap();
        disk.sync_dir(dir).unwrap();
        let disk = disk.crash(1);
        let (built, damage) = Store::open(Arc::new(disk), dir, 200).unwrap();
        assert_eq!(damage, [], "{text}");
        assert_eq!(dump(&built), dump(&store), "{text}");
        assert_eq!(built.damage(), [], "{text}");
    }
}

#[test]
fn rows_that_are_missing_are_unknown() {
    let disk = MemDisk::new();
    let policy = Policy::parse("10s:3m,1m:20m").unwrap();
    let mut series = series_of(&lived(&disk, &policy));
    series[1].rows[0].remove(3);
    series[1].rows[1].clear();
    let labels = Labels::default();
    let (instance, policy, labels) = (WEB, &policy, &labels);
    let whole = Whole { instance, policy, labels, batch: Batch::default(), seq: 9, epoch: 1 };
    let dir = Path::new("/built");
    build(&disk, dir, &whole, series).unwrap();
    let path = dir.join(format!("{WEB}"));
    disk.rename(&path.with_extension("new"), &path.with_extension("rrd")).unwrap();
    let (built, damage) = Store::open(Arc::new(disk), dir, 9).unwrap();
    assert_eq!(damage, []);
    let instance = built.instance(WEB).unwrap();
    let column = Column { index: 1, generation: 1 };
    let fine = built.stored_rows(&instance, column, 0, None).0;
    assert_eq!(fine.known.iter().map(|n| usize::from(*n == 0)).sum::<usize>(), 1);
    assert!(fine.average[3].is_nan());
    assert!(built.stored_rows(&instance, column, 1, None).0.known.iter().all(|n| *n == 0));
    assert_eq!(built.damage(), []);
}

#[test]
fn a_disk_without_room_is_left_as_it_was() {
    let disk = MemDisk::new();
    let policy = Policy::parse("10s:3m,1m:20m").unwrap();
    let series = series_of(&lived(&disk, &policy));
    disk.set_capacity(60_000);
    let labels = Labels::default();
    let (instance, policy, labels) = (WEB, &policy, &labels);
    let whole = Whole { instance, policy, labels, batch: Batch::default(), seq: 9, epoch: 1 };
    let refused = build(&disk, Path::new("/built"), &whole, series).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.list(Path::new("/built")).unwrap(), [] as [std::path::PathBuf; 0]);
}
