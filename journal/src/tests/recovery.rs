//! What a start finds.

use super::*;

#[test]
fn a_new_journal_holds_nothing_and_begins_with_a_tick() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    assert_eq!((opened.frames.len(), opened.damage.len()), (0, 0));
    assert_eq!(opened.checkpoint, Record::default());
    assert_eq!(opened.journal.epoch(), 1);
    let frames = opened.journal.next(PATIENCE);
    assert_eq!(frames.iter().map(|f| (f.seq, f.kind)).collect::<Vec<_>>(), [(1, TICK)]);
}

#[test]
fn acknowledged_frames_are_found_in_order_by_the_next_start() {
    let disk = MemDisk::new();
    let first = open(&disk);
    for body in [b"a".as_slice(), b"", &[7; 9000], b"d"] {
        first.append_durably(body);
    }
    let second = open(&disk.crash(1));
    assert_eq!(second.bodies(), [b"a".as_slice(), b"", &[7; 9000], b"d"]);
    assert_eq!(second.frames.iter().map(|f| f.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(second.journal.epoch(), 2);
    assert_eq!(second.append_durably(b"e"), 7, "6 is the tick of the new epoch");
}

#[test]
fn frames_up_to_the_checkpoint_are_not_handed_out() {
    let disk = MemDisk::new();
    let first = open(&disk);
    let seq = first.append_durably(b"a");
    first.append_durably(b"b");
    let excepted = vec![("web-1.rrd".to_owned(), 1)];
    let written = Record { seq, epoch: 1, excepted };
    first.journal.trim(written.clone()).unwrap();
    let second = open(&disk.crash(1));
    assert_eq!(second.checkpoint, written);
    assert_eq!(second.bodies(), [b"b"]);
}

#[test]
fn the_checkpoint_can_be_read_before_the_journal_is_opened() {
    let disk = MemDisk::new();
    assert_eq!(crate::checkpoint(&disk, Path::new(DIR)).unwrap(), Record::default());
    let opened = open(&disk);
    opened.journal.trim(record(1, 1)).unwrap();
    assert_eq!(crate::checkpoint(&disk, Path::new(DIR)).unwrap(), record(1, 1));
}

#[test]
fn numbers_go_on_above_the_floor_the_caller_names() {
    let disk = MemDisk::new();
    open(&disk).append_durably(b"a");
    let config = Config { floor: 1000, ..config() };
    let disk = disk.crash(1);
    let second = try_open(&disk, config).unwrap();
    assert_eq!(second.append_durably(b"b"), 1002);
    let third = open(&disk.crash(1));
    assert_eq!((third.bodies(), third.damage.len()), (vec![b"a".as_slice(), b"b"], 0));
}

#[test]
fn recycled_segments_hold_valid_frames_of_earlier_laps_which_are_not_found() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    // Three laps around the four segments, always the same bytes at the same places.
    for _ in 0..3 * 4 * 13 {
        let seq = opened.append_durably(&[7; 4000]);
        opened.journal.trim(record(seq, 1)).unwrap();
        opened.journal.next(Duration::ZERO);
    }
    let last = opened.append_durably(b"the last");
    let again = open(&disk.crash(3));
    assert_eq!(again.bodies(), [b"the last"]);
    assert_eq!(again.frames[0].seq, last);
    assert_eq!(again.damage, []);
}

#[test]
fn each_start_counts_as_an_epoch_and_all_are_replayed_as_one_log() {
    let mut disk = MemDisk::new();
    for round in 1..=20_u8 {
        let opened = open(&disk);
        assert_eq!(opened.journal.epoch(), u64::from(round));
        assert_eq!(opened.bodies().len(), usize::from(round) - 1);
        opened.append_durably(&[round]);
        disk = disk.crash(u64::from(round));
    }
    let opened = open(&disk);
    assert_eq!(opened.bodies().concat(), (1..=20).collect::<Vec<u8>>());
    assert!(opened.frames.is_sorted_by(|a, b| a.seq < b.seq && a.stamp <= b.stamp));
    assert_eq!(opened.damage, []);
}

#[test]
fn the_torn_end_of_an_old_epoch_beyond_a_newer_one_is_not_found() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    opened.append_durably(b"kept");
    // One commit of three blocks: with its first frame gone, the others are a torn end.
    let body = |byte| vec![byte; 5000];
    let range = opened.journal.append_all(&[(1, &body(1)), (1, &body(2)), (1, &body(3))]).unwrap();
    opened.journal.wait_durable(range.end - 1).unwrap();
    let disk = disk.kill();
    rot(&disk, 0, find(&disk, 0, &[1; 100]) + 4500);

    let second = open(&disk);
    assert_eq!((second.bodies(), &second.damage[..]), (vec![b"kept".as_slice()], &[][..]));
    assert_eq!(second.append_durably(b"new"), range.end + 1, "numbers seen are not given again");
    let third = open(&disk.kill());
    assert_eq!((third.bodies(), &third.damage[..]), (vec![b"kept".as_slice(), b"new"], &[][..]));
}

#[test]
fn a_hole_before_acknowledged_frames_is_reported_and_they_are_handed_out() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    let seqs = [b"frame a", b"frame b", b"frame c"].map(|body| opened.append_durably(body));
    let at = find(&disk, 0, b"frame b");
    rot(&disk, 0, at);
    let second = open(&disk.crash(1));
    assert_eq!(second.bodies(), [b"frame a", b"frame c"]);
    let expected =
        Damage { path: segment(0), offset: at - 56, after: seqs[0], resumes: Some(seqs[2]) };
    assert_eq!(second.damage, [expected]);
    let text = second.damage[0].to_string();
    assert!(text.contains("segment-000: unreadable from byte"), "{text}");
    assert!(text.ends_with("frames after 2 and before 4 are lost"), "{text}");
}

#[test]
fn a_hole_is_reported_until_a_checkpoint_has_passed_it() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    opened.append_durably(b"frame a");
    let last = opened.append_durably(b"frame b");
    rot(&disk, 0, find(&disk, 0, b"frame a"));
    let second = open(&disk.kill());
    assert_eq!(second.damage.len(), 1);
    drop(second);
    // The same image again, now with the second epoch behind the hole.
    let disk = disk.crash(0);
    let third = open(&disk);
    assert_eq!(third.damage.len(), 1);
    third.journal.trim(record(last, 3)).unwrap();
    assert_eq!(open(&disk.kill()).damage, []);
}

#[test]
fn damage_that_reaches_over_a_segments_end_is_reported() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    let seqs: Vec<u64> = (0..30).map(|byte| opened.append_durably(&[byte; 4000])).collect();
    let file = disk.open(&segment(0)).unwrap();
    let from = find(&disk, 0, &[10; 4000]);
    file.write_at(&vec![0xA5; usize::try_from(SEGMENT - from).unwrap()], from).unwrap();
    let second = open(&disk.kill());
    let [damage] = &second.damage[..] else { panic!("{:?}", second.damage) };
    assert_eq!(damage.after, seqs[9]);
    let resumes = damage.resumes.unwrap();
    let after = second.frames.iter().find(|frame| frame.seq > seqs[9]).unwrap();
    assert_eq!(after.seq, resumes);
    assert_eq!(second.frames.last().unwrap().body[0], 29);
}

#[test]
fn a_segment_without_a_readable_header_is_reported() {
    for (broken, resumes_known) in [(0, true), (1, true), (2, false)] {
        let disk = MemDisk::new();
        let opened = open(&disk);
        for byte in 0..28 {
            opened.append_durably(&[byte; 4000]);
        }
        rot(&disk, broken, 30);
        rot(&disk, broken, 4096 + 30);
        let second = open(&disk.kill());
        let [damage] = &second.damage[..] else { panic!("{broken}: {:?}", second.damage) };
        assert_eq!(damage.path, segment(broken));
        assert_eq!(damage.resumes.is_some(), resumes_known, "{broken}");
        assert!(second.bodies().len() >= 14, "{broken}");
    }
}

#[test]
fn one_rotten_header_copy_is_no_damage() {
    let disk = MemDisk::new();
    open(&disk).append_durably(b"a");
    rot(&disk, 0, 30);
    let second = open(&disk.kill());
    assert_eq!((second.bodies(), second.damage.len()), (vec![b"a".as_slice()], 0));
}

#[test]
fn a_body_that_looks_like_frames_is_only_a_body() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    opened.append_durably(b"a");
    let envelope = crate::frame::Envelope {
        seq: 4,
        epoch: 1,
        stamp: Timestamp::from_secs(1),
        follows: 3,
        kind: 16,
        body_len: 4,
    };
    let mut forged = Vec::new();
    for _ in 0..200 {
        envelope.encode(0, b"evil", &mut forged);
    }
    opened.append_durably(&forged);
    rot(&disk, 0, find(&disk, 0, &forged[..64]) - 30);
    let second = open(&disk.kill());
    assert_eq!(second.bodies(), [b"a"]);
}

#[test]
fn a_lost_segment_file_is_named() {
    for index in 0..4 {
        let disk = MemDisk::new();
        open(&disk).append_durably(b"a");
        let disk = disk.kill();
        disk.remove(&segment(index)).unwrap();
        let error = try_open(&disk, config()).err().unwrap();
        assert!(
            matches!(&error, JournalError::Missing(path) if *path == segment(index)),
            "{error}"
        );
    }
}

#[test]
fn the_size_of_an_existing_journal_stays() {
    let disk = MemDisk::new();
    open(&disk).append_durably(b"a");
    let larger = Config { segment_bytes: 4 * SEGMENT, segment_count: 9, ..config() };
    let second = try_open(&disk.kill(), larger).unwrap();
    assert_eq!(second.bodies(), [b"a"]);
    assert_eq!(second.journal.stats().capacity_bytes, 4 * (SEGMENT - 8192));
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    for (segment_bytes, segment_count) in [(4096, 4), (SEGMENT + 1, 4), (SEGMENT, 1), (2 << 30, 4)]
    {
        let config = Config { segment_bytes, segment_count, ..config() };
        let refused = try_open(&MemDisk::new(), config);
        assert!(matches!(refused, Err(JournalError::Config(_))));
    }
}

/// As a round does that must keep what it cannot write.
#[test]
fn frames_are_read_back_while_others_are_committed() {
    let disk = MemDisk::new();
    let opened = open(&disk);
    let mut expected = std::collections::VecDeque::new();
    let read_back = |after: u64, upto: u64| -> Vec<(u64, u8)> {
        let frames = opened.journal.reread(after).unwrap().map(Result::unwrap);
        let frames = frames.take_while(|frame| frame.seq <= upto);
        frames.map(|frame| (frame.seq, frame.body.first().copied().unwrap_or_default())).collect()
    };
    // Three laps around the four segments, always the last twenty frames not yet written.
    for turn in 0..150_u8 {
        let seq = opened.append_durably(&[turn; 4000]);
        expected.push_back((seq, turn));
        let (first, upto) = (expected[0].0, seq);
        std::thread::scope(|scope| {
            scope.spawn(|| opened.journal.append(1, &[255]));
            assert_eq!(
                read_back(first - 1, upto).iter().filter(|(_, byte)| *byte != 255).count(),
                expected.len(),
                "turn {turn}"
            );
        });
        let found = read_back(first - 1, upto);
        assert!(found.is_sorted_by(|a, b| a.0 + 1 == b.0), "none is missing: {found:?}");
        if expected.len() == 20 {
            let (written, _) = expected.pop_front().unwrap();
            opened.journal.trim(record(written, 1)).unwrap();
        }
        opened.journal.next(Duration::ZERO);
    }
}
