//! Scratch of a start: what the file before has left, so that the next one takes less time and memory.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::instance::Form;
use super::keys::Keys;
use super::roster::Roster;
use super::state::NO_ROW;
use crate::file::Block;
use crate::{File, Policy, Timestamp};

/// Room and findings that one file leaves to the next: members of a fleet have files of one form.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) fronts: Fronts,
    /// A catalogue's bytes.
    pub(super) entries: Vec<u8>,
    pub(super) found: Found,
    form: Option<Arc<Form>>,
    layout: Arc<Vec<Block>>,
}

impl Scratch {
    /// The form of this policy, shared with the file before if that has the same.
    pub(super) fn form(&mut self, policy: Policy) -> Arc<Form> {
        match &self.form {
            Some(form) if form.policy == policy => Arc::clone(form),
            _ => Arc::clone(self.form.insert(Form::of(policy))),
        }
    }

    /// The layout, shared with the file before if that has the same.
    pub(super) fn layout(&mut self, layout: Vec<Block>) -> Arc<Vec<Block>> {
        if *self.layout != layout {
            self.layout = Arc::new(layout);
        }
        Arc::clone(&self.layout)
    }
}

/// Stretches of a file, read at once and looked at one by one.
#[derive(Default)]
pub(super) struct Fronts {
    /// Never shorter than it was, so that it is zeroed once.
    bytes: Vec<u8>,
    used: usize,
    /// Where in the file each begins, and where it is in `bytes`.
    stretches: Vec<(u64, Range<usize>)>,
}

impl Fronts {
    /// For the next file.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.stretches.clear();
    }

    /// Reads a stretch.
    pub(super) fn read(&mut self, file: &dyn File, at: u64, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let range = self.used..self.used + len;
        if self.bytes.len() < range.end {
            self.bytes.resize(range.end, 0);
        }
        file.read_at(&mut self.bytes[range.clone()], at)?;
        self.used = range.end;
        self.stretches.push((at, range));
        Ok(())
    }

    /// These bytes of the file, if some stretch has all of them.
    pub(super) fn get(&self, at: u64, len: usize) -> Option<&[u8]> {
        self.stretches.iter().find_map(|(start, range)| {
            let skipped = usize::try_from(at.checked_sub(*start)?).ok()?;
            self.bytes[range.clone()].get(skipped..)?.get(..len)
        })
    }

    /// The stretch that was read first.
    pub(super) fn head(&self) -> &[u8] {
        let first = self.stretches.first().map_or(0..0, |(_, range)| range.clone());
        &self.bytes[first]
    }
}

/// What columns were found to have.
#[derive(Default)]
pub(super) struct Found {
    /// By column: the newest row in the file.
    pub(super) rows: Vec<i64>,
    /// By column: where the first row begins.
    pub(super) births: Vec<Timestamp>,
    /// As far as it has not been looked at: that of the file before, since most have the same.
    roster: Arc<Roster>,
}

impl Found {
    /// For the next state; of no column anything is known.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.births.clear();
    }

    /// Room for so many columns.
    pub(super) fn grow(&mut self, count: usize) {
        self.rows.resize(count.max(self.rows.len()), NO_ROW);
        self.births.resize(self.rows.len(), Timestamp::MIN);
    }

    /// A column has the key with these bytes.
    pub(super) fn name(&mut self, place: usize, bytes: &[u8], keys: &Keys) {
        if self.roster.key(place).is_none_or(|key| key.bytes() != bytes) {
            Arc::make_mut(&mut self.roster).set(place, keys.intern(bytes));
        }
    }

    /// A column has no series.
    pub(super) fn vacate(&mut self, place: usize) {
        if self.roster.key(place).is_some() {
            Arc::make_mut(&mut self.roster).clear(place);
        }
    }

    /// Who lives where, once all columns have been looked at.
    pub(super) fn roster(&mut self, keys: &Keys) -> Arc<Roster> {
        if self.roster.column_count() > self.rows.len() {
            Arc::make_mut(&mut self.roster).truncate(self.rows.len());
        }
        self.roster = keys.shared(&self.roster);
        Arc::clone(&self.roster)
    }
}
