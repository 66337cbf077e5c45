//! The life of an instance: its states, what moves it between them, and the evidence kept of each move.
//!
//! Pure: time and what was seen come in as arguments, and a move comes out; the intake writes it to the
//! journal. "Gone" needs evidence; who is merely silent is lost, and that is somebody's problem.

mod act;
mod cloud;
mod evidence;
mod state;
mod timer;
mod zone;

pub use act::{Act, BadState, Farewell, after};
pub use cloud::Hint;
pub use evidence::{End, Evidence, Lifecycle, Move, Past, Who};
pub use state::State;
pub use timer::{ARCHIVE_AFTER_MS, Kept, PENDING_MS, Permanence, Sight, Terms, due};
pub use zone::{Fault, Member, Zones};

#[cfg(test)]
mod tests;
