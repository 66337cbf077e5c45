//! A collector that is away for a day: what the agent keeps meanwhile, and what arrives then.

use std::path::Path;
use std::time::Duration;

use rrd::Timestamp;
use rrd::disk::{Disk, MemDisk};

use crate::agent::Secret;
use crate::agent::backoff::Backoff;
use crate::agent::clock::Timeline;
use crate::agent::credential::Credential;
use crate::agent::dictionary::Dictionary;
use crate::agent::reading::Readings;
use crate::agent::session::{Moment, Next, Reply, Session, Start, Unreachable};
use crate::agent::spool::{Life, Queue, SPOOL_BYTES, Spool};
use crate::native::{Position, Push, PushAnswer};

const SERIES: u32 = 90;
const DAY_S: u64 = 86_400;
const STEP_S: u64 = 10;

fn session(disk: &MemDisk) -> Session {
    let life = Life { boot_id: 1, step_ms: STEP_S * 1000, salt: 3 };
    let mut dictionary = Dictionary::default();
    let queue = Queue::open(disk, Path::new("state"), SPOOL_BYTES, life, &mut dictionary).unwrap();
    Session::new(Start {
        incarnation: 1,
        credential: Some(Credential { instance: 1, secret: Secret::new("x"), step: None }),
        may_enrol: false,
        backoff: Backoff::new(Duration::from_secs(1), Duration::from_mins(1)),
        spool: Spool::of(queue),
        dictionary,
        timeline: Timeline::start(Timestamp::from_secs(0), Duration::ZERO),
        poll: None,
    })
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

fn taken(push: &Push) -> Reply {
    let at = Position { log_epoch: 1, seq: push.number };
    let answer = PushAnswer {
        accepted: at,
        durable: at,
        samples: 0,
        server_ms: push.sent_ms,
        refused: Vec::new(),
        refused_samples: 0,
    };
    Reply { status: 200, retry_after: None, body: serde_json::to_vec(&answer).unwrap() }
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
            session.push_answered(away, Moment { now, random: u64::MAX }).unwrap();
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
        session.push_answered(Ok(taken(&push)), Moment { now, random: 0 }).unwrap();
    }
    assert_eq!(expected_s, DAY_S, "every look arrived");
    assert_eq!(session.spool().byte_count(), 0);
}
