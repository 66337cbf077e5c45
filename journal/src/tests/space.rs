//! The fixed space: full, reserved, and used again for ever.

use super::*;
use crate::Refused;

/// Appends until refused; the number accepted and the refusal.
fn fill(opened: &Opened, reserved: bool) -> (usize, Refused) {
    for count in 0.. {
        let body = [0x5A; 4000];
        let journal = &opened.journal;
        let appended =
            if reserved { journal.append_reserved(1, &body) } else { journal.append(1, &body) };
        match appended {
            Ok(seq) => journal.wait_durable(seq).unwrap(),
            Err(refused) => return (count, refused),
        }
    }
    unreachable!()
}

#[test]
fn a_full_journal_refuses_samples_but_not_the_worker_until_the_reserve_is_used() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    let (samples, refused) = fill(&opened, false);
    assert_eq!(refused, Refused::Full);
    assert!(opened.journal.fill() > 0.9);
    let (control, refused) = fill(&opened, true);
    assert_eq!(refused, Refused::Full);
    assert!((3..=4).contains(&control), "a sixteenth of 56 blocks: {control}");

    // Even then it opens, and takes frames again after a checkpoint.
    let disk = disk.crash(1);
    let again = open(&disk);
    assert_eq!(again.bodies().len(), samples + control);
    assert_eq!(again.journal.append_reserved(1, b"x"), Err(Refused::Full));
    again.journal.trim(record(40, 2)).unwrap();
    again.append_durably(b"x");
    let frames = read_all(&again.journal);
    assert_eq!(frames.iter().map(|f| f.kind).collect::<Vec<_>>(), [TICK, 1]);
    let third = open(&disk.kill());
    assert_eq!((third.bodies().last(), third.damage.len()), (Some(&b"x".as_slice()), 0));
}

#[test]
fn after_each_checkpoint_the_space_is_used_again_for_many_laps() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    let files_before = disk.list(Path::new(DIR)).unwrap();
    let mut last = 0;
    for _ in 0..40 {
        let (count, refused) = fill(&opened, false);
        assert_eq!(refused, Refused::Full);
        assert!(count >= 30, "{count}");
        last = opened.journal.stats().committed;
        read_all(&opened.journal);
        opened.journal.trim(record(last, 1)).unwrap();
        assert!(opened.journal.fill() <= 0.25 + 1e-9);
    }
    assert!(last > 1000);
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), files_before);
    let again = open(&disk.crash(5));
    assert_eq!((again.frames.len(), again.damage.len()), (0, 0));
    assert_eq!(again.checkpoint.seq, last);
    assert_eq!(again.append_durably(b"x"), last + 2);
}

#[test]
fn a_group_is_appended_whole_or_not_at_all() {
    let opened = open(&MemDisk::new());
    let body = [1; 10_000];
    let group: Vec<(u8, &[u8])> = vec![(1, &body); 12];
    let mut accepted = 0;
    while let Ok(range) = opened.journal.append_all(&group) {
        assert_eq!(range.end - range.start, 12);
        opened.journal.wait_durable(range.end - 1).unwrap();
        accepted += 12;
    }
    assert_eq!(bodies(&read_all(&opened.journal)).len(), accepted);
    let seq = opened.append_durably(b"small");
    assert_eq!(seq, 2 + accepted as u64, "a refused group takes no numbers");
}

#[test]
fn a_body_over_the_limit_is_refused_with_the_limit() {
    let opened = open(&MemDisk::new());
    let Err(Refused::TooLarge { len, limit }) = opened.journal.append(1, &vec![0; 60_000]) else {
        panic!("it was accepted")
    };
    assert_eq!(len, 60_000);
    opened.append_durably(&vec![0; limit]);
}

#[test]
fn what_waits_for_the_worker_is_bounded() {
    let disk = MemDisk::new();
    let config = Config { unread_bytes: 8000, ..config() };
    let opened = try_open(&disk, config).unwrap();
    let mut accepted = 0;
    while let Ok(seq) = opened.journal.append(1, &[0; 944]) {
        opened.journal.wait_durable(seq).unwrap();
        accepted += 1;
    }
    assert_eq!(accepted, 7);
    assert_eq!(opened.journal.append(1, &[0; 944]), Err(Refused::Busy));
    read_all(&opened.journal);
    opened.append_durably(b"again");
}

#[test]
fn on_a_real_disk_it_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data/journal");
    let open = || {
        let disk: Arc<dyn Disk> = Arc::new(rrd::disk::OsDisk);
        Journal::open(disk, &dir, config(), clock()).unwrap()
    };
    let mut expected = Vec::new();
    for round in 0..5_u8 {
        let (journal, found) = open();
        let found = found.frames.collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(bodies(&found), expected);
        for byte in 0..30 {
            let seq = journal.append(1, &[round, byte, 0, 0].repeat(900)).unwrap();
            journal.wait_durable(seq).unwrap();
        }
        let committed = journal.stats().committed;
        journal.trim(record(committed, journal.epoch())).unwrap();
        let seq = journal.append(1, &[round]).unwrap();
        journal.wait_durable(seq).unwrap();
        expected = vec![vec![round]];
    }
}
