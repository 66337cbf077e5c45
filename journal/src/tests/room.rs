//! Room promised before an append: not twice, and whoever waits for it is woken.

use std::task::{Context, Waker};

use super::*;
use crate::{Failed, Refused, Room};

/// Of 57 blocks without the reserve, an eighth is the most that one promise takes.
const LARGE: usize = 7 * 4096;

/// Appends until there is no room for `bytes`.
fn fill(journal: &Journal, bytes: usize) {
    while journal.check_room(bytes).is_ok() {
        let seq = journal.append(1, &[0x5A; 4000]).unwrap();
        journal.wait_durable(seq).unwrap();
    }
}

/// One look at whether the room that is waited for is there.
fn look(room: std::pin::Pin<&mut impl Future<Output = Result<Room, Failed>>>) -> bool {
    room.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn what_is_promised_is_not_promised_again() {
    let opened = open(&MemDisk::new());
    let journal = &opened.journal;
    let mut rooms: Vec<Room> = std::iter::from_fn(|| journal.try_room(LARGE).ok()).collect();
    assert_eq!((rooms.len(), journal.try_room(LARGE).err()), (7, Some(Refused::Full)));
    rooms.pop();
    assert!(journal.try_room(LARGE).is_ok());
}

#[test]
fn what_is_promised_can_be_appended() {
    let opened = open(&MemDisk::new());
    let journal = &opened.journal;
    fill(journal, LARGE);
    read_all(journal);
    journal.trim(record(journal.stats().committed, 1)).unwrap();
    let _room = journal.try_room(LARGE).unwrap();
    fill(journal, 4096);
    let seq = journal.append_all(&[(1, &[0; 12 << 10])]).unwrap().start;
    journal.wait_durable(seq).unwrap();
}

#[tokio::test]
async fn a_checkpoint_wakes_who_waits_for_room() {
    let opened = open(&MemDisk::new());
    let journal = opened.journal.clone();
    fill(&journal, LARGE);
    read_all(&journal);
    let waiting = tokio::spawn({
        let journal = journal.clone();
        async move { journal.room(LARGE).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    journal.trim(record(journal.stats().committed, 1)).unwrap();
    let woken = tokio::time::timeout(PATIENCE, waiting).await;
    assert_eq!(woken.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn the_worker_wakes_who_waits_for_room_in_memory() {
    let few = Config { unread_bytes: 16 << 10, ..config() };
    let opened = try_open(&MemDisk::new(), few).unwrap();
    let journal = opened.journal.clone();
    fill(&journal, 2048);
    assert_eq!(journal.check_room(2048), Err(Refused::Busy));
    let waiting = tokio::spawn({
        let journal = journal.clone();
        async move { journal.room(2048).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    read_all(&journal);
    let woken = tokio::time::timeout(PATIENCE, waiting).await;
    assert_eq!(woken.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn a_promise_that_is_given_up_wakes_the_next() {
    let opened = open(&MemDisk::new());
    let journal = opened.journal.clone();
    let mut rooms: Vec<Room> = std::iter::from_fn(|| journal.try_room(LARGE).ok()).collect();
    let mut waiting = std::pin::pin!(journal.room(LARGE));
    assert!(!look(waiting.as_mut()));
    rooms.pop();
    assert!(tokio::time::timeout(PATIENCE, waiting).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_journal_that_stops_lets_nobody_wait() {
    let broken = |disk: &MemDisk, journal: &Journal| {
        disk.fail_sync(segment(0));
        journal.append_reserved(1, b"x").unwrap();
    };
    for stop in [broken, |_: &MemDisk, journal: &Journal| journal.close()] {
        let disk = MemDisk::new();
        let opened = open(&disk);
        let journal = &opened.journal;
        let _rooms: Vec<Room> = std::iter::from_fn(|| journal.try_room(LARGE).ok()).collect();
        let mut waiting = std::pin::pin!(journal.room(LARGE));
        assert!(!look(waiting.as_mut()));
        stop(&disk, journal);
        assert!(tokio::time::timeout(PATIENCE, waiting).await.unwrap().is_err());
    }
}
