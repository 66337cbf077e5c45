//! Tests of the agent as a whole: its conversation as timelines, at random, and over real connections.

mod collector;
mod loopback;
mod outage;
mod simulation;
mod timelines;

use std::time::Duration;

use rrd::Timestamp;

use super::backoff::Backoff;
use super::clock::Timeline;
use super::credential::Credential;
use super::dictionary::Dictionary;
use super::secret::Secret;
use super::session::{Reply, Start};
use super::spool::{Life, Queue, Spool};
use crate::native::{Position, PushAnswer};

/// A small spool in memory.
fn spool() -> Spool {
    Spool::of(Queue::in_memory(0, Life { boot_id: 0xb007, step_ms: 10_000, salt: 1 }))
}

/// What the session of an enrolled machine starts with, when its clock says `wall`.
fn enrolled(wall: Timestamp) -> Start {
    let secret = Secret::new("s3cret");
    Start {
        incarnation: 1,
        credential: Some(Credential { instance: 0xabc, secret, step: None, expires_ms: None }),
        may_enrol: false,
        backoff: Backoff::new(Duration::from_secs(1), Duration::from_mins(1)),
        spool: spool(),
        dictionary: Dictionary::default(),
        timeline: Timeline::start(wall, Duration::ZERO),
        poll: None,
    }
}

/// What a collector says that took a push, has it at one place of its journal and synced that up to another.
fn taken(accepted: u64, durable: u64) -> PushAnswer {
    let at = |seq| Position { log_epoch: 1, seq };
    PushAnswer {
        accepted: at(accepted),
        durable: at(durable),
        samples: 0,
        server_ms: 0,
        refused: Vec::new(),
        refused_samples: 0,
    }
}

fn reply(status: u16, body: &impl serde::Serialize) -> Reply {
    Reply { status, retry_after: None, body: serde_json::to_vec(body).unwrap() }
}
