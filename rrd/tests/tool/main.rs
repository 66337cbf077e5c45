//! rrdtool's commands over our engine, on a disk in memory: against the real one, killed, and abused.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![expect(clippy::cast_precision_loss, reason = "the numbers of these tests are small")]

mod differential;
mod file;
mod hostile;
mod kill;
mod oddities;
mod schedule;
