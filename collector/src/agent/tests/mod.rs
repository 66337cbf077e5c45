//! Tests of the agent as a whole: its conversation as timelines, at random, and over real connections.

mod loopback;
mod outage;
mod simulation;
mod timelines;

use super::spool::{Life, Queue, Spool};

/// A small spool in memory.
fn spool() -> Spool {
    Spool::of(Queue::in_memory(0, Life { boot_id: 0xb007, step_ms: 10_000, salt: 1 }))
}
