//! Files that a round has written and not yet synced: some are synced together, and only then is it known
//! that they hold what they were given.

use std::io;
use std::sync::Arc;

use super::instance::Instance;
use super::repair::Repairs;
use super::round::{ColumnWork, RoundReport};
use super::state::Filed;
use super::{lock, write};
use crate::handles::Handles;
use crate::{File, InstanceId};

/// Files synced together. What a round has worked out for them is kept so long, and their rows.
const MOST: usize = 32;

/// A file of a round, written.
pub(super) struct Unsynced {
    pub(super) instance: Arc<Instance>,
    pub(super) file: Arc<dyn File>,
    pub(super) seq: u64,
    /// What it holds once it is synced.
    pub(super) filed: Filed,
    pub(super) columns: Vec<ColumnWork>,
    pub(super) repairs: Repairs,
    pub(super) bytes: u64,
}

/// Files of a round that wait to be synced.
pub(super) struct Group<'a> {
    handles: &'a Handles,
    files: Vec<Unsynced>,
}

impl Unsynced {
    fn end(self, synced: io::Result<()>) -> Result<u64, (InstanceId, io::Error)> {
        let instance = &self.instance;
        if let Err(reason) = synced {
            let mut alone = write(&instance.tiles);
            alone.change();
            self.repairs.take_back(self.file.as_ref(), instance);
            return Err((instance.id, reason));
        }
        lock(&instance.state).settle(self.seq, self.filed, &self.columns);
        Ok(self.bytes)
    }
}

impl<'a> Group<'a> {
    pub(super) const fn new(handles: &'a Handles) -> Self {
        Self { handles, files: Vec::new() }
    }

    pub(super) fn add(&mut self, file: Unsynced, report: &mut RoundReport) {
        self.files.push(file);
        if self.files.len() == MOST {
            self.sync(report);
        }
    }

    /// Syncs those there are. One that fails is named; the others go on.
    pub(super) fn sync(&mut self, report: &mut RoundReport) {
        let files: Vec<_> = self.files.iter().map(|one| Arc::clone(&one.file)).collect();
        let synced = self.handles.disk().sync_each(&files);
        for (file, synced) in self.files.drain(..).zip(synced) {
            report.note(self.handles, file.end(synced));
        }
    }
}
