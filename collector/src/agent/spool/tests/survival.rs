//! A spool on a disk that loses power, a process that is killed, a disk that fails or is full.

use std::path::Path;

use fixtures::dice::Dice;
use rrd::Kind;
use rrd::disk::{Disk, MemDisk};

use super::super::{Life, Queue, Spool};
use super::{LIFE, entry, gauges, reading};
use crate::agent::dictionary::Dictionary;
use crate::native::{Position, Reading};

const SEGMENTS_BYTES: usize = 4 << 20;

/// A spool on a disk, as one process has it.
struct Process {
    spool: Spool,
    dictionary: Dictionary,
}

impl Process {
    fn on(disk: &MemDisk, life: Life, series_count: u32) -> Self {
        let mut dictionary = Dictionary::default();
        let dir = Path::new("state");
        let queue = Queue::open(disk, dir, SEGMENTS_BYTES, life, &mut dictionary).unwrap();
        for id in 0..series_count {
            dictionary.adopt(&entry(id, Kind::Gauge)).unwrap();
        }
        Self { spool: Spool::of(queue), dictionary }
    }

    fn push(&mut self, at_ms: i64, values: &[f64]) {
        let ids = (0..).map(|id| entry(id, Kind::Gauge)).zip(values);
        let values = ids.map(|(entry, value)| (self.dictionary.adopt(&entry).unwrap(), *value));
        let reading = Reading { at_ms, values: values.collect() };
        self.spool.push(&reading, &self.dictionary);
    }

    /// All that waits, in the order it is sent: moments and values by the series' label.
    fn drain(&mut self) -> Vec<(i64, Vec<(String, f64)>)> {
        let mut all = Vec::new();
        while let Some(batch) = self.spool.next(&mut self.dictionary) {
            let number = batch.number;
            let readings = batch.readings.clone();
            for reading in readings {
                let label = |id| self.dictionary.entry(id).unwrap().labels[1].1.clone();
                let values = reading.values.iter().map(|(id, value)| (label(*id), *value));
                all.push((reading.at_ms, values.collect()));
            }
            let at = Position { log_epoch: 1, seq: number };
            self.spool.accept(number, at, at);
        }
        all
    }

    fn sync(&mut self) {
        if let Some(file) = self.spool.queue().take_unsynced(true) {
            file.sync_data().unwrap();
        }
    }
}

fn values(at: i64) -> Vec<f64> {
    let base = f64::from(i32::try_from(at).unwrap());
    (0..5).map(|id| base * 10.0 + f64::from(id)).collect()
}

/// What is sent of the reading at `at`.
fn said(at: i64) -> (i64, Vec<(String, f64)>) {
    (at, (0..5).map(|id: i32| id.to_string()).zip(values(at)).collect())
}

#[test]
fn what_a_killed_process_had_not_sent_is_sent_by_the_next() {
    let disk = MemDisk::new();
    let mut first = Process::on(&disk, LIFE, 0);
    for at in 0..10 {
        first.push(at, &values(at));
    }
    // The first batch arrives, the answer to the second does not.
    first.spool.next(&mut first.dictionary);
    let here = Position { log_epoch: 1, seq: 1 };
    first.spool.accept(1, here, here);
    for at in 10..15 {
        first.push(at, &values(at));
    }
    first.spool.next(&mut first.dictionary);
    let mut second = Process::on(&disk.kill(), Life { salt: 8, ..LIFE }, 3);
    second.push(15, &values(15));
    assert_eq!(second.drain(), (10..16).map(said).collect::<Vec<_>>());
}

#[test]
fn readings_of_an_earlier_boot_travel_under_its_name() {
    let disk = MemDisk::new();
    Process::on(&disk, LIFE, 0).push(1, &values(1));
    let mut second = Process::on(&disk.kill(), Life { boot_id: 0xb008, ..LIFE }, 0);
    second.push(2, &values(2));
    let mut boots = Vec::new();
    while let Some(batch) = second.spool.next(&mut second.dictionary) {
        boots.push((batch.number, batch.boot_id, batch.readings[0].at_ms));
        let (number, at) = (batch.number, Position { log_epoch: 1, seq: batch.number });
        second.spool.accept(number, at, at);
    }
    assert_eq!(boots, [(1, 0xb007, 1), (2, 0xb008, 2)]);
}

#[test]
fn a_process_that_starts_often_does_not_use_up_the_spool() {
    let mut disk = MemDisk::new();
    for at in 0..50_i64 {
        Process::on(&disk, Life { salt: at.cast_unsigned(), ..LIFE }, 0).push(at, &values(at));
        disk = disk.kill();
    }
    assert_eq!(Process::on(&disk, LIFE, 0).drain(), (0..50).map(said).collect::<Vec<_>>());
}

#[test]
fn a_power_cut_leaves_all_that_was_synced_and_nothing_that_was_not_read() {
    for seed in 0..40 {
        let mut dice = Dice::new(seed);
        let mut disk = MemDisk::new();
        // Moments that are in the spool, and those of them that no power cut may take.
        let (mut there, mut safe) = (Vec::new(), Vec::new());
        let (mut at, mut acknowledged) = (0, 0);
        for life in 0..4 {
            let life = Life { salt: seed * 10 + life, ..LIFE };
            let mut process = Process::on(&disk, life, 0);
            for _ in 0..dice.number() % 40 {
                at += 1;
                process.push(at, &values(at));
                there.push(at);
                if dice.once_in(9) {
                    process.sync();
                    safe.clone_from(&there);
                }
                if dice.once_in(12) {
                    process.drain();
                    acknowledged = at;
                }
            }
            let is_cut = dice.once_in(2);
            disk = if is_cut { disk.crash(dice.number()) } else { disk.kill() };
            let mut found = Process::on(&disk.kill(), life, 0).drain();
            disk = disk.kill();
            found.retain(|(at, _)| *at > acknowledged);
            let expected: Vec<_> = found.iter().map(|(at, _)| said(*at)).collect();
            assert_eq!(found, expected, "seed {seed}: readings as they were made");
            let moments: Vec<i64> = found.iter().map(|(at, _)| *at).collect();
            assert!(moments.is_sorted(), "seed {seed}: {moments:?}");
            let must = if is_cut { &safe } else { &there };
            let missing = must.iter().find(|at| **at > acknowledged && !moments.contains(at));
            assert_eq!(missing, None, "seed {seed}: it has {moments:?}");
            if is_cut {
                safe.clone_from(&moments);
            }
            there = moments;
        }
    }
}

#[test]
fn a_disk_without_room_says_so_before_anything_is_taken() {
    let disk = MemDisk::new();
    disk.set_capacity(3 << 20);
    let opened =
        Queue::open(&disk, Path::new("state"), SEGMENTS_BYTES, LIFE, &mut Dictionary::default());
    assert_eq!(opened.err().map(|error| error.kind()), Some(std::io::ErrorKind::StorageFull));
    assert!(disk.open(Path::new("state/spool")).is_err(), "nothing half reserved is left");
}

#[test]
fn a_disk_that_fails_is_left_and_readings_go_on_in_memory() {
    let disk = MemDisk::new();
    let mut process = Process::on(&disk, LIFE, 5);
    process.push(1, &values(1));
    assert_eq!(process.drain(), [said(1)]);
    disk.stop_after(0);
    for at in 2..5 {
        process.push(at, &values(at));
    }
    assert_eq!(process.drain(), (2..5).map(said).collect::<Vec<_>>());
}

#[test]
fn another_size_keeps_what_waits() {
    let disk = MemDisk::new();
    Process::on(&disk, LIFE, 0).push(1, &values(1));
    let disk = disk.kill();
    for megabytes in [8, 5] {
        let dir = Path::new("state");
        let mut dictionary = Dictionary::default();
        let queue = Queue::open(&disk, dir, megabytes << 20, LIFE, &mut dictionary).unwrap();
        let mut spool = Spool::of(queue);
        assert_eq!(spool.next(&mut dictionary).unwrap().readings[0].at_ms, 1, "{megabytes} MiB");
    }
    let bytes = disk.open(Path::new("state/spool")).unwrap().len().unwrap();
    assert_eq!(bytes, 4096 + (8 << 20), "it grows and does not shrink");
}

#[test]
fn a_series_whose_labels_fill_a_segment_is_dropped_alone() {
    let mut dictionary = gauges(1);
    let mut long = entry(1, Kind::Gauge);
    long.labels[1].1 = "x".repeat(2 << 20);
    assert_eq!(dictionary.adopt(&long), Some(1));
    dictionary.adopt(&entry(2, Kind::Gauge)).unwrap();
    let mut spool = Spool::of(Queue::in_memory(0, LIFE));
    spool.push(&reading(1, &[1.0, 2.0, 3.0]), &dictionary);
    let batch = spool.next(&mut dictionary).unwrap();
    assert_eq!(batch.readings[0].values, [(0, 1.0), (2, 3.0)]);
    assert_eq!(spool.losses().dropped, 1);
}
