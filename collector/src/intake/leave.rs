//! Leave to work on a request of samples: a turn at the processors and room in the journal, both before
//! its body is unpacked. While the journal is full a request waits; work that would be refused is not done.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use journal::{Refused, Room};
use tokio::time::{Instant, timeout_at};

use super::fair::{Sender, Turn};
use super::{Denial, Inner};
use crate::limits::IN_FLIGHT_LIMIT;

/// How long a request waits for the journal: the least patient sender, Telegraf, waits five seconds for an
/// answer, most others ten to thirty.
const WAIT: Duration = Duration::from_secs(4);

/// Bytes of bodies that may wait for the journal: as much is left for requests that need none.
const WAITING_LIMIT: usize = IN_FLIGHT_LIMIT / 2;

/// Frames take less than half of the body that they come from, but for the bodies of few senders, packed
/// well: those may find less room than they need, and are refused once they are read. To promise more would
/// have others wait for room that nobody takes.
const FRAMES_OF_BODY: usize = 2;
/// Beside that, what the heads of frames and the ends of segments take.
const FRAMES_MORE: usize = 16 << 10;

/// Dropped once the request's frames are appended, or never will be.
#[derive(Debug)]
pub(super) struct Leave {
    _turn: Turn,
    _room: Room,
}

/// Bytes of bodies that wait for the journal.
#[derive(Debug, Default)]
pub(super) struct Waiting(AtomicUsize);

/// A body that waits.
struct Waits<'a>(&'a Waiting, usize);

impl Waiting {
    fn enter(&self, bytes: usize) -> Result<Waits<'_>, Denial> {
        let waits = Waits(self, bytes);
        if self.0.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_LIMIT {
            return Err(Refused::Full.into());
        }
        Ok(waits)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Inner {
    /// Leave to work on a request of `sender` with a body of so many bytes; 503 when the journal has no room for
    /// it in time, or has stopped. Turns are handed out as ever meanwhile, so that the room that comes goes
    /// round among senders; who has a turn waits for room, all others behind it.
    pub(super) async fn leave(&self, sender: Sender, bytes: usize) -> Result<Leave, Denial> {
        let until = Instant::now() + WAIT;
        let journal = &self.parts.journal;
        let wanted = bytes / FRAMES_OF_BODY + FRAMES_MORE;
        let mut waits = match journal.check_room(wanted) {
            Ok(()) => None,
            Err(refused @ Refused::Failed(_)) => return Err(refused.into()),
            Err(_) => Some(self.waiting.enter(bytes)?),
        };
        let turn = self.turns.take(sender, bytes).await;
        let room = match journal.try_room(wanted) {
            Ok(room) => room,
            Err(refused @ Refused::Failed(_)) => return Err(refused.into()),
            Err(refused) => {
                let _waits = match waits.take() {
                    None => self.waiting.enter(bytes)?,
                    Some(waits) => waits,
                };
                let room = timeout_at(until, journal.room(wanted)).await.map_err(|_| refused)?;
                room.map_err(|failed| Denial::later("journal", failed.to_string()))?
            }
        };
        Ok(Leave { _turn: turn, _room: room })
    }
}
