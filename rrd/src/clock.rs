//! The clock: the one thing that may ask for the time. Held by loops at the rim only.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::Timestamp;

/// Tells the time. The real one lives in the program; tests hold a [`ManualClock`].
pub trait Clock: Send + Sync {
    /// The wall clock, which may jump.
    fn wall(&self) -> Timestamp;

    /// Time since some fixed moment of this process, which never goes back.
    fn monotonic(&self) -> Duration;
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ms: AtomicI64,
    monotonic_ms: AtomicI64,
}

impl ManualClock {
    /// A clock standing at `at`.
    pub fn at(at: Timestamp) -> Self {
        Self { wall_ms: AtomicI64::new(at.as_millis()), monotonic_ms: AtomicI64::new(0) }
    }

    /// Moves both readings on by `by`.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.wall_ms.fetch_add(millis, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn set_wall(&self, at: Timestamp) {
        self.wall_ms.store(at.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst).unsigned_abs())
    }
}
