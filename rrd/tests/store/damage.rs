//! Damaged files: an error or unknown rows, never a panic and never a wrong number.

use std::path::Path;

use rrd::{
    Batch, Column, Disk, GrantError, GrantRequest, Labels, MemDisk, Sample, SampleFrame, SeriesRef,
    Store,
};

use crate::world::{DIR, WEB, World, gauge, open, secs, span};

const POLICY: &str = "10s:5m,1m:20m;hb=1m";

/// A file after some rounds, and the store's readings of it: always the step's number.
pub(crate) fn content() -> (Vec<u8>, u64) {
    let mut world = World::new(POLICY);
    world.grant(&[gauge("a"), gauge("b")]).unwrap();
    for step in 1..=40_i64 {
        world.push(&[("a", step * 10, step as f64), ("b", step * 10, step as f64)]);
        if step % 9 == 0 {
            world.round();
        }
    }
    world.round();
    let file = world.disk.open(Path::new(&World::file_path())).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    (bytes, world.checkpoint)
}

pub(crate) fn disk_with(name: &str, bytes: &[u8]) -> MemDisk {
    let disk = MemDisk::new();
    let file = disk.create(&Path::new(DIR).join(name)).unwrap();
    file.write_at(bytes, 0).unwrap();
    disk
}

pub(crate) fn file_name() -> String {
    format!("{WEB}.rrd")
}

/// Every known row that is read is the number that was written; true if one is unknown.
#[track_caller]
pub(crate) fn check_rows(store: &Store, case: &str) -> bool {
    let mut is_unknown = false;
    for series in store.select(&[]) {
        let SeriesRef { instance, .. } = series.series;
        assert_eq!(instance, WEB);
        let rows = store.rows(series.series, 0, span(0, 1000));
        for (end, &value) in (rows.first_end.as_millis() / 10_000..).zip(&rows.average) {
            assert!(value.is_nan() || value == end as f64, "{case}: row {end} is {value}");
            is_unknown |= value.is_nan();
        }
        let rows = store.rows(series.series, 1, span(0, 1000));
        let mut end = rows.first_end.as_millis() / 10_000;
        for ((&average, &min), &max) in rows.average.iter().zip(&rows.min).zip(&rows.max) {
            let expected = [end as f64 - 2.5, end as f64 - 5.0, end as f64];
            let is_right = [average, min, max] == expected;
            assert!(average.is_nan() || is_right, "{case}: row {end}: {average} {min} {max}");
            is_unknown |= average.is_nan();
            end += 6;
        }
    }
    is_unknown
}

#[test]
fn a_whole_file_reads_without_damage() {
    let (bytes, upto) = content();
    let (store, damage) = open(&disk_with(&file_name(), &bytes), upto);
    assert_eq!(damage, []);
    assert!(!check_rows(&store, "whole"));
    assert_eq!(store.damage(), []);
}

#[test]
fn a_damaged_slot_is_not_said_to_have_another_where_there_is_none() {
    let (bytes, upto) = content();
    for (damaged, upto, has_other) in [
        (&[1024_usize][..], upto, true),
        (&[1536][..], upto, true),
        (&[1024, 1536][..], upto, false),
        (&[1024][..], 1, false),
        (&[1536][..], 1, false),
    ] {
        let mut bytes = bytes.clone();
        for at in damaged {
            bytes[*at] ^= 1;
        }
        let (store, damage) = open(&disk_with(&file_name(), &bytes), upto);
        let [damage] = &damage[..] else { panic!("{damaged:?}, {upto}: {damage:?}") };
        assert_eq!(damage.what.contains("the other one is used"), has_other, "{damage}");
        assert_eq!(damage.what.contains("no slot of it is valid"), !has_other, "{damage}");
        assert_eq!(store.instances().len(), usize::from(has_other));
    }
}

#[test]
fn a_file_cut_at_any_length_is_reported_and_left_in_its_place() {
    let (bytes, upto) = content();
    let dense = (0..2048).chain((2048..bytes.len()).step_by(97)).chain([bytes.len() - 1]);
    for len in dense {
        let disk = disk_with(&file_name(), &bytes[..len]);
        let (store, damage) = open(&disk, upto);
        assert_eq!(damage.len(), 1, "cut at {len}");
        assert_eq!(damage[0].instance, Some(WEB));
        assert!(damage[0].to_string().contains("restore") || len < 12, "{}", damage[0]);
        assert!(store.instances().is_empty());
        let left = disk.open(&Path::new(DIR).join(file_name())).unwrap().len().unwrap();
        assert_eq!(left, len as u64);
    }
}

#[test]
fn an_unusable_instance_is_granted_nothing() {
    let (store, _) = open(&disk_with(&file_name(), b"rubbish"), 0);
    let world = World::new(POLICY);
    let (labels, series) = (Labels::default(), [gauge("a")]);
    let request =
        GrantRequest { instance: WEB, policy: &world.policy, labels: &labels, series: &series };
    let refused = store.grant(request, &mut |_| Ok::<u64, ()>(1));
    assert!(matches!(refused, Err(GrantError::Unavailable(WEB))));
}

#[test]
fn foreign_and_misnamed_files_are_reported() {
    let (bytes, upto) = content();
    for (name, content, says) in [
        (file_name(), &b"SQLite format 3\0"[..], "shorter"),
        (file_name(), &vec![b'S'; 30_000][..], "not an archive"),
        (format!("{:032x}.rrd", 1), &bytes[..], "give it its name back"),
        ("hello.rrd".to_owned(), &bytes[..], "not the name of an archive"),
        (file_name(), &[], "shorter"),
    ] {
        let (store, damage) = open(&disk_with(&name, content), upto);
        assert_eq!(damage.len(), 1, "{name}");
        assert!(damage[0].to_string().contains(says), "{}", damage[0]);
        assert!(store.instances().is_empty());
    }
    let (_, damage) = open(&disk_with("notes.txt", b"mine"), upto);
    assert_eq!(damage, []);
}

#[test]
fn a_changed_bit_anywhere_is_unknown_or_unseen_and_never_a_wrong_number() {
    let (bytes, upto) = content();
    let mut noticed = 0;
    // A bit of every byte up to the first block, then bits all over it.
    let head = 20_480 * 8;
    let bits = (0..head).step_by(7).chain((head..bytes.len() * 8).step_by(13));
    for bit in bits {
        let mut broken = bytes.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let (store, _) = open(&disk_with(&file_name(), &broken), upto);
        let case = format!("bit {bit} (byte {})", bit / 8);
        let is_unknown = check_rows(&store, &case);
        if is_unknown {
            assert_ne!(store.damage(), [], "{case}: unknown rows without a word");
        }
        noticed += usize::from(!store.damage().is_empty());
    }
    assert!(noticed > 500, "{noticed}");
}

#[test]
fn samples_for_a_file_that_cannot_be_used_are_reported() {
    let (bytes, upto) = content();
    let (store, damage) = open(&disk_with(&file_name(), &bytes[..100]), upto);
    assert_eq!(damage.len(), 1);
    let batch = Batch { incarnation: 1, boot_id: 2, number: 99 };
    let sample = Sample { column: Column { index: 0, generation: 1 }, at: secs(500), value: 1.0 };
    let frame = SampleFrame { instance: WEB, batch, samples: vec![sample; 3] };
    for seq in 1..3 {
        assert_eq!(store.apply(upto + seq, secs(500), &frame).stale_generation, 3);
    }
    let damage: Vec<_> = store.damage().into_iter().skip(1).map(|damage| damage.what).collect();
    assert_eq!(damage, ["samples that the journal holds for it are not applied"]);
}
