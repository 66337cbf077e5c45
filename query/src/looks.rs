//! Looks at rows: how many all windows of a query have taken, on all processors together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Limits, Patience};

/// Rows looked at between two looks at what is left and at the asker's patience: a millisecond or
/// so.
const AT_ONCE: u64 = 1 << 20;

/// What one thread has looked at; clones share what they may look at together.
#[derive(Clone, Debug)]
pub(crate) struct Looks {
    all: Arc<AtomicU64>,
    most: u64,
    pub(crate) patience: Patience,
    /// Of this thread alone, not yet counted in `all`.
    own: u64,
}

impl Looks {
    pub(crate) fn within(limits: &Limits) -> Self {
        let (most, patience) = (limits.looks, limits.patience.clone());
        Self { all: Arc::default(), most, patience, own: 0 }
    }

    /// Counts rows that a window looks at. Errors when it is too many, or nobody waits.
    pub(crate) fn add(&mut self, rows: usize) -> Result<(), Error> {
        self.own = self.own.saturating_add(u64::try_from(rows).unwrap_or(u64::MAX) + 1);
        if self.own < AT_ONCE { Ok(()) } else { self.check() }
    }

    /// Counts what is not yet counted. Errors when it is too much, or nobody waits.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        self.patience.check()?;
        let own = std::mem::take(&mut self.own);
        let before = self.all.fetch_add(own, Ordering::Relaxed);
        if before.saturating_add(own) > self.most {
            return Err(Error::Limit(format!(
                "the windows of the query look at more than {} rows; ask for fewer series, shorter windows or a longer step",
                self.most
            )));
        }
        Ok(())
    }
}
