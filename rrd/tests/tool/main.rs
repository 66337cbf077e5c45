//! rrdtool's commands over our engine, on a disk in memory: against the real one, killed, and abused.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod differential;
mod file;
mod hostile;
mod kill;
mod oddities;
mod schedule;
