//! Taking over: which column goes to a new series when the instance has all it may have.

use std::collections::HashSet;
use std::sync::Arc;

use super::grant::GrantRequest;
use super::instance::{Index, Instance};
use super::keys::Key;
use super::lock;
use crate::{Column, MAX_COLUMNS, Timestamp};

/// How many series an instance may have, and what becomes of new ones beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Series at most; never more than [`MAX_COLUMNS`].
    pub most: usize,
    /// Beyond that a new series takes the column of the one silent longest, if it has been so for
    /// this long in journal time; what that one kept is gone.
    /// [`u64::MAX`] is never.
    pub reuse_after_ms: u64,
    /// Bytes by which the archive may grow.
    pub bytes: u64,
}

impl Room {
    /// A day: a machine that is off for the night finds its series again.
    pub const REUSE_AFTER_MS: u64 = 86_400_000;
}

impl Default for Room {
    fn default() -> Self {
        Self { most: MAX_COLUMNS, reuse_after_ms: Self::REUSE_AFTER_MS, bytes: u64::MAX }
    }
}

/// A series that another may take the place of.
#[derive(Clone, Debug)]
pub(super) struct Silent {
    heard: Timestamp,
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) key: Arc<Key>,
}

impl Silent {
    pub(super) fn column(&self) -> Column {
        Column { index: self.index, generation: self.generation }
    }
}

/// Series silent for long enough at `now`, the longest first. One that never had a reading may just
/// have been granted, and one that the request names is not silent any more.
pub(super) fn silent(
    instance: &Instance,
    index: &Index,
    request: &GrantRequest<'_>,
    (now, room): (Timestamp, Room),
) -> Vec<Silent> {
    let wanted: HashSet<_> = request.series.iter().map(|series| series.labels.to_key()).collect();
    let latest = now.plus_millis(-i64::try_from(room.reuse_after_ms).unwrap_or(i64::MAX));
    let mut found = Vec::new();
    let state = lock(&instance.state);
    for series in state.all_series() {
        let (column, heard) = (series.column(), series.head.heard());
        let is_silent = !series.head.is_unborn() && heard <= latest;
        // A grant that is not applied yet may have given the column away.
        let is_there = is_silent && index.column(series.key) == Some(column);
        if is_there && !wanted.contains(series.key.bytes()) {
            let Column { index, generation } = column;
            found.push(Silent { heard, index, generation, key: Arc::clone(series.key) });
        }
    }
    found.sort_unstable_by_key(|one| (one.heard, one.index));
    found
}
