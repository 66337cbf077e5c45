//! Scratch of a start: what the file before has left, so that the next one takes less time and memory.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::instance::Form;
use super::keys::{Key, Keys};
use crate::file::Block;
use crate::{File, Policy};

/// Room and findings that one file leaves to the next: members of a fleet have files of one form.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) fronts: Fronts,
    /// A catalogue's bytes.
    pub(super) entries: Vec<u8>,
    pub(super) keys: KeysBefore,
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

/// By column, the key of the file before: most files have the same one there.
#[derive(Default)]
pub(super) struct KeysBefore(Vec<Option<Arc<Key>>>);

impl KeysBefore {
    /// The key with these bytes, which stands at `place`.
    pub(super) fn at(&mut self, place: usize, bytes: &[u8], keys: &Keys) -> Arc<Key> {
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        match &mut self.0[place] {
            Some(key) if key.bytes() == bytes => Arc::clone(key),
            other => Arc::clone(other.insert(keys.intern(bytes))),
        }
    }
}
