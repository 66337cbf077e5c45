//! One instance of the store: its file's layout, its index, its state, and the locks between them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use super::columns::Series;
use super::keys::{Key, Keys};
use super::roster::Roster;
use super::state::State;
use super::warm::Version;
use super::{read, write};
use crate::file::{Block, Catalogue, Entry, FIRST_BLOCK_AT};
use crate::series::Grid;
use crate::{ArchiveSpec, Cell, Column, Damage, InstanceId, Policy};

/// A sender that says nothing of its interval may miss this much, or three steps if that is more.
const LEAST_HEARTBEAT_MS: u64 = 300_000;

/// The generation of the first series of a column.
const FIRST: u32 = 1;

/// An instance. Locks are taken in the order of the fields, and none while waiting for a disk but
/// `growing` (grants) and `tiles` (rounds and readers of this one instance).
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) path: PathBuf,
    /// One grant or change at a time: held over the disk and the journal, so that no two blocks or columns
    /// overlap. The worker and readers never take it.
    pub(crate) growing: Mutex<Growth>,
    /// The blocks of the file. Replaced whole when it grows, or is replaced (under `state` too);
    /// everybody else copies the pointer.
    pub(crate) layout: RwLock<Arc<Vec<Block>>>,
    /// Readers share the tiles of the file; a round has them alone while it writes this file, because
    /// a reader in its midst would see half a tile and call it rot. Whoever changes rows that the file
    /// had, or the file, says so.
    pub(crate) tiles: RwLock<Version>,
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
    /// The file could not be made, or is to go: the instance is not in the store any more.
    pub(crate) is_abandoned: bool,
    /// The journal was told that the instance is to go.
    pub(crate) is_leaving: bool,
    /// What the journal was last told the archives are to be; `None` once the file is so.
    pub(crate) asked: Option<Arc<Form>>,
}

/// What archives there are.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) policy: Policy,
    pub(crate) archives: Arc<[ArchiveSpec]>,
    pub(crate) grid: Grid,
    /// That of the file of this form that was made last: most have the same, and share it. Nothing is
    /// done under it but to compare.
    last_layout: Mutex<Arc<Vec<Block>>>,
}

impl Form {
    pub(crate) fn of(policy: Policy) -> Arc<Self> {
        let grid = Grid::of(policy.archives());
        let last_layout = Mutex::default();
        Arc::new(Self { archives: policy.archives().into(), grid, policy, last_layout })
    }

    /// The layout, shared with the file made before if that has the same.
    pub(crate) fn shared(&self, layout: Vec<Block>) -> Arc<Vec<Block>> {
        let mut last = super::lock(&self.last_layout);
        if **last != layout {
            *last = Arc::new(layout);
        }
        Arc::clone(&last)
    }

    /// The heartbeat of a series where the policy names none.
    pub(crate) fn usual_heartbeat_ms(&self) -> u64 {
        LEAST_HEARTBEAT_MS.max(3 * self.policy.step().as_millis())
    }

    /// A block with the columns of another, laid out for these archives: a change moves no column.
    pub(crate) fn lay(&self, block: &Block, offset: u64) -> Block {
        Block::plan(&self.policy, offset, block.first_column, block.width, self.cell(block))
    }

    /// All blocks of a file, laid out for these archives.
    pub(crate) fn lay_all(&self, layout: &[Block]) -> Vec<Block> {
        let mut offset = FIRST_BLOCK_AT;
        let lay = |block| {
            let laid = self.lay(block, offset);
            offset = laid.end();
            laid
        };
        layout.iter().map(lay).collect()
    }

    /// The cell that a block has, or will have: `f64` widens those there are, nothing narrows them.
    pub(crate) fn cell(&self, block: &Block) -> Cell {
        if self.policy.all_f64() { Cell::F64 } else { block.cell }
    }
}

/// Which columns are taken, by whom.
pub(crate) struct Index {
    keys: Arc<Keys>,
    roster: Arc<Roster>,
    /// Generations by column, but of first series.
    later: BTreeMap<u32, u32>,
    /// Columns whose series was dropped, with its generation.
    pub(crate) free: BTreeMap<u32, u32>,
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
    pub(crate) fn has_room(self, block: &Block, key: &[u8]) -> bool {
        self.columns < block.width && self.has_text(block, key)
    }

    /// True where the catalogue of the block takes another key.
    pub(crate) fn has_text(self, block: &Block, key: &[u8]) -> bool {
        self.text + Catalogue::entry_len(key) <= Catalogue::room(block.width)
    }

    pub(crate) fn add(&mut self, position: u32, key: &[u8]) {
        self.columns = self.columns.max(position + 1);
        self.text += Catalogue::entry_len(key);
    }
}

impl Index {
    fn new(keys: Arc<Keys>) -> Self {
        let (later, free) = (BTreeMap::new(), BTreeMap::new());
        Self { keys, roster: Arc::default(), later, free, used: Vec::new() }
    }

    /// How many series have a column.
    pub(crate) fn len(&self) -> usize {
        self.roster.count()
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
        let index = u32::try_from(self.roster.find(key)?).ok()?;
        Some(Column { index, generation: self.generation(index) })
    }

    fn generation(&self, index: u32) -> u32 {
        self.later.get(&index).copied().unwrap_or(FIRST)
    }

    /// True where it has this roster, or one that is the same.
    pub(crate) fn is_of(&self, roster: &Roster) -> bool {
        self.roster.is_same(roster)
    }

    /// Who lives where, as far as columns have been granted.
    pub(crate) fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster)
    }

    pub(crate) fn used(&self, block: usize) -> Used {
        self.used.get(block).copied().unwrap_or_default()
    }

    /// Notes that columns belong to keys; those known already, or whose column a later series has, are
    /// passed over.
    pub(crate) fn insert(&mut self, layout: &[Block], mut series: Vec<(Arc<Key>, Column)>) {
        series.retain(|(key, column)| self.is_news(key, *column));
        let Some(last) = series.iter().map(|(_, column)| column.index).max() else { return };
        let roster = Arc::make_mut(&mut self.roster);
        roster.grow(last as usize + 1);
        for (key, column) in &series {
            roster.set(column.index as usize, Arc::clone(key));
        }
        self.roster = self.keys.shared(&self.roster);
        for (key, column) in series {
            self.live(column);
            self.take_room(layout, key.bytes(), column);
        }
    }

    /// Notes who lives where in a file.
    pub(crate) fn fill<'a>(
        &mut self,
        layout: &[Block],
        roster: Arc<Roster>,
        series: impl Iterator<Item = Series<'a>>,
    ) {
        self.roster = roster;
        for series in series {
            self.live(series.column());
            self.take_room(layout, series.key.bytes(), series.column());
        }
    }

    fn is_news(&self, key: &Key, column: Column) -> bool {
        let known = self.roster.key(column.index as usize);
        let generation = self.generation(column.index);
        self.column(key) != Some(column) && known.is_none_or(|_| generation <= column.generation)
    }

    fn live(&mut self, Column { index, generation }: Column) {
        if generation == FIRST {
            self.later.remove(&index);
        } else {
            self.later.insert(index, generation);
        }
    }

    /// Notes that others may have these columns, whose series had these generations.
    pub(crate) fn insert_free(&mut self, layout: &[Block], vacant: &BTreeMap<u32, u32>) {
        for (&index, &generation) in vacant {
            self.take_room(layout, &[], Column { index, generation });
            self.free.insert(index, generation);
        }
    }

    fn take_room(&mut self, layout: &[Block], key: &[u8], column: Column) {
        let was_free = self.free.remove(&column.index).is_some();
        if let Some((number, block)) = block_of(layout, column.index) {
            if self.used.len() <= number {
                self.used.resize(number + 1, Used::default());
            }
            let used = &mut self.used[number];
            if was_free {
                used.text = used.text.saturating_sub(Catalogue::entry_len(&[]));
            }
            used.add(column.index - block.first_column, key);
        }
    }

    /// Forgets the former series of a column.
    pub(crate) fn remove(&mut self, layout: &[Block], key: &Key, column: Column) {
        if self.column(key) != Some(column) {
            return; // The grant that took the column has done so.
        }
        Arc::make_mut(&mut self.roster).clear(column.index as usize);
        self.later.remove(&column.index);
        if let Some(used) = self.used_at(layout, column) {
            used.text = used.text.saturating_sub(Catalogue::entry_len(key.bytes()));
        }
    }

    /// Forgets the series of a column, which another may have.
    pub(crate) fn vacate(&mut self, layout: &[Block], key: &Key, column: Column) {
        self.remove(layout, key, column);
        self.free.insert(column.index, column.generation);
        if let Some(used) = self.used_at(layout, column) {
            used.text += Catalogue::entry_len(&[]);
        }
    }

    /// Forgets all series: the instance is to go.
    pub(crate) fn clear(&mut self) {
        self.roster = Arc::default();
        self.later.clear();
        self.free.clear();
    }

    fn used_at(&mut self, layout: &[Block], column: Column) -> Option<&mut Used> {
        self.used.get_mut(block_of(layout, column.index)?.0)
    }
}

impl Instance {
    pub(crate) fn new(id: InstanceId, dir: &Path, form: Arc<Form>, keys: Arc<Keys>) -> Self {
        Self {
            id,
            path: dir.join(format!("{id}.rrd")),
            growing: Mutex::default(),
            layout: RwLock::default(),
            tiles: RwLock::default(),
            state: Mutex::new(State::of(form)),
            index: RwLock::new(Index::new(keys)),
        }
    }

    pub(crate) fn layout(&self) -> Arc<Vec<Block>> {
        Arc::clone(&read(&self.layout))
    }

    pub(crate) fn set_layout(&self, layout: impl Into<Arc<Vec<Block>>>) {
        *write(&self.layout) = layout.into();
    }

    /// Bytes of the file as far as it has been laid out.
    pub(crate) fn file_len(&self) -> u64 {
        read(&self.layout).last().map_or(0, Block::end)
    }

    /// What archives there are, as far as frames have been applied.
    pub(crate) fn form(&self) -> Arc<Form> {
        Arc::clone(&super::lock(&self.state).form)
    }

    /// The file of the archives to come, beside that of those there are.
    pub(crate) fn next_path(&self) -> PathBuf {
        self.path.with_extension("next")
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
