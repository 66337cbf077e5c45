//! A collector that is away for a day: what the agent keeps meanwhile, and what arrives then.

use std::path::Path;
use std::time::Duration;

use rrd::Timestamp;
use rrd::disk::{Disk, MemDisk};

use super::{enrolled, reply, taken};
use crate::agent::dictionary::Dictionary;
use crate::agent::reading::Readings;
use crate::agent::session::{Moment, Next, Session, Start, Unreachable};
use crate::agent::spool::{Life, Queue, SPOOL_BYTES, Spool};
use crate::native::PushAnswer;

const SERIES: u32 = 90;
const DAY_S: u64 = 86_400;
const STEP_S: u64 = 10;

fn session(disk: &MemDisk) -> Session {
    let life = Life { boot_id: 1, step_ms: STEP_S * 1000, salt: 3 };
    let mut dictionary = Dictionary::default();
    let queue = Queue::open(disk, Path::new("state"), SPOOL_BYTES, life, &mut dictionary).unwrap();
    Session::new(Start { spool: Spool::of(queue), dictionary, ..enrolled(Timestamp::from_secs(0)) })
}

/// What series `id` says at a second.
fn value(id: u32, second: u64) -> f64 {
    let second = f64::from(u32::try_from(second).unwrap());
    if id.is_multiple_of(3) { f64::from(id) } else { second.sin() * f64::from(id) }
}

fn look(session: &mut Session, second: u64) {
    let mut readings = Readings::default();
    for id in 0..SERIES {
        readings.gauge("m", &[("n", &id.to_string())], value(id, second));
    }
    session.take(Timestamp::from_secs(second.cast_signed()), &readings);
}

#[test]
fn a_day_without_the_collector_costs_no_reading() {
    let disk = MemDisk::new();
    let mut session = session(&disk);
    let (mut tries, mut waited_s) = (0, 0);
    for second in (0..DAY_S).step_by(10) {
        let (now, wall) = (Duration::from_secs(second), Timestamp::from_secs(second.cast_signed()));
        look(&mut session, second);
        while let Next::Push(_) = session.next(now, wall) {
            tries += 1;
            let away = Err(Unreachable("connection refused".into()));
            session.push_answered(away, Moment { now, random: u64::MAX, wall_ms: 0 }).unwrap();
        }
        waited_s += STEP_S;
        let is_time = waited_s.is_multiple_of(60);
        if let Some(file) = session.spool().queue().take_unsynced(is_time) {
            file.sync_data().unwrap();
        }
    }
    assert!(tries < DAY_S / 50, "{tries} requests to a collector that is away");
    let bytes = disk.open(Path::new("state/spool")).unwrap().len().unwrap();
    assert!(bytes <= (64 << 20) + 4096, "{bytes} bytes");
    let waiting = session.spool().byte_count();
    assert!(waiting < 16 << 20, "a day takes {waiting} bytes");

    // The collector is back: everything in order, each value bit by bit, each moment once.
    let now = Duration::from_secs(DAY_S + 100);
    let wall = Timestamp::from_secs(DAY_S.cast_signed() + 100);
    let (mut expected_s, mut series) = (0, Vec::new());
    while let Next::Push(push) = session.next(now, wall) {
        for entry in &push.dictionary {
            assert_eq!(usize::try_from(entry.id).unwrap(), series.len());
            series.push(entry.labels[1].1.parse::<u32>().unwrap());
        }
        for reading in &push.readings {
            let second = u64::try_from(reading.at_ms / 1000).unwrap();
            assert_eq!((second, reading.values.len()), (expected_s, SERIES as usize));
            expected_s += STEP_S;
            for (id, found) in &reading.values {
                let id = series[usize::try_from(*id).unwrap()];
                assert_eq!(found.to_bits(), value(id, second).to_bits(), "{id} at {second}");
            }
        }
        let answer = PushAnswer { server_ms: push.sent_ms, ..taken(push.number, push.number) };
        let at = Moment { now, random: 0, wall_ms: 0 };
        session.push_answered(Ok(reply(200, &answer)), at).unwrap();
    }
    assert_eq!(expected_s, DAY_S, "every look arrived");
    assert_eq!(session.spool().byte_count(), 0);
}
