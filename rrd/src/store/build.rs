//! Building: a whole archive file in one go, from series whose rows are known.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::column_rows::ColumnRows;
use super::grant::{Places, write_blocks};
use super::state::{Filed, Written};
use crate::file::{
    AccumulatorsHead, Block, Catalogue, Entry, Header, Patches, Ring, Slot, labels_at, record_len,
    slot_at, write_labels,
};
use crate::series::{Definition, Open, Run};
use crate::{Batch, Cell, Column, Disk, File, InstanceId, Labels, Policy};

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
}

/// What a built file holds.
pub(crate) struct Built {
    pub(crate) filed: Filed,
    /// Bytes written.
    pub(crate) bytes: u64,
}

/// Makes `<dir>/<id>.new`, allocated in full and synced; answers its length. To rename it is the
/// caller's. What could not be finished is removed.
#[cfg_attr(not(test), expect(dead_code, reason = "archives are imported through it"))]
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

/// Blocks and columns as grants of these series, one after the other, would have made them.
fn place(policy: &Policy, series: Vec<BuiltSeries>) -> io::Result<(Vec<Block>, Placed)> {
    let mut places = Places { policy, all_f64: false, layout: &[], used: Vec::new(), blocks: Vec::new(), free: BTreeMap::new() };
    let mut placed = Vec::with_capacity(series.len());
    for (count, one) in series.into_iter().enumerate() {
        let column = places.place(count, one.cell, &one.key).map_err(io::Error::other)?;
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
    let header = Header { instance: whole.instance, policy: whole.policy.clone() };
    file.write_at(&header.encode(), 0)?;
    write_blocks(file, 0, blocks)?;
    let mut filling = Filling {
        whole,
        archive_count: whole.policy.archives().len(),
        patches: Patches::of(file),
        filed: Filed::default(),
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
    Ok(Built { bytes: filling.patches.finish()?, filed: filling.filed })
}

struct Filling<'a> {
    whole: &'a Whole<'a>,
    archive_count: usize,
    patches: Patches<'a>,
    filed: Filed,
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
        let BuiltSeries { key, definition, open, rows, .. } = series;
        if let Some((birth_row, newest_row)) = open.closed_rows(self.whole.policy.step()) {
            for ((ring, rows), checksum) in block.rings.iter().zip(rows).zip(&mut checksums) {
                let begin = ring.newest(birth_row);
                let column_rows = ColumnRows {
                    ring,
                    shape: ring.shape(block.cell),
                    column,
                    position: column.index - block.first_column,
                    begin,
                    filed: begin,
                    newest: ring.newest(newest_row),
                };
                let rows = without_gaps(rows, begin, ring, column_rows.newest);
                *checksum = column_rows.write(&rows, 0, &mut self.patches)?;
            }
            self.filed.grow(column.index as usize + 1, self.archive_count);
            self.filed.rows[column.index as usize] = newest_row;
        }
        Ok(Done { column, checksums, series: Some((key, definition, open)) })
    }

    /// Accumulators and catalogue of a block, in their first copies.
    fn block(&mut self, block: &Block, columns: &[Done]) -> io::Result<()> {
        let &Whole { seq, epoch, .. } = self.whole;
        let record_len = record_len(self.archive_count);
        let mut records = vec![0; block.width as usize * record_len];
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
        self.filed.catalogues.push(Written { seq, copy: 0 });
        self.filed.grow(block.columns().end as usize, self.archive_count);
        for done in columns {
            let first = done.column.index as usize * self.archive_count;
            self.filed.checksums[first..first + self.archive_count]
                .copy_from_slice(&done.checksums);
        }
        Ok(())
    }

    fn slot(&mut self, block_count: usize) -> io::Result<()> {
        let &Whole { seq, epoch, batch, labels, .. } = self.whole;
        let bytes = write_labels(seq, epoch, labels).ok_or(io::ErrorKind::InvalidData)?;
        self.patches.push(labels_at(0), &bytes)?;
        self.filed.labels = Written { seq, copy: 0 };
        let block_count = u32::try_from(block_count).expect("at most 256 blocks");
        let slot = Slot { seq, epoch, batch, labels_seq: seq, labels_copy: 0, block_count, is_removed: false };
        self.patches.push(slot_at(0), &slot.encode())
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
mod tests {
    use super::*;
    use crate::store::{Store, lock};
    use crate::{GrantRequest, Kind, MemDisk, NewSeries, Sample, SampleFrame, Timestamp};

    const WEB: InstanceId = InstanceId(0xfeed);

    fn dump(store: &Store) -> String {
        let mut text = String::new();
        store.canonical_dump(&mut text).unwrap();
        text
    }

    /// A store with series in both cells, one of them unborn, and rings in their second lap.
    fn lived(disk: &MemDisk, policy: &Policy) -> Store {
        let disk = Arc::new(disk.clone());
        let (store, _) = Store::open(disk, Path::new("/lived"), 0).unwrap();
        let series = |name: &str, kind| NewSeries {
            labels: Labels::from_pairs([("__name__", name)]).unwrap(),
            kind,
            first_reading: None,
        };
        let mut series: Vec<_> =
            (0..6).map(|n| series(&format!("gauge{n}"), Kind::Gauge)).collect();
        series.push(NewSeries { kind: Kind::Unknown, ..series[0].clone() });
        series[6].labels = Labels::from_pairs([("__name__", "wide")]).unwrap();
        let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
        let request = GrantRequest { instance: WEB, policy, labels: &labels, series: &series };
        let mut frame = None;
        let columns = store.grant(request, &mut |granted| {
            frame = Some(granted.clone());
            Ok::<u64, ()>(1)
        });
        let columns: Vec<_> = columns.unwrap().into_iter().map(Result::unwrap).collect();
        store.apply_grant(1, &frame.unwrap()).unwrap();
        for n in 1..200_i64 {
            let at = Timestamp::from_secs(n * 7 + if n > 150 { 500 } else { 0 });
            let value = f64::from(i32::try_from(n).unwrap()) / 3.0;
            let sample = |column: &Column| Sample { column: *column, at, value };
            let samples = columns[1..].iter().map(sample).collect();
            let batch = Batch { incarnation: 1, boot_id: 2, number: 3 };
            let seq = u64::try_from(n).unwrap() + 1;
            store.apply(seq, at, &SampleFrame { instance: WEB, batch, samples });
        }
        store
    }

    fn series_of(store: &Store) -> Vec<BuiltSeries> {
        let instance = store.instance(WEB).unwrap();
        let columns: Vec<_> = {
            let state = lock(&instance.state);
            let series = (0..).zip(&state.columns);
            let series = series.filter_map(|(index, series)| Some((index, series.as_ref()?)));
            series
                .map(|(index, series)| {
                    let column = Column { index, generation: series.generation };
                    let built = BuiltSeries {
                        key: Arc::clone(&series.key),
                        generation: series.generation,
                        definition: series.definition,
                        cell: series.cell,
                        open: series.open.clone(),
                        rows: Vec::new(),
                    };
                    (column, built)
                })
                .collect()
        };
        let form = instance.form();
        let rows = |column, archive| store.stored_rows(&instance, column, archive, None).0;
        columns
            .into_iter()
            .map(|(column, series)| {
                let archives = form.archives.iter().enumerate();
                let rows =
                    archives.map(|(n, spec)| rows(column, n).to_runs(n, spec.step)).collect();
                BuiltSeries { rows, ..series }
            })
            .collect()
    }

    #[test]
    fn a_built_file_opens_as_the_store_that_lived_through_it() {
        for text in ["10s:3m,1m:20m;hb=30s;last", "10s:1h;f64", "5s:2m,10s:10m,1h:9d"] {
            let disk = MemDisk::new();
            let policy = Policy::parse(text).unwrap();
            let store = lived(&disk, &policy);
            let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
            let batch = Batch { incarnation: 1, boot_id: 2, number: 3 };
            let (instance, policy, labels) = (WEB, &policy, &labels);
            let whole = Whole { instance, policy, labels, batch, seq: 200, epoch: 1 };
            let dir = Path::new("/built");
            let bytes = build(&disk, dir, &whole, series_of(&store)).unwrap();
            let info = store.info(WEB).unwrap();
            assert_eq!(bytes, info.file_len, "as large as grants would have made it");
            let path = dir.join(format!("{WEB}"));
            disk.rename(&path.with_extension("new"), &path.with_extension("rrd")).unwrap();
            disk.sync_dir(dir).unwrap();
            let disk = disk.crash(1);
            let (built, damage) = Store::open(Arc::new(disk), dir, 200).unwrap();
            assert_eq!(damage, [], "{text}");
            assert_eq!(dump(&built), dump(&store), "{text}");
            assert_eq!(built.damage(), [], "{text}");
        }
    }

    #[test]
    fn rows_that_are_missing_are_unknown() {
        let disk = MemDisk::new();
        let policy = Policy::parse("10s:3m,1m:20m").unwrap();
        let mut series = series_of(&lived(&disk, &policy));
        series[1].rows[0].remove(3);
        series[1].rows[1].clear();
        let labels = Labels::default();
        let (instance, policy, labels) = (WEB, &policy, &labels);
        let whole = Whole { instance, policy, labels, batch: Batch::default(), seq: 9, epoch: 1 };
        let dir = Path::new("/built");
        build(&disk, dir, &whole, series).unwrap();
        let path = dir.join(format!("{WEB}"));
        disk.rename(&path.with_extension("new"), &path.with_extension("rrd")).unwrap();
        let (built, damage) = Store::open(Arc::new(disk), dir, 9).unwrap();
        assert_eq!(damage, []);
        let instance = built.instance(WEB).unwrap();
        let column = Column { index: 1, generation: 1 };
        let fine = built.stored_rows(&instance, column, 0, None).0;
        assert_eq!(fine.known.iter().map(|n| usize::from(*n == 0)).sum::<usize>(), 1);
        assert!(fine.average[3].is_nan());
        assert!(built.stored_rows(&instance, column, 1, None).0.known.iter().all(|n| *n == 0));
        assert_eq!(built.damage(), []);
    }

    #[test]
    fn a_disk_without_room_is_left_as_it_was() {
        let disk = MemDisk::new();
        let policy = Policy::parse("10s:3m,1m:20m").unwrap();
        let series = series_of(&lived(&disk, &policy));
        disk.set_capacity(60_000);
        let labels = Labels::default();
        let (instance, policy, labels) = (WEB, &policy, &labels);
        let whole = Whole { instance, policy, labels, batch: Batch::default(), seq: 9, epoch: 1 };
        let refused = build(&disk, Path::new("/built"), &whole, series).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.list(Path::new("/built")).unwrap(), [] as [std::path::PathBuf; 0]);
    }
}
