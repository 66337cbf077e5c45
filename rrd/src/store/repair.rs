//! Repairs: the round's part of late readings, where the file already has the row.
//!
//! Bytes that the slot of a restart looks at are saved in the undo area of their block, and that is
//! synced, before the first of them is written over. A start puts them back unless the round counts.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::instance::{Instance, block_of};
use super::round::Work;
use super::state::{NO_ROW, State};
use super::{lock, write};
use crate::file::{
    Block, Ring, SLOT_LEN, Slot, TileBytes, UNDO_ENTRY_LEN, UNDO_HEAD_LEN, UndoBase, UndoEntry,
    slot_at, undo_entries,
};
use crate::series::{LATE_ROWS, Run};
use crate::waiting::repairs_of;
use crate::{Column, File};

/// Bytes and where they are in the file.
pub(super) type Piece = (u64, Vec<u8>);

/// What a round does to rows that the file has.
#[derive(Default)]
pub(super) struct Repairs {
    /// Changed rows, and checksums of full tiles.
    pub(super) patches: Vec<Piece>,
    /// What was there.
    before: Vec<Piece>,
    /// Of tiles that are not full.
    pub(super) checksums: Vec<Checksum>,
    /// Tiles to be saved, with the number of their block.
    saved: Vec<(usize, Piece)>,
}

/// The checksum so far of a tile that is not full, and its place in [`super::state::Filed::checksums`].
#[derive(Clone, Copy)]
pub(super) struct Checksum {
    pub(super) place: usize,
    before: u32,
    pub(super) after: u32,
}

/// One column and archive of a file.
struct Tiles<'a> {
    file: &'a dyn File,
    number: usize,
    block: &'a Block,
    ring: &'a Ring,
    column: Column,
    /// Rows up to this one are before the series began.
    begin: i64,
    /// The newest row that a restart would find, if any.
    counted: Option<i64>,
    /// The newest row that the file has.
    filed: i64,
    /// The newest row that it will have.
    newest: i64,
    open: Checksum,
}

impl Repairs {
    /// What is to be done. Reads what it will change, and writes nothing.
    pub(super) fn plan(file: &dyn File, work: &Work) -> io::Result<Self> {
        let mut repairs = Self::default();
        for &index in &work.repaired {
            let place = index as usize;
            let (Some(column), Some((number, block))) =
                (work.columns.get(place), block_of(&work.layout, index))
            else {
                continue;
            };
            let filed = work.filed.row(place);
            if column.generation == 0 || filed == NO_ROW {
                continue;
            }
            let counted = work.filed.counted(place);
            for (archive, ring) in block.rings.iter().enumerate() {
                let place = place * block.rings.len() + archive;
                let checksum = work.filed.checksums[place];
                let tiles = Tiles {
                    file,
                    number,
                    block,
                    ring,
                    column: Column { index, generation: column.generation },
                    begin: ring.newest(column.birth_row),
                    counted: (counted != NO_ROW).then(|| ring.newest(counted)),
                    filed: ring.newest(filed),
                    newest: ring.newest(column.newest_row),
                    open: Checksum { place, before: checksum, after: checksum },
                };
                let chains = work.frozen.iter().map(Arc::as_ref);
                repairs.change(&tiles, &repairs_of(chains, tiles.column, archive))?;
                if archive == 0 && block.rings.len() > 1 {
                    repairs.save_steps(&tiles)?;
                }
            }
        }
        Ok(repairs)
    }

    /// Rows of one archive that late readings have changed.
    fn change(&mut self, tiles: &Tiles<'_>, rows: &[Run]) -> io::Result<()> {
        // Tiles that this very round writes over are left out.
        let oldest = Ring::first_row(tiles.ring.oldest_tile(tiles.newest)).max(tiles.begin + 1);
        let first = rows.partition_point(|run| run.first_row < oldest);
        let end = rows.partition_point(|run| run.first_row <= tiles.filed);
        let tile_of = |run: &Run| Ring::tile_of(run.first_row);
        let filed = rows.get(first..end).unwrap_or_default();
        for rows in filed.chunk_by(|a, b| tile_of(a) == tile_of(b)) {
            self.change_tile(tiles, tile_of(&rows[0]), rows)?;
        }
        Ok(())
    }

    fn change_tile(&mut self, tiles: &Tiles<'_>, tile: i64, rows: &[Run]) -> io::Result<()> {
        let (shape, at) = (tiles.ring.shape, tiles.at(tile));
        let first_row = Ring::first_row(tile);
        let (low, high) = Ring::rows_of(tile, tiles.begin, tiles.filed);
        let place = |row: i64| usize::try_from(row - first_row).expect("a row of the tile");
        let places = place(low)..place(high) + 1;
        let is_full = high + 1 == Ring::first_row(tile + 1);
        let mut bytes = TileBytes::of(shape);
        tiles.file.read_at(bytes.tile(), at)?;
        let before = if is_full { bytes.seal() } else { tiles.open.before };
        if bytes.checksum(tile, tiles.column, places.clone()) != before {
            // Rot is unknown, and does not pass for whole under a new checksum.
            return Ok(());
        }
        self.save(tiles, tile, bytes.tile());
        for run in rows {
            let start = place(run.first_row) * shape.row_len();
            let row = &mut bytes.tile()[start..start + shape.row_len()];
            self.before.push((at + start as u64, row.to_vec()));
            shape.write(run, row);
            self.patches.push((at + start as u64, row.to_vec()));
        }
        let after = bytes.checksum(tile, tiles.column, places);
        if is_full {
            let seal_at = at + (shape.tile_len() - crate::file::SEAL_LEN) as u64;
            self.before.push((seal_at, before.to_le_bytes().to_vec()));
            self.patches.push((seal_at, after.to_le_bytes().to_vec()));
        } else {
            self.checksums.push(Checksum { after, ..tiles.open });
        }
        Ok(())
    }

    /// Saves the last steps that a restart would find, where the round overtakes them: replay needs them
    /// to fill late readings again.
    fn save_steps(&mut self, tiles: &Tiles<'_>) -> io::Result<()> {
        let Some(counted) = tiles.counted else { return Ok(()) };
        let (kept, left) =
            (tiles.ring.oldest_tile(tiles.filed), tiles.ring.oldest_tile(tiles.newest));
        let first = Ring::tile_of((counted - LATE_ROWS).max(tiles.begin) + 1).max(kept);
        for tile in first..left.min(Ring::tile_of(counted) + 1) {
            let mut bytes = vec![0; tiles.ring.shape.tile_len()];
            tiles.file.read_at(&mut bytes, tiles.at(tile))?;
            self.save(tiles, tile, &bytes);
        }
        Ok(())
    }

    fn save(&mut self, tiles: &Tiles<'_>, tile: i64, bytes: &[u8]) {
        if tiles.counted.is_some_and(|counted| Ring::first_row(tile) <= counted) {
            let at = tiles.at(tile) - tiles.block.offset;
            self.saved.push((tiles.number, (at, bytes.to_vec())));
        }
    }

    /// Saves the bytes that a restart would look at, and syncs them.
    pub(super) fn keep(&self, file: &dyn File, work: &Work) -> io::Result<()> {
        if self.saved.is_empty() {
            return Ok(());
        }
        let mut slot = [0; SLOT_LEN];
        file.read_at(&mut slot, slot_at(1 - work.filed.slot))?;
        // A slot that is not whole is one that no restart will use.
        let Some(slot) = Slot::decode(&slot) else { return Ok(()) };
        let base = UndoBase::from(slot);
        for of_block in self.saved.chunk_by(|a, b| a.0 == b.0) {
            let pieces = of_block.iter().map(|(_, piece)| piece);
            append(file, &work.layout[of_block[0].0], base, pieces)?;
        }
        if let Some(first) = work.layout.first() {
            file.write_at(&base.encode(), first.undo().0)?;
        }
        file.sync_data()
    }

    /// Says in memory which checksums the tiles have that are not full, now that they are written.
    pub(super) fn tell(&self, instance: &Instance) {
        if !self.checksums.is_empty() {
            let after = self.checksums.iter().map(|checksum| (checksum.place, checksum.after));
            lock(&instance.state).know(after);
        }
    }

    /// Puts everything back, after a round that failed, while nobody reads; while the disk does not even do that, it is to be
    /// done before anything else is written.
    pub(super) fn take_back(&self, file: &dyn File, instance: &Instance) {
        if self.patches.is_empty() {
            return;
        }
        let is_back = write_all(file, &self.before).is_ok();
        let mut state = lock(&instance.state);
        state.know(self.checksums.iter().map(|checksum| (checksum.place, checksum.before)));
        if !is_back {
            state.torn.extend_from_slice(&self.before);
        }
    }
}

impl Tiles<'_> {
    /// Where a tile begins.
    fn at(&self, tile: i64) -> u64 {
        self.ring.offset_of(tile, self.column.index - self.block.first_column)
    }
}

impl State {
    /// Tiles of the file have these checksums, so far.
    fn know(&mut self, checksums: impl Iterator<Item = (usize, u32)>) {
        let put = |known: &mut Vec<u32>| {
            for (place, checksum) in checksums {
                if let Some(known) = known.get_mut(place) {
                    *known = checksum;
                }
            }
        };
        // Since a change of archives the file is that of the former ones.
        match &self.former {
            None => put(Arc::make_mut(&mut self.filed.checksums)),
            Some(former) => {
                let mut filed = former.filed().clone();
                put(Arc::make_mut(&mut filed.checksums));
                self.former = Some(Arc::new(former.with_filed(filed)));
            }
        }
    }
}

/// Writes what a failed round could not put back, if there is any.
pub(super) fn put_back(file: &dyn File, instance: &Instance) -> io::Result<()> {
    let torn = std::mem::take(&mut lock(&instance.state).torn);
    if torn.is_empty() {
        return Ok(());
    }
    let mut alone = write(&instance.tiles);
    alone.change();
    let written = write_all(file, &torn);
    if written.is_err() {
        lock(&instance.state).torn = torn;
    }
    written
}

fn write_all(file: &dyn File, pieces: &[Piece]) -> io::Result<()> {
    pieces.iter().try_for_each(|(at, bytes)| file.write_at(bytes, *at))
}

/// Adds entries to the undo area of a block, for places that have none yet. Those there are are written
/// once more, since nobody knows whether they were ever synced.
fn append<'a>(
    file: &dyn File,
    block: &Block,
    base: UndoBase,
    pieces: impl Iterator<Item = &'a Piece>,
) -> io::Result<()> {
    let (area_at, area) = (block.undo().0, read_area(file, block)?);
    let (entries, next) = undo_entries(&area, base);
    let mut known: BTreeSet<u64> = entries.iter().map(|entry| entry.at).collect();
    let mut used = area[UNDO_HEAD_LEN..next].to_vec();
    for (at, bytes) in pieces {
        if known.insert(*at) {
            UndoEntry { at: *at, bytes }.encode(base, &mut used);
        }
    }
    if UNDO_HEAD_LEN + used.len() > area.len() {
        // Never by what late readings can change: see `undo_len`.
        return Err(io::Error::other(
            "no room to save rows; run `roundel fsck` on the stopped store",
        ));
    }
    file.write_at(&used, area_at + UNDO_HEAD_LEN as u64)
}

fn marked(file: &dyn File, first: &Block) -> io::Result<Option<UndoBase>> {
    let mut head = [0; UNDO_HEAD_LEN];
    file.read_at(&mut head, first.undo().0)?;
    Ok(UndoBase::decode(&head))
}

fn read_area(file: &dyn File, block: &Block) -> io::Result<Vec<u8>> {
    let (at, len) = block.undo();
    let mut area = vec![0; usize::try_from(len).expect("some tiles of 64 columns")];
    file.read_at(&mut area, at)?;
    Ok(area)
}

/// Puts back what rounds after this slot have written over. Done again it changes nothing: the entries
/// stay.
pub(super) fn restore(file: &dyn File, layout: &[Block], slot: Slot) -> io::Result<()> {
    let base = UndoBase::from(slot);
    let Some(first) = layout.first() else { return Ok(()) };
    if marked(file, first)? != Some(base) {
        return Ok(());
    }
    for block in layout {
        let area = read_area(file, block)?;
        for entry in undo_entries(&area, base).0 {
            let end = entry.at.checked_add(entry.bytes.len() as u64);
            if end.is_some_and(|end| block.offset + end <= block.undo().0) {
                file.write_at(entry.bytes, block.offset + entry.at)?;
            }
        }
    }
    file.sync_data()
}

/// Forgets what is saved: tiles are about to be written that no round has to do with. The first entry of
/// each block goes too, so that a later round of the same base does not find them again.
pub(super) fn forget(file: &dyn File, layout: &[Block]) -> io::Result<()> {
    let nothing = [0; UNDO_HEAD_LEN + UNDO_ENTRY_LEN];
    layout.iter().try_for_each(|block| file.write_at(&nothing, block.undo().0))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::file::FIRST_BLOCK_AT;
    use crate::{Cell, Disk, MemDisk, Policy};

    #[test]
    fn what_is_forgotten_is_not_found_by_a_later_round_of_the_same_base() {
        let policy = Policy::parse("1m:2d,5m:14d").unwrap();
        let first = Block::plan(&policy, FIRST_BLOCK_AT, 0, 4, Cell::F32);
        let second = Block::plan(&policy, first.end(), 4, 16, Cell::F32);
        let layout = [first, second];
        let file = MemDisk::new().create(Path::new("/archive")).unwrap();
        file.allocate(0, layout[1].end()).unwrap();
        let base = UndoBase { seq: 7, epoch: 1 };
        let pieces = [(64, vec![1; 68]), (132, vec![2; 68])];
        for block in &layout {
            append(file.as_ref(), block, base, pieces.iter()).unwrap();
            assert_eq!(undo_entries(&read_area(file.as_ref(), block).unwrap(), base).0.len(), 2);
        }
        forget(file.as_ref(), &layout).unwrap();
        for block in &layout {
            assert_eq!(undo_entries(&read_area(file.as_ref(), block).unwrap(), base).0, []);
        }
    }
}
