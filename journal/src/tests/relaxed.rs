//! Frames that are accepted once written: what a kill and a power cut may take of them.

use super::*;
use crate::{Durability, Refused};

fn relaxed(sync_every: Duration) -> Config {
    Config { durability: Durability::Relaxed { sync_every }, ..config() }
}

fn wait_accepted(journal: &Journal, seq: u64) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.accepted(seq)).is_ok()
}

/// Appends numbers until the disk stops; answers how many were accepted, and the last durable frame.
fn work(disk: &MemDisk, sync_every: Duration) -> (u32, u64) {
    let Ok(opened) = try_open(disk, relaxed(sync_every)) else { return (0, 0) };
    let mut accepted = 0;
    for number in 0..40_u32 {
        let body = [&number.to_le_bytes()[..], &vec![0xC5; number as usize * 613 % 3900]].concat();
        let seq = match opened.journal.append(1, &body) {
            Ok(seq) => seq,
            Err(Refused::Failed(_)) => break,
            Err(refused) => panic!("{refused}"),
        };
        if !wait_accepted(&opened.journal, seq) {
            break;
        }
        accepted = number + 1;
        read_all(&opened.journal);
    }
    (accepted, opened.journal.stats().committed)
}

fn numbers(opened: &Opened) -> Vec<u32> {
    let number = |body: &&[u8]| u32::from_le_bytes(*body.first_chunk().unwrap());
    opened.bodies().iter().map(number).collect()
}

#[test]
fn a_written_frame_is_accepted_and_the_worker_waits_for_its_sync() {
    let opened = try_open(&MemDisk::new(), relaxed(PATIENCE)).unwrap();
    let seq = opened.journal.append(1, b"a").unwrap();
    assert!(wait_accepted(&opened.journal, seq));
    assert_eq!(opened.journal.stats().committed, 1, "nothing but the opening tick");
    assert_eq!(bodies(&read_all(&opened.journal)), <[&[u8]; 0]>::default());
    opened.journal.close();
    assert_eq!(bodies(&opened.journal.next(PATIENCE)), [b"a"], "closing syncs");
}

#[test]
fn what_is_written_is_synced_in_time_though_nothing_follows() {
    let opened = try_open(&MemDisk::new(), relaxed(Duration::from_millis(1))).unwrap();
    let seq = opened.journal.append(1, b"a").unwrap();
    opened.journal.wait_durable(seq).unwrap();
}

#[test]
fn half_of_the_room_of_what_waits_is_synced_at_once() {
    let config = Config { pending_bytes: 20_000, ..relaxed(PATIENCE) };
    let opened = try_open(&MemDisk::new(), config).unwrap();
    let mut last = 0;
    for _ in 0..40 {
        last = opened.journal.append(1, &[0; 944]).unwrap();
        assert!(wait_accepted(&opened.journal, last));
    }
    assert!(opened.journal.stats().committed > last - 20, "{:?}", opened.journal.stats());
}

#[test]
fn after_a_failed_sync_nothing_is_accepted() {
    let disk = MemDisk::new();
    let opened = try_open(&disk, relaxed(Duration::from_millis(1))).unwrap();
    read_all(&opened.journal);
    disk.fail_sync(segment(0));
    let seq = opened.journal.append(1, b"a").unwrap();
    assert!(opened.journal.wait_durable(seq).is_err());
    assert!(matches!(opened.journal.append(1, b"b"), Err(Refused::Failed(_))));
    assert!(opened.journal.next(Duration::ZERO).is_empty());
}

#[test]
fn a_kill_takes_nothing_and_a_power_cut_only_what_came_after_the_last_sync() {
    for sync_every in [Duration::ZERO, PATIENCE] {
        let all = MemDisk::new();
        work(&all, sync_every);
        for cut in (0..=all.op_count()).step_by(3) {
            let disk = MemDisk::new();
            disk.stop_after(cut);
            let (accepted, committed) = work(&disk, sync_every);
            let story = format!("cut {cut}, a sync every {sync_every:?}");
            for (image, least) in [
                (disk.kill(), accepted),
                // The first epoch begins with a tick, so number n is frame n + 2.
                (disk.crash(cut), u32::try_from(committed).unwrap().saturating_sub(1)),
            ] {
                let found = open(&image);
                let numbers = numbers(&found);
                assert_eq!(found.damage, [], "{story}");
                assert_eq!(numbers, (0..40).take(numbers.len()).collect::<Vec<_>>());
                assert!(numbers.len() >= least as usize, "{story}: {} of {least}", numbers.len());
            }
        }
    }
}
