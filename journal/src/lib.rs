//! An ordered, durable log of opaque frames: what is acknowledged here survives kill -9 and a power cut.
//!
//! Frames are committed in groups, one sync for all that came meanwhile, into preallocated segments
//! that are used again once a checkpoint has passed them. The crate never looks into a body; it is
//! the caller who applies frames, writes checkpoints and replays. The drawn bytes and the rules of
//! recovery are in `docs/journal.md`.

mod commit;
mod error;
mod frame;
mod inspect;
mod journal;
mod plan;
mod record;
mod replay;
mod room;
mod scan;
mod segment;
mod setup;
mod stamps;
mod state;
#[cfg(test)]
mod tests;

pub use error::{Damage, Failed, JournalError, Refused};
pub use frame::{Frame, MAX_BODY_BYTES, TICK};
pub use inspect::{DamagedCopy, copy_order, inspect};
pub use journal::{Journal, Stats};
pub use record::{Record, checkpoint};
pub use replay::{Frames, Recovery};
pub use room::Room;
pub use setup::{Config, Durability};
