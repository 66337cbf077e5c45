//! One instance of the store: its file's layout, its index, its state, and the locks between them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use super::state::State;
use super::{read, write};
use crate::file::{Block, Catalogue, Entry};
use crate::{ArchiveSpec, Cell, Column, Damage, InstanceId, Policy};

/// An instance. Locks are taken in the order of the fields, and none while waiting for a disk but
/// `growing` (grants) and `tiles` (rounds and readers of this one instance).
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) path: PathBuf,
    pub(crate) policy: Policy,
    pub(crate) archives: Arc<[ArchiveSpec]>,
    /// One grant at a time: held over the disk and the journal, so that no two blocks or columns
    /// overlap. The worker and readers never take it.
    pub(crate) growing: Mutex<Growth>,
    /// The blocks of the file. Replaced whole when it grows; everybody else copies the pointer.
    pub(crate) layout: RwLock<Arc<Vec<Block>>>,
    /// Readers share the tiles of the file; a round has them alone while it writes this file, because
    /// a reader in its midst would see half a tile and call it rot.
    pub(crate) tiles: RwLock<()>,
    /// What frames change. The worker holds it for one frame; readers and rounds for one copy.
    pub(crate) state: Mutex<State>,
    /// Where series live. Intake reads it for every first sight of a series.
    pub(crate) index: RwLock<Index>,
}

/// How far the making of the file has come.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// The file is there, with all blocks of the layout.
    pub(crate) has_file: bool,
    /// The file could not be made, and the instance was taken out of the store again.
    pub(crate) is_abandoned: bool,
}

/// Which columns are taken, by whom.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) columns: HashMap<Arc<[u8]>, Column>,
    /// One for each block.
    pub(crate) used: Vec<Used>,
}

/// How full a block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// The first so many columns are taken.
    pub(crate) columns: u32,
    /// Bytes of the catalogue that are taken.
    pub(crate) text: u64,
}

impl Used {
    pub(crate) fn has_room(self, block: &Block, cell: Cell, key: &[u8]) -> bool {
        let text = self.text + Catalogue::entry_len(key);
        block.cell == cell && self.columns < block.width && text <= Catalogue::room(block.width)
    }

    pub(crate) fn add(&mut self, position: u32, key: &[u8]) {
        self.columns = self.columns.max(position + 1);
        self.text += Catalogue::entry_len(key);
    }
}

impl Index {
    pub(crate) fn used(&self, block: usize) -> Used {
        self.used.get(block).copied().unwrap_or_default()
    }

    /// Notes that a column belongs to a key; false when it was known already.
    pub(crate) fn insert(&mut self, layout: &[Block], key: &Arc<[u8]>, column: Column) -> bool {
        let known = self.columns.insert(Arc::clone(key), column);
        if known == Some(column) {
            return false;
        }
        if let Some((number, block)) = block_of(layout, column.index) {
            if self.used.len() <= number {
                self.used.resize(number + 1, Used::default());
            }
            self.used[number].add(column.index - block.first_column, key);
        }
        true
    }

    /// Forgets the former series of a column.
    pub(crate) fn remove(&mut self, layout: &[Block], key: &[u8], column: Column) {
        if self.columns.get(key) == Some(&column) {
            self.columns.remove(key);
        }
        if let Some((number, _)) = block_of(layout, column.index)
            && let Some(used) = self.used.get_mut(number)
        {
            used.text = used.text.saturating_sub(Catalogue::entry_len(key));
        }
    }
}

impl Instance {
    pub(crate) fn new(id: InstanceId, dir: &Path, policy: Policy) -> Self {
        Self {
            id,
            path: dir.join(format!("{id}.rrd")),
            archives: policy.archives().into(),
            policy,
            growing: Mutex::default(),
            layout: RwLock::default(),
            tiles: RwLock::default(),
            state: Mutex::default(),
            index: RwLock::default(),
        }
    }

    pub(crate) fn layout(&self) -> Arc<Vec<Block>> {
        Arc::clone(&read(&self.layout))
    }

    pub(crate) fn set_layout(&self, layout: Vec<Block>) {
        *write(&self.layout) = Arc::new(layout);
    }

    /// Bytes of the file as far as it has been laid out.
    pub(crate) fn file_len(&self) -> u64 {
        read(&self.layout).last().map_or(0, Block::end)
    }

    pub(crate) fn damage(&self, what: String) -> Damage {
        Damage { instance: Some(self.id), path: self.path.clone(), what }
    }
}

/// The block that holds a column, and its number.
pub(crate) fn block_of(layout: &[Block], column: u32) -> Option<(usize, &Block)> {
    let after = layout.partition_point(|block| block.first_column <= column);
    let number = after.checked_sub(1)?;
    let block = layout.get(number)?;
    block.columns().contains(&column).then_some((number, block))
}

impl<'a> From<&'a super::state::Series> for Entry<'a> {
    fn from(series: &'a super::state::Series) -> Self {
        Self::of(series.generation, &series.definition, &series.key)
    }
}
