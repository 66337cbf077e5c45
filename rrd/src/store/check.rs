//! Checking: every tile of an archive against its checksum, a few at a time, beside rounds and readers.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::instance::{Form, Instance, block_of};
use super::state::NO_ROW;
use super::{Store, lock, read, repair};
use crate::cold::ColdFile;
use crate::file::{Block, Ring, SEAL_LEN, TileBytes, add_rows, begin_checksum};
use crate::{ArchiveSpec, Column, Damage, InstanceId, Labels, Span};

/// Places without a row that are passed over in one step: they cost memory only, and a lock.
const MOST_EMPTY: u64 = 1024;

/// Tiles of one instance, checked step by step. It reads past the maps and leaves the cache of the
/// system as it was, so that readers keep what they need.
pub struct Check {
    instance: Arc<Instance>,
    /// Its archives, when the check began.
    form: Arc<Form>,
    file: ColdFile,
    layout: Arc<Vec<Block>>,
    block: usize,
    archive: usize,
    place: u64,
}

/// What one step has looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// Bytes read.
    pub bytes: u64,
    /// Tiles compared with their checksums.
    pub tiles: u64,
    /// Those that did not match, twice.
    pub bad: Vec<BadTile>,
}

/// A tile that does not match its checksum: its rows read as unknown.
#[derive(Clone, Debug, PartialEq)]
pub struct BadTile {
    /// Whose tile it is.
    pub instance: InstanceId,
    /// Of which series.
    pub column: Column,
    /// The name and labels of that series.
    pub labels: Labels,
    /// In which archive, counted from the finest.
    pub archive: usize,
    /// The archive.
    pub spec: ArchiveSpec,
    /// Its first and its last row, counted from 1970.
    pub rows: (i64, i64),
}

impl BadTile {
    /// The time that its rows cover.
    pub fn span(&self) -> Span {
        let end = |row| self.spec.row_end(row);
        Span::new(end(self.rows.0 - 1), end(self.rows.1))
            .expect("the last row is not before the first")
    }
}

impl Store {
    /// A check of all tiles of this instance, from the first on; `None` where it has no file.
    pub fn check(&self, instance: InstanceId) -> io::Result<Option<Check>> {
        let Some(instance) = self.instance(instance) else { return Ok(None) };
        // So that no other file takes the name between the look at it and its opening.
        let shared = read(&instance.tiles);
        let layout = instance.layout();
        let (form, is_changing) = {
            let state = lock(&instance.state);
            (Arc::clone(&state.form), state.former.is_some())
        };
        // The file of a change is looked at when it is there.
        if layout.is_empty() || is_changing {
            return Ok(None);
        }
        let file = ColdFile::of(self.handles.disk().open(&instance.path)?);
        drop(shared);
        Ok(Some(Check { instance, form, file, layout, block: 0, archive: 0, place: 0 }))
    }

    /// Adds a tile to the damage that the operator is told of, in the words of a reader.
    pub fn report_tile(&self, tile: &BadTile) {
        if let Some(instance) = self.instance(tile.instance) {
            let reason = mismatch();
            let first = Ring::first_row(Ring::tile_of(tile.rows.0));
            self.report(unreadable(&instance, tile.column.index, tile.archive, first, &reason));
        }
    }
}

impl Store {
    /// Adds a place that cannot be read at all to the damage that the operator is told of; as after a
    /// read, an archive that has been cut or is gone is set apart.
    pub fn report_unreadable(&self, instance: InstanceId, reason: &io::Error) {
        if let Some(instance) = self.instance(instance) {
            let what = format!("cannot be read: {reason}; its rows are unknown, check the disk");
            self.report(instance.damage(what));
            self.check_length(&instance);
        }
    }
}

/// Why a tile is not read. Of this kind, so that the file is not taken for cut.
pub(super) fn mismatch() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "their checksum does not match")
}

/// The damage of one tile.
pub(super) fn unreadable(
    instance: &Instance,
    column: u32,
    archive: usize,
    first_row: i64,
    reason: &io::Error,
) -> Damage {
    instance.damage(format!(
        "column {column}, archive {archive}, rows {first_row}..: {reason}; they are unknown, restore the file to have them back"
    ))
}

impl Check {
    /// Checks the tiles of one place in one block; `None` when all have been. Readers are not kept
    /// waiting; a round of this instance waits for one place at most. After an error the next step goes
    /// on behind the place that could not be read.
    pub fn step(&mut self) -> io::Result<Option<Checked>> {
        for _ in 0..MOST_EMPTY {
            if self.ring().is_none() {
                return Ok(None);
            }
            let checked = self.look();
            self.advance();
            if let Some(checked) = checked? {
                return Ok(Some(checked));
            }
        }
        Ok(Some(Checked::default()))
    }

    /// Checks this place; `None` where it holds no row.
    fn look(&self) -> io::Result<Option<Checked>> {
        let Some((block, ring)) = self.ring() else { return Ok(None) };
        let _shared = read(&self.instance.tiles);
        let tiles = self.tiles(block, ring, self.place);
        if tiles.is_empty() {
            return Ok(None);
        }
        let look = Look { file: &self.file, block, ring, place: self.place };
        let (mut bytes, mut bad) = look.check(&tiles)?;
        if !bad.is_empty() {
            // Once more, past the cache: a bit that flipped in memory is not rot.
            look.forget();
            let (more, again) = look.check(&bad)?;
            (bytes, bad) = (bytes + more, again);
        }
        let bad = bad.iter().map(|tile| self.bad(tile)).collect();
        Ok(Some(Checked { bytes, tiles: tiles.len() as u64, bad }))
    }

    fn ring(&self) -> Option<(&Block, &Ring)> {
        let block = self.layout.get(self.block)?;
        Some((block, block.rings.get(self.archive)?))
    }

    fn advance(&mut self) {
        let Some((block, ring)) = self.ring() else { return };
        let (tile_count, archive_count) = (ring.tile_count, block.rings.len());
        self.place += 1;
        if self.place == tile_count {
            (self.place, self.archive) = (0, self.archive + 1);
        }
        if self.archive == archive_count {
            (self.archive, self.block) = (0, self.block + 1);
        }
    }

    /// The tiles of a place that hold rows which may be read, one for each column at most.
    fn tiles(&self, block: &Block, ring: &Ring, place: u64) -> Vec<Tile> {
        let archive_count = block.rings.len();
        let state = lock(&self.instance.state);
        let finest = self.form.policy.step();
        let mut tiles = Vec::new();
        if !Arc::ptr_eq(&state.form, &self.form) {
            return tiles; // Another file has taken its place, or soon will.
        }
        for (position, index) in (0..).zip(block.columns()) {
            let at = index as usize;
            let Some(series) = state.series_at(at) else { continue };
            let filed = state.filed.row(at);
            if series.head.is_unborn() || filed == NO_ROW {
                continue;
            }
            let Some(checksum) = state.filed.checksums.get(at * archive_count + self.archive)
            else {
                continue;
            };
            let begin = ring.newest(series.birth.floor(finest).row(finest));
            let newest = ring.newest(series.head.opened(finest).row(finest));
            let oldest = newest.saturating_sub_unsigned(ring.row_count).max(begin) + 1;
            let filed = ring.newest(filed);
            let Some(tile) = ring
                .tile_at(place, filed)
                .filter(|tile| oldest <= filed && *tile >= Ring::tile_of(oldest))
            else {
                continue;
            };
            let (low, high) = Ring::rows_of(tile, begin, filed);
            if low <= high {
                let column = series.column();
                let open_checksum = (Ring::first_row(tile + 1) - 1 > filed).then_some(*checksum);
                tiles.push(Tile { column, position, number: tile, low, high, open_checksum });
            }
        }
        tiles
    }

    fn bad(&self, tile: &Tile) -> BadTile {
        let state = lock(&self.instance.state);
        let key = state.series(tile.column).map(|series| Arc::clone(series.key));
        BadTile {
            instance: self.instance.id,
            column: tile.column,
            labels: key.and_then(|key| Labels::from_key(key.bytes()).ok()).unwrap_or_default(),
            archive: self.archive,
            spec: self.form.archives[self.archive],
            rows: (tile.low, tile.high),
        }
    }
}

/// Rows of one tile that the file has.
#[derive(Clone, Copy)]
struct Tile {
    column: Column,
    position: u32,
    /// Counted from 1970.
    number: i64,
    low: i64,
    high: i64,
    /// The checksum so far, if the newest row is in this tile; else it is in the file.
    open_checksum: Option<u32>,
}

/// All columns of a block at one place of a ring: their tiles lie side by side.
struct Look<'a> {
    file: &'a ColdFile,
    block: &'a Block,
    ring: &'a Ring,
    place: u64,
}

impl Look<'_> {
    /// Bytes read, and the tiles that do not match.
    fn check(&self, tiles: &[Tile]) -> io::Result<(u64, Vec<Tile>)> {
        let shape = self.ring.shape;
        let mut all = vec![0; self.len()];
        self.file.read_at(&mut all, self.offset())?;
        let is_bad = |tile: &&Tile| {
            let start = tile.position as usize * shape.tile_len();
            let mut bytes = TileBytes::of(shape);
            bytes.tile().copy_from_slice(&all[start..start + shape.tile_len()]);
            let expected = tile.open_checksum.unwrap_or_else(|| bytes.seal());
            expected != bytes.checksum(tile.number, tile.column, tile.places())
        };
        Ok((all.len() as u64, tiles.iter().filter(is_bad).copied().collect()))
    }

    fn forget(&self) {
        self.file.forget(self.offset(), self.len());
    }

    fn offset(&self) -> u64 {
        self.ring.offset_of(self.place.cast_signed(), 0)
    }

    fn len(&self) -> usize {
        self.block.width as usize * self.ring.shape.tile_len()
    }
}

impl Tile {
    /// Its rows, counted from the first of the tile.
    fn places(&self) -> std::ops::Range<usize> {
        let first = Ring::first_row(self.number);
        let place = |row: i64| usize::try_from(row - first).expect("a row of the tile");
        place(self.low)..place(self.high + 1)
    }
}

/// What a start believes, written anew. Only for a store of which nobody else has the files.
impl Store {
    /// Writes unknown over tiles that cannot be read, so that they are not reported for ever. The
    /// store must stand at the record's `seq`, without frames after it.
    pub fn forget_tiles(&self, tiles: &[BadTile], seq: u64, epoch: u64) -> io::Result<()> {
        let mut touched = BTreeSet::new();
        for bad in tiles {
            let Some(instance) = self.instance(bad.instance) else { continue };
            let layout = instance.layout();
            let Some((_, block)) = block_of(&layout, bad.column.index) else { continue };
            let Some(ring) = block.rings.get(bad.archive) else { continue };
            let file = self.handles.file(instance.id, &instance.path)?;
            repair::forget(file.as_ref(), &layout)?;
            let tile = Ring::tile_of(bad.rows.0);
            let position = bad.column.index - block.first_column;
            let (shape, at) = (ring.shape, ring.offset_of(tile, position));
            let row_len = shape.row_len();
            let first = usize::try_from(bad.rows.0 - Ring::first_row(tile)).unwrap_or_default();
            let count = usize::try_from(bad.rows.1 - bad.rows.0 + 1).unwrap_or_default();
            let unknown = vec![0; count * row_len];
            file.write_at(&unknown, at + (first * row_len) as u64)?;
            let checksum = add_rows(begin_checksum(tile, bad.column), &unknown);
            if bad.rows.1 == Ring::first_row(tile + 1) - 1 {
                let seal_at = at + (shape.tile_len() - SEAL_LEN) as u64;
                file.write_at(&checksum.to_le_bytes(), seal_at)?;
            } else {
                let at = bad.column.index as usize * block.rings.len() + bad.archive;
                let mut state = lock(&instance.state);
                if let Some(kept) = Arc::make_mut(&mut state.filed.checksums).get_mut(at) {
                    *kept = checksum;
                    touched.insert(instance.id);
                }
            }
            file.sync_data()?;
        }
        self.write_both_slots(&touched, seq, epoch)
    }

    /// Writes the state of this instance into both slots, from the one that a start uses.
    pub fn rewrite_slots(&self, instance: InstanceId, seq: u64, epoch: u64) -> io::Result<()> {
        self.write_both_slots(&BTreeSet::from([instance]), seq, epoch)
    }

    /// Two rounds at one sequence number: the copy that counts is the last to be written over. Of these
    /// instances alone: others may stand at another number.
    fn write_both_slots(
        &self,
        touched: &BTreeSet<InstanceId>,
        seq: u64,
        epoch: u64,
    ) -> io::Result<()> {
        // Changes that wait in the journal need their room.
        lock(&self.leftovers).clear();
        for _ in 0..2 {
            for instance in self.all() {
                lock(&instance.state).is_dirty = touched.contains(&instance.id);
            }
            let report = self.begin_round(seq, epoch).write();
            if let Some((instance, reason)) = report.failed.first() {
                return Err(io::Error::other(format!("archive {instance}: {reason}")));
            }
            self.finish_round(seq);
        }
        Ok(())
    }
}
