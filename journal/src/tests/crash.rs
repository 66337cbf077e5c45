//! Power cuts at every operation: what was acknowledged is there, in order, and nothing is invented.

use super::*;
use crate::Refused;

/// Appends of several sizes with a checkpoint now and then, enough to go around the segments. The
/// bodies say their number; returns the numbers acknowledged and all that were appended.
fn work(disk: &MemDisk) -> (Vec<u32>, u32, Record) {
    let mut acknowledged = Vec::new();
    let mut trimmed = Record::default();
    let Ok(opened) = try_open(disk, config()) else { return (acknowledged, 0, trimmed) };
    let mut appended = 0;
    for number in 0..70_u32 {
        let journal = &opened.journal;
        let group: Vec<Vec<u8>> = (0..=number % 3)
            .map(|part| body(appended + part, (number as usize * 1237) % 9000))
            .collect();
        let frames: Vec<(u8, &[u8])> = group.iter().map(|body| (1, &body[..])).collect();
        let range = match journal.append_all(&frames) {
            Ok(range) => range,
            Err(Refused::Failed(_)) => break,
            Err(refused) => panic!("{refused}"),
        };
        let first = appended;
        appended += u32::try_from(group.len()).unwrap();
        if journal.wait_durable(range.end - 1).is_err() {
            break;
        }
        acknowledged.extend(first..appended);
        read_all(journal);
        if number % 8 == 7 {
            let record = record(range.end - 2, journal.epoch());
            if journal.trim(record.clone()).is_err() {
                break;
            }
            trimmed = record;
        }
    }
    (acknowledged, appended, trimmed)
}

fn body(number: u32, len: usize) -> Vec<u8> {
    [&number.to_le_bytes()[..], &vec![0xC5; len]].concat()
}

fn number(body: &[u8]) -> u32 {
    u32::from_le_bytes(*body.first_chunk().unwrap())
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged_and_invents_nothing() {
    let all = MemDisk::new();
    work(&all);
    let op_count = all.op_count();
    assert!(op_count > 150, "{op_count}");
    for cut in 0..=op_count {
        for seed in [cut, cut + 1_000_000] {
            let disk = MemDisk::new();
            disk.stop_after(cut);
            let (acknowledged, appended, trimmed) = work(&disk);
            check(
                &disk.crash(seed),
                &acknowledged,
                appended,
                &trimmed,
                &format!("cut {cut} seed {seed}"),
            );
        }
        let disk = MemDisk::new();
        disk.stop_after(cut);
        let (acknowledged, appended, trimmed) = work(&disk);
        check(&disk.kill(), &acknowledged, appended, &trimmed, &format!("kill at {cut}"));
    }
}

#[track_caller]
fn check(disk: &MemDisk, acknowledged: &[u32], appended: u32, trimmed: &Record, story: &str) {
    let found = open(disk);
    assert_eq!(found.damage, [], "{story}");
    assert!(found.checkpoint.seq >= trimmed.seq, "{story}");
    let numbers: Vec<u32> = found.bodies().iter().map(|body| number(body)).collect();
    let first = numbers.first().copied().unwrap_or(0);
    let expected: Vec<u32> = (first..first + u32::try_from(numbers.len()).unwrap()).collect();
    assert_eq!(numbers, expected, "{story}: in order, without gaps");
    assert!(numbers.last().is_none_or(|last| *last < appended), "{story}: nothing invented");
    if let Some(last) = acknowledged.last() {
        // The first epoch begins with a tick, so frame n is number n - 2.
        let passed = (u32::try_from(found.checkpoint.seq).unwrap()).saturating_sub(1);
        let missing = (passed..=*last).find(|number| !numbers.contains(number));
        assert_eq!(missing, None, "{story}: acknowledged up to {last}");
    }
    // And it goes on, twice: the second start reads what the first has synced.
    let seq = found.append_durably(&body(appended, 10));
    let again = open(&disk.crash(7));
    assert_eq!(again.damage, [], "{story}");
    assert_eq!(again.frames.last().map(|frame| frame.seq), Some(seq), "{story}");
    assert_eq!(again.bodies().len(), numbers.len() + 1, "{story}");
}
