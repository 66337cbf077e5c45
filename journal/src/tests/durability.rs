//! What an acknowledgement means, and what happens when the disk refuses.

use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, thread};

use rrd::disk::{File, WatchedDisk, Watcher};

use super::*;
use crate::{Failed, Refused};

#[test]
fn the_worker_gets_committed_frames_in_order() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    for byte in 0..50 {
        opened.journal.append(byte, &[byte]).unwrap();
    }
    opened.journal.wait_durable(51).unwrap();
    let frames = read_all(&opened.journal);
    assert_eq!(frames.iter().map(|f| f.seq).collect::<Vec<_>>(), (1..=51).collect::<Vec<_>>());
    assert!(frames[1..].iter().all(|frame| frame.body[..] == [frame.kind]));
    assert!(opened.journal.next(Duration::ZERO).is_empty());
}

#[test]
fn a_frame_that_is_not_synced_is_not_handed_out() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    read_all(&opened.journal);
    disk.fail_sync(segment(0));
    let seq = opened.journal.append(1, b"a").unwrap();
    let failed = opened.journal.wait_durable(seq).unwrap_err();
    assert!(failed.to_string().contains("segment-000"), "{failed}");
    assert!(opened.journal.next(Duration::ZERO).is_empty());
}

#[tokio::test]
async fn nobody_is_told_of_a_frame_that_is_not_synced() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    disk.fail_sync(segment(0));
    let seq = opened.journal.append(1, b"a").unwrap();
    assert!(opened.journal.durable(seq).await.is_err());
    assert!(opened.journal.accepted(seq).await.is_err());
    assert!(opened.journal.applied(seq).await.is_err());
}

#[test]
fn after_a_failed_sync_nothing_is_accepted_and_committed_frames_are_still_read() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    let kept = opened.append_durably(b"kept");
    disk.fail_sync(segment(0));
    let lost = opened.journal.append(1, b"lost").unwrap();
    assert!(opened.journal.wait_durable(lost).is_err());
    disk.heal();
    assert!(matches!(opened.journal.append(1, b"x"), Err(Refused::Failed(_))));
    assert!(matches!(opened.journal.append_reserved(1, b"x"), Err(Refused::Failed(_))));
    assert!(opened.journal.wait_durable(lost).is_err());
    assert_eq!(opened.journal.wait_durable(kept), Ok(()));
    assert_eq!(bodies(&read_all(&opened.journal)), [b"kept"]);
    opened.journal.trim(record(kept, 1)).unwrap();
    opened.journal.close();

    let again = open(&disk.crash(2));
    assert_eq!(again.checkpoint, record(kept, 1));
    assert!(again.bodies().iter().all(|body| body == b"lost"), "synced or not, but nothing else");
    again.append_durably(b"new");
}

#[test]
fn a_checkpoint_record_that_does_not_sync_stops_the_journal() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    let seq = opened.append_durably(b"a");
    disk.fail_sync(Path::new(DIR).join("checkpoint"));
    opened.journal.trim(record(seq, 1)).unwrap_err();
    disk.heal();
    opened.journal.trim(record(seq, 1)).unwrap_err();
    assert!(matches!(opened.journal.append(1, b"b"), Err(Refused::Failed(_))));
    let again = open(&disk.crash(1));
    assert!(again.checkpoint.seq == seq || again.bodies() == [b"a"], "the old record or the new");
}

#[test]
fn a_checkpoint_beyond_what_is_committed_or_before_the_last_is_refused() {
    let opened = open(&MemDisk::new());
    let seq = opened.append_durably(b"a");
    for wrong in [seq + 1, u64::MAX] {
        let error = opened.journal.trim(record(wrong, 1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    opened.journal.trim(record(seq, 1)).unwrap();
    assert!(opened.journal.trim(record(seq - 1, 1)).is_err());
    opened.append_durably(b"b");
}

#[test]
fn closing_commits_what_is_pending_and_ends_every_wait() {
    let disk = MemDisk::new();
    let slow = Config { commit_delay: PATIENCE, ..config() };
    let opened = try_open(&disk, slow).unwrap();
    let seq = opened.journal.append(1, b"a").unwrap();
    let waiter = {
        let journal = opened.journal.clone();
        thread::spawn(move || journal.wait_durable(seq + 1))
    };
    opened.journal.close();
    assert_eq!(opened.journal.wait_durable(seq), Ok(()));
    let closed = waiter.join().unwrap().unwrap_err();
    assert_eq!(closed, Failed { reason: "it was closed".into() });
    assert!(matches!(opened.journal.append(1, b"b"), Err(Refused::Failed(_))));
    assert_eq!(bodies(&opened.journal.next(PATIENCE)), [b"a"]);
    assert!(opened.journal.next(PATIENCE).is_empty(), "at once, not after the wait");
}

#[tokio::test]
async fn waiting_for_durable_and_applied_needs_no_thread_of_its_own() {
    let opened = open(&MemDisk::new());
    let seq = opened.journal.append(1, b"a").unwrap();
    opened.journal.durable(seq).await.unwrap();
    let worker = opened.journal.clone();
    let worker = thread::spawn(move || {
        while worker.stats().applied < seq {
            worker.next(PATIENCE).iter().for_each(|frame| worker.mark_applied(frame.seq));
        }
    });
    opened.journal.applied(seq).await.unwrap();
    worker.join().unwrap();
    opened.journal.close();
    assert!(opened.journal.applied(seq + 1).await.is_err());
    opened.journal.applied(seq).await.unwrap();
}

#[test]
fn stamps_do_not_fall_when_the_wall_clock_jumps_back() {
    let disk = MemDisk::new();
    let clock = clock();
    let open = |disk: &MemDisk| {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        Journal::open(disk, Path::new(DIR), config(), clock.clone()).unwrap()
    };
    let (journal, _) = open(&disk);
    journal.append(1, b"a").unwrap();
    clock.set_wall(Timestamp::from_secs(5));
    clock.advance(Duration::from_mins(1));
    let seq = journal.append(1, b"b").unwrap();
    journal.wait_durable(seq).unwrap();
    assert_eq!(journal.stats().ahead_of_wall_ms, 1_700_000_060_000 - 65_000);

    let (journal, found) = open(&disk.crash(1));
    let seq = journal.append(1, b"c").unwrap();
    journal.wait_durable(seq).unwrap();
    let old = found.frames.map(|frame| frame.unwrap().stamp);
    let new = read_all(&journal).into_iter().map(|frame| frame.stamp);
    let stamps: Vec<i64> =
        old.chain(new).map(|stamp| stamp.as_millis() - 1_700_000_000_000).collect();
    assert_eq!(stamps, [0, 0, 60_000, 60_000, 60_000]);
}

/// Counts syncs and lets each wait for its turn.
#[derive(Default)]
struct Gate {
    sync_count: AtomicU64,
    shut: std::sync::Mutex<bool>,
    changed: std::sync::Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.changed.notify_all();
    }

    fn pass(&self) {
        self.sync_count.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_all();
        drop(self.changed.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap());
    }

    fn wait_for_syncs(&self, count: u64) {
        let behind = |_: &mut bool| self.sync_count.load(Ordering::SeqCst) < count;
        let shut = self.shut.lock().unwrap();
        let woken = self.changed.wait_timeout_while(shut, PATIENCE, behind).unwrap();
        assert!(!woken.1.timed_out());
    }
}

impl Watcher for Gate {
    fn sync(&self, file: &dyn File) -> io::Result<()> {
        self.pass();
        file.sync_data()
    }
}

/// A journal whose disk syncs when the gate lets it.
fn gated(config: Config) -> (Journal, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let disk = Arc::new(WatchedDisk::new(MemDisk::new(), gate.clone()));
    let (journal, _) = Journal::open(disk, Path::new(DIR), config, clock()).unwrap();
    (journal, gate)
}

#[test]
fn frames_appended_during_a_sync_share_the_next_one() {
    let (journal, gate) = gated(config());
    let before = gate.sync_count.load(Ordering::SeqCst);
    gate.set(true);
    journal.append(1, b"first").unwrap();
    gate.wait_for_syncs(before + 1);
    let last = (0..100).map(|_| journal.append(1, b"more").unwrap()).max().unwrap();
    assert_eq!(journal.stats().committed, 1, "nothing but the opening tick");
    gate.set(false);
    journal.wait_durable(last).unwrap();
    assert_eq!(gate.sync_count.load(Ordering::SeqCst), before + 2);
}

#[test]
fn what_waits_for_the_disk_is_bounded_with_some_more_for_the_reserved() {
    let (journal, gate) = gated(Config { pending_bytes: 20_000, ..config() });
    gate.set(true);
    let appended = (0..100).map_while(|_| journal.append(1, &[0; 944]).ok()).count();
    assert_eq!(appended, 20);
    assert_eq!(journal.append(1, &[0; 944]), Err(Refused::Busy));
    assert_eq!((0..100).map_while(|_| journal.append_reserved(1, &[0; 944]).ok()).count(), 5);
    gate.set(false);
    journal.wait_durable(26).unwrap();
    journal.append(1, b"again").unwrap();
}

#[test]
fn space_is_free_only_when_the_checkpoints_record_is_synced() {
    let (journal, gate) = gated(config());
    let mut last = 0;
    let refused = loop {
        match journal.append(1, &[0; 9000]) {
            Ok(seq) => last = seq,
            Err(refused) => break refused,
        }
        journal.wait_durable(last).unwrap();
    };
    assert_eq!(refused, Refused::Full);
    let before = gate.sync_count.load(Ordering::SeqCst);
    gate.set(true);
    let trimmer = {
        let journal = journal.clone();
        thread::spawn(move || journal.trim(record(last, journal.epoch())))
    };
    gate.wait_for_syncs(before + 1);
    assert_eq!(journal.append(1, &[0; 9000]), Err(Refused::Full));
    gate.set(false);
    trimmer.join().unwrap().unwrap();
    journal.append(1, &[0; 9000]).unwrap();
}
