//! One instance of the store: its file's layout, its index, its state, and the locks between them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use super::columns::Series;
use super::keys::{Key, Keys};
use super::state::State;
use super::{read, write};
use crate::file::{Block, Catalogue, Entry};
use crate::series::Grid;
use crate::{ArchiveSpec, Cell, Column, Damage, InstanceId, Policy};

/// An instance. Locks are taken in the order of the fields, and none while waiting for a disk but
/// `growing` (grants) and `tiles` (rounds and readers of this one instance).
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) path: PathBuf,
    pub(crate) policy: Policy,
    pub(crate) archives: Arc<[ArchiveSpec]>,
    pub(crate) grid: Grid,
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
pub(crate) struct Index {
    keys: Arc<Keys>,
    /// In order of the keys' addresses.
    columns: Vec<(Arc<Key>, Column)>,
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
    fn new(keys: Arc<Keys>) -> Self {
        Self { keys, columns: Vec::new(), used: Vec::new() }
    }

    /// How many series have a column.
    pub(crate) const fn len(&self) -> usize {
        self.columns.len()
    }

    /// The column of the series with these bytes for a key.
    pub(crate) fn get(&self, bytes: &[u8]) -> Option<Column> {
        self.column(&*self.key(bytes)?)
    }

    /// The key of these bytes, if some instance has a series of it.
    pub(crate) fn key(&self, bytes: &[u8]) -> Option<Arc<Key>> {
        self.keys.find(bytes)
    }

    /// The column of the series with this key.
    pub(crate) fn column(&self, key: &Key) -> Option<Column> {
        Some(self.columns[self.place(key).ok()?].1)
    }

    fn place(&self, key: &Key) -> Result<usize, usize> {
        let address = std::ptr::from_ref(key);
        self.columns.binary_search_by(|(known, _)| Arc::as_ptr(known).cmp(&address))
    }

    pub(crate) fn used(&self, block: usize) -> Used {
        self.used.get(block).copied().unwrap_or_default()
    }

    /// Notes that columns belong to keys; those known already are passed over.
    pub(crate) fn insert(
        &mut self,
        layout: &[Block],
        series: impl IntoIterator<Item = (Arc<Key>, Column)>,
    ) {
        let mut new = Vec::new();
        for (key, column) in series {
            match self.place(&key) {
                Ok(place) if self.columns[place].1 == column => continue,
                Ok(place) => self.columns[place].1 = column,
                Err(_) => new.push((Arc::clone(&key), column)),
            }
            self.take_room(layout, &key, column);
        }
        self.columns.reserve_exact(new.len());
        self.columns.append(&mut new);
        // Two sorted runs and few others: the sort knows how to join them.
        self.columns.sort_by_key(|(key, _)| Arc::as_ptr(key));
        self.columns.dedup_by(|later, kept| {
            let is_same = Arc::ptr_eq(&later.0, &kept.0);
            if is_same {
                kept.1 = later.1;
            }
            is_same
        });
    }

    fn take_room(&mut self, layout: &[Block], key: &Key, column: Column) {
        if let Some((number, block)) = block_of(layout, column.index) {
            if self.used.len() <= number {
                self.used.resize(number + 1, Used::default());
            }
            self.used[number].add(column.index - block.first_column, key.bytes());
        }
    }

    /// Forgets the former series of a column.
    pub(crate) fn remove(&mut self, layout: &[Block], key: &Key, column: Column) {
        if let Ok(place) = self.place(key)
            && self.columns[place].1 == column
        {
            self.columns.remove(place);
        }
        if let Some((number, _)) = block_of(layout, column.index)
            && let Some(used) = self.used.get_mut(number)
        {
            used.text = used.text.saturating_sub(Catalogue::entry_len(key.bytes()));
        }
    }
}

impl Instance {
    pub(crate) fn new(id: InstanceId, dir: &Path, policy: Policy, keys: Arc<Keys>) -> Self {
        Self {
            id,
            path: dir.join(format!("{id}.rrd")),
            archives: policy.archives().into(),
            grid: Grid::of(policy.archives()),
            growing: Mutex::default(),
            layout: RwLock::default(),
            tiles: RwLock::default(),
            state: Mutex::new(State::new(policy.archives().len() - 1)),
            index: RwLock::new(Index::new(keys)),
            policy,
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

impl<'a> From<Series<'a>> for Entry<'a> {
    fn from(series: Series<'a>) -> Self {
        Self::of(series.head.generation, &series.class.definition, series.key.bytes())
    }
}
