//! How long an answer is waited for: until whoever asked has gone, or has waited long enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Error;

/// The patience of one asker, shared with the evaluation of what was asked; clones are the same
/// patience. It never ends by itself: a timer or a closed connection ends it.
///
/// ```
/// let patience = query::Patience::begin();
/// let limits = query::Limits { patience: patience.clone(), ..query::Limits::default() };
/// patience.end();
/// assert!(limits.patience.has_ended());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Patience(Option<Arc<AtomicBool>>);

impl Patience {
    /// Patience that does not end: what is asked is bounded by the other limits alone.
    pub const ENDLESS: Self = Self(None);

    /// Patience that lasts until [`Patience::end`].
    pub fn begin() -> Self {
        Self(Some(Arc::default()))
    }

    /// Nobody waits any longer: the evaluation ends soon, with [`Error::Cancelled`].
    pub fn end(&self) {
        if let Some(ended) = &self.0 {
            ended.store(true, Ordering::Relaxed);
        }
    }

    /// True once nobody waits any longer.
    pub fn has_ended(&self) -> bool {
        self.0.as_ref().is_some_and(|ended| ended.load(Ordering::Relaxed))
    }

    /// Errors once nobody waits any longer.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.has_ended() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
