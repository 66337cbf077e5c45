//! Building: a whole archive file in one go, from series whose rows are known.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::anchors::push_anchors;
use super::column_rows::{ColumnRows, RunRows};
use super::places::Places;
use super::room::write_blocks;
use super::state::{Filed, NO_ROW, Written};
use crate::file::{
    AccumulatorsHead, Block, Catalogue, Entry, Header, Patches, Ring, Slot, labels_at, record_len,
    slot_at, write_labels,
};
use crate::series::{Definition, Open, Run};
use crate::{Anchor, Batch, Cell, Column, Disk, File, InstanceId, Labels, Policy};

/// Whose archive is built, and the moment that it stands at.
pub(crate) struct Whole<'a> {
    pub(crate) instance: InstanceId,
    pub(crate) policy: &'a Policy,
    /// Labels of the instance.
    pub(crate) labels: &'a Labels,
    /// The last batch that is in it; number 0 for none.
    pub(crate) batch: Batch,
    /// A restart uses the file from this checkpoint on.
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
}

/// A series with all its rows.
pub(crate) struct BuiltSeries {
    /// Its labels with `__name__`, as [`Labels::to_key`] has them.
    pub(crate) key: Arc<[u8]>,
    /// Which series of its column it is; 1 in a new file.
    pub(crate) generation: u32,
    pub(crate) definition: Definition,
    pub(crate) cell: Cell,
    /// Where it stands: its newest row decides which rows are kept.
    pub(crate) open: Open,
    /// For each archive of the policy rows in ascending order; those that are missing are unknown.
    pub(crate) rows: Vec<Vec<Run>>,
    /// What a counter stood at, oldest first; at most one for each run of finest steps that is kept.
    pub(crate) anchors: Vec<Anchor>,
}

/// What a built file holds.
pub(crate) struct Built {
    pub(crate) filed: Filed,
    /// Bytes written.
    pub(crate) bytes: u64,
}

/// Makes `<dir>/<id>.new`, allocated in full and synced; answers its length. To rename it is the
/// caller's. What could not be finished is removed.
pub(crate) fn build(
    disk: &dyn Disk,
    dir: &Path,
    whole: &Whole<'_>,
    series: Vec<BuiltSeries>,
) -> io::Result<u64> {
    let (blocks, placed) = place(whole.policy, series)?;
    let path = dir.join(format!("{}.new", whole.instance));
    remove_if_there(disk, &path)?;
    let file = disk.create(&path)?;
    let end = blocks.last().map_or(0, Block::end);
    let filled = file.allocate(0, end).and_then(|()| {
        let placed = placed.into_iter().map(|(column, series)| (column, Some(series)));
        fill(file.as_ref(), whole, &blocks, placed)
    });
    match filled {
        Ok(_) => Ok(end),
        Err(error) => {
            // Best effort: what is left over is removed at the next start.
            drop(disk.remove(&path));
            Err(error)
        }
    }
}

/// Removes a file that may not be there.
pub(super) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

type Placed = Vec<(Column, BuiltSeries)>;

/// Blocks and columns as a grant of these series would have made them.
fn place(policy: &Policy, series: Vec<BuiltSeries>) -> io::Result<(Vec<Block>, Placed)> {
    let mut places = Places::new(policy);
    for one in &series {
        *places.coming.of(one.cell) += 1;
    }
    let mut placed = Vec::with_capacity(series.len());
    for (count, one) in series.into_iter().enumerate() {
        let column = places.place(count, one.cell, &one.key).map_err(io::Error::other)?;
        *places.coming.of(one.cell) -= 1;
        placed.push((Column { generation: one.generation, ..column }, one));
    }
    placed.sort_unstable_by_key(|(column, _)| column.index);
    Ok((places.blocks, placed))
}

/// Writes everything of a file that is allocated already, and syncs it. The series come in order of
/// column, one at a time, so that a large instance is never in memory as a whole; `None` is a column
/// whose series was dropped.
pub(super) fn fill(
    file: &dyn File,
    whole: &Whole<'_>,
    blocks: &[Block],
    series: impl Iterator<Item = (Column, Option<BuiltSeries>)>,
) -> io::Result<Built> {
    let (instance, policy) = (whole.instance, whole.policy.clone());
    let header = Header { instance, policy, views: String::new() };
    file.write_at(&header.encode(), 0)?;
    write_blocks(file, 0, blocks)?;
    let mut filling = Filling {
        whole,
        archive_count: whole.policy.archives().len(),
        patches: Patches::of(file),
        filed: Filed::default(),
        rows: Vec::new(),
    };
    let mut series = series.peekable();
    for block in blocks {
        let mut of_block = Vec::new();
        while let Some((column, one)) =
            series.next_if(|(column, _)| block.columns().contains(&column.index))
        {
            of_block.push(filling.column(block, column, one)?);
        }
        filling.block(block, &of_block)?;
    }
    filling.slot(blocks.len())?;
    let Filling { mut patches, mut filed, mut rows, .. } = filling;
    rows.resize(filed.rows.len(), NO_ROW);
    filed.rows.put(&rows);
    Ok(Built { bytes: patches.finish()?, filed })
}

struct Filling<'a> {
    whole: &'a Whole<'a>,
    archive_count: usize,
    patches: Patches<'a>,
    filed: Filed,
    /// By column: its newest row.
    rows: Vec<i64>,
}

/// A column whose rows are written.
struct Done {
    column: Column,
    checksums: Vec<u32>,
    /// `None` where no series lives.
    series: Option<(Arc<[u8]>, Definition, Open)>,
}

impl Filling<'_> {
    fn column(
        &mut self,
        block: &Block,
        column: Column,
        series: Option<BuiltSeries>,
    ) -> io::Result<Done> {
        let mut checksums = vec![0; self.archive_count];
        let Some(series) = series else { return Ok(Done { column, checksums, series: None }) };
        let BuiltSeries { key, definition, open, rows, anchors, .. } = series;
        if let Some((birth_row, newest_row)) = open.closed_rows(self.whole.policy.step()) {
            for ((ring, rows), checksum) in block.rings.iter().zip(rows).zip(&mut checksums) {
                let begin = ring.newest(birth_row);
                let column_rows = ColumnRows {
                    ring,
                    column,
                    position: column.index - block.first_column,
                    begin,
                    filed: begin,
                    newest: ring.newest(newest_row),
                };
                let rows = without_gaps(rows, begin, ring, column_rows.newest);
                *checksum = column_rows.write(&mut RunRows::of(&rows), 0, &mut self.patches)?;
            }
            push_anchors(&mut self.patches, block, column, anchors.into_iter().rev())?;
            let place = column.index as usize;
            self.rows.resize(self.rows.len().max(place + 1), NO_ROW);
            self.rows[place] = newest_row;
        }
        Ok(Done { column, checksums, series: Some((key, definition, open)) })
    }

    /// Accumulators and catalogue of a block, in their first copies.
    fn block(&mut self, block: &Block, columns: &[Done]) -> io::Result<()> {
        let &Whole { seq, epoch, .. } = self.whole;
        let record_len = record_len(self.archive_count);
        let mut records = vec![0; columns.len() * record_len];
        for (record, done) in records.chunks_exact_mut(record_len).zip(columns) {
            done.write_record(record);
        }
        let head = AccumulatorsHead {
            seq,
            epoch,
            catalogue_seq: seq,
            records_crc: crc32c::crc32c(&records),
            column_count: u32::try_from(columns.len()).expect("at most 64 columns a block"),
            catalogue_copy: 0,
        };
        let at = block.accumulators_at(0);
        self.patches.push(at, &head.encode())?;
        self.patches.push(at + AccumulatorsHead::LEN as u64, &records)?;
        let entries = columns.iter().map(Done::entry);
        let catalogue = Catalogue::encode(seq, epoch, entries);
        self.patches.push(block.catalogue_at(0), &catalogue)?;
        Arc::make_mut(&mut self.filed.catalogues).push(Written { seq, copy: 0 });
        self.filed.grow(block.columns().end as usize, self.archive_count);
        let checksums = Arc::make_mut(&mut self.filed.checksums);
        for done in columns {
            let first = done.column.index as usize * self.archive_count;
            checksums[first..first + self.archive_count].copy_from_slice(&done.checksums);
        }
        Ok(())
    }

    fn slot(&mut self, block_count: usize) -> io::Result<()> {
        let &Whole { seq, epoch, batch, labels, .. } = self.whole;
        // Number 0 would say that it has none; no frame has a number below 2.
        let labels_seq = seq.max(1);
        let bytes = write_labels(labels_seq, epoch, labels).ok_or(io::ErrorKind::InvalidData)?;
        self.patches.push(labels_at(0), &bytes)?;
        self.filed.labels = Written { seq: labels_seq, copy: 0 };
        let block_count = u32::try_from(block_count).expect("at most 256 blocks");
        let slot =
            Slot { seq, epoch, batch, labels_seq, labels_copy: 0, block_count, is_removed: false };
        // In both places, so that neither looks damaged; what the second would need is not there, and
        // the first round writes over it.
        self.patches.push(slot_at(0), &slot.encode())?;
        self.patches.push(slot_at(1), &slot.encode())
    }
}

impl Done {
    fn write_record(&self, record: &mut [u8]) {
        let (generation, rest) = record.split_at_mut(4);
        generation.copy_from_slice(&self.column.generation.to_le_bytes());
        let (checksums, open) = rest.split_at_mut(4 * self.checksums.len());
        for (bytes, checksum) in checksums.chunks_exact_mut(4).zip(&self.checksums) {
            bytes.copy_from_slice(&checksum.to_le_bytes());
        }
        match &self.series {
            Some((_, _, series)) => series.encode(open),
            None => Open::unborn(self.checksums.len() - 1).encode(open),
        }
    }

    fn entry(&self) -> Entry<'_> {
        let generation = self.column.generation;
        match &self.series {
            Some((key, definition, _)) => Entry::of(generation, definition, key),
            None => Entry::vacant(generation),
        }
    }
}

/// The rows that the ring keeps, with unknown ones where some are missing.
fn without_gaps(rows: Vec<Run>, begin: i64, ring: &Ring, newest: i64) -> Vec<Run> {
    let mut whole = Vec::with_capacity(rows.len() + 2);
    let mut next = Ring::first_row(ring.oldest_tile(newest)).max(begin + 1);
    for run in rows {
        let end = run.first_row.saturating_add_unsigned(run.count);
        if end <= next {
            continue;
        }
        if run.first_row > next {
            whole.extend(Run::unknown(run.archive, next..run.first_row));
        }
        whole.push(run);
        next = end;
    }
    whole.extend(Run::unknown(0, next..newest + 1));
    whole
}

#[cfg(test)]
mod tests;
