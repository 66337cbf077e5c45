//! The size of an archive before it is made: known to the byte, because it is never changed by time.

use crate::file::{Block, FIRST_BLOCK_AT, MOST_BLOCKS};
use crate::{Cell, MAX_COLUMNS, Policy};

/// The file of one instance with so many series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSize {
    /// Header, slots, labels and directory.
    pub head_bytes: u64,
    /// In the order of the file.
    pub blocks: Vec<BlockSize>,
    /// The length of the file; all of it is allocated.
    pub bytes: u64,
}

/// One block of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize {
    /// Columns that there is room for.
    pub columns: u32,
    /// How their numbers are kept.
    pub cell: Cell,
    /// Its length.
    pub bytes: u64,
}

/// Bytes that the labels of a series may take, with its name, for [`FileSize::of`] to be exact: longer
/// ones may leave a block before its last column.
pub const USUAL_KEY_BYTES: usize = 478;

impl FileSize {
    /// The file that keeps so many series by `policy`, all in this cell, when they come one by one: it is
    /// not longer when they come together. `None` above what an instance may have. Without a series there
    /// is no file.
    pub fn of(policy: &Policy, series_count: usize, cell: Cell) -> Option<Self> {
        if series_count > MAX_COLUMNS {
            return None;
        }
        let mut size = Self { head_bytes: FIRST_BLOCK_AT, blocks: Vec::new(), bytes: 0 };
        let (mut room, mut end) = (0, FIRST_BLOCK_AT);
        while room < series_count {
            let width = block_width(&size.blocks.iter().map(|block| block.columns), 1);
            let block = Block::plan(policy, end, u32::try_from(room).ok()?, width, cell);
            size.blocks.push(BlockSize { columns: width, cell, bytes: block.len });
            room += usize::try_from(width).ok()?;
            end = block.end();
        }
        if !size.blocks.is_empty() {
            size.bytes = end;
        }
        (size.blocks.len() <= MOST_BLOCKS).then_some(size)
    }
}

/// Columns of the two blocks that a lone series, and a few, do not pay much for; of each cell there is at
/// most one of each.
const SMALL: u32 = 4;
const MIDDLE: u32 = 16;
/// Columns of all others.
const LARGE: u32 = 64;

/// Columns of the next block of a cell of which there are such blocks, when so many series come together.
///
/// One by one they get blocks of 4, 16, 64, 64, ... columns. More than the small blocks hold that are not
/// there yet get a large one at once, for a round touches every block of a file. However they come, they
/// never take more columns than one by one.
pub(crate) fn block_width(there_are: &(impl Iterator<Item = u32> + Clone), coming: usize) -> u32 {
    let is_missing = |width: &u32| !there_are.clone().any(|known| known == *width);
    let missing = [SMALL, MIDDLE].into_iter().filter(is_missing);
    let holds = |room: u32| coming <= room as usize;
    if !holds(missing.clone().sum()) {
        return LARGE;
    }
    let (mut fitting, widest) = (missing.clone().filter(|width| holds(*width)), missing.max());
    fitting.next().or(widest).unwrap_or(LARGE)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{Disk, GrantRequest, InstanceId, Kind, Labels, MemDisk, NewSeries, OsDisk, Store};

    /// The length of the file that a store makes for so many series, granted in parts.
    fn made(disk: Arc<dyn Disk>, dir: &Path, policy: &Policy, parts: &[usize]) {
        let (store, _) = Store::open(disk, dir, 0).unwrap();
        let mut count = 0;
        for part in parts {
            let series: Vec<_> = (count..count + part).map(series).collect();
            count += part;
            let (instance, labels) = (InstanceId(1), Labels::default());
            let request = GrantRequest { instance, policy, labels: &labels, series: &series };
            let granted = store.grant(request, &mut |_| Ok::<u64, Infallible>(1)).unwrap();
            assert!(granted.iter().all(Result::is_ok));
        }
    }

    fn series(number: usize) -> NewSeries {
        // As long as the promise goes: the name, the number, and the rest of 478 bytes.
        let key = |fill: usize| {
            let pairs = [("__name__", format!("m{number:05}")), ("fill", "x".repeat(fill))];
            Labels::from_pairs(pairs).unwrap()
        };
        let others = key(1).to_key().len() - 1;
        let labels = key(USUAL_KEY_BYTES - others);
        assert_eq!(labels.to_key().len(), USUAL_KEY_BYTES);
        NewSeries { labels, kind: Kind::Gauge, first_reading: None }
    }

    fn cell(policy: &Policy) -> Cell {
        if policy.all_f64() { Cell::F64 } else { Cell::F32 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_file_is_as_long_as_was_said_and_not_longer_when_series_come_together(
            parts in proptest::collection::vec(1_usize..150, 1..4),
            (finest, minutes, keep) in (1_u64..3000, 1_u64..400, 1_u64..400),
            options in proptest::sample::select(vec!["", ";f64", ";last", ";f64;last"]),
        ) {
            let (wide, kept) = (minutes * 60, minutes * keep * 60);
            let policy = Policy::parse(&format!("10s:{}s,{wide}s:{kept}s{options}", finest * 10));
            let policy = policy.unwrap();
            let disk = MemDisk::new();
            made(Arc::new(disk.clone()), Path::new("/a"), &policy, &parts);
            let path = format!("/a/{}.rrd", InstanceId(1));
            let len = disk.open(Path::new(&path)).unwrap().len().unwrap();
            let said = FileSize::of(&policy, parts.iter().sum(), cell(&policy)).unwrap();
            prop_assert!(len <= said.bytes, "{} of {}", len, said.bytes);
            let one_by_one = vec![1; parts.iter().sum()];
            made(Arc::new(disk.clone()), Path::new("/b"), &policy, &one_by_one);
            let path = format!("/b/{}.rrd", InstanceId(1));
            let len = disk.open(Path::new(&path)).unwrap().len().unwrap();
            prop_assert_eq!(len, said.bytes);
            let blocks: u64 = said.blocks.iter().map(|block| block.bytes).sum();
            prop_assert_eq!(said.head_bytes + blocks, said.bytes);
        }
    }

    #[test]
    fn the_disk_gives_as_much_as_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let policy = Policy::parse(Policy::DEFAULT).unwrap();
        made(Arc::new(OsDisk), dir.path(), &policy, &[1, 5, 24]);
        let file = std::fs::metadata(dir.path().join(format!("{}.rrd", InstanceId(1)))).unwrap();
        let said = FileSize::of(&policy, 30, Cell::F32).unwrap().bytes;
        assert_eq!(file.len(), said);
        // What `du` counts; a file system may add a page of its own for a scattered file.
        let used = file.blocks() * 512;
        assert!((said..=said + 16_384).contains(&used), "{used} of {said}");
    }

    #[test]
    fn no_series_is_no_file_and_too_many_are_none() {
        let policy = Policy::parse(Policy::DEFAULT).unwrap();
        assert_eq!(FileSize::of(&policy, 0, Cell::F32).unwrap().bytes, 0);
        assert!(FileSize::of(&policy, MAX_COLUMNS, Cell::F64).is_some());
        assert_eq!(FileSize::of(&policy, MAX_COLUMNS + 1, Cell::F32), None);
    }

    #[test]
    fn series_that_come_together_get_large_blocks_at_once() {
        for (parts, widths) in [
            (&[1, 1, 30, 1][..], &[4, 64][..]),
            (&[4], &[4]),
            (&[5], &[16]),
            (&[18, 3], &[16, 4, 64]),
            (&[21], &[64]),
            (&[100], &[64, 64]),
            (&[70, 20, 1], &[64, 16, 64]),
            (&[66, 4, 70], &[64, 4, 16, 64]),
        ] {
            let mut blocks: Vec<u32> = Vec::new();
            let mut room = 0;
            for part in parts {
                let mut left: u32 = *part;
                while left > room {
                    left -= room;
                    room = block_width(&blocks.iter().copied(), left as usize);
                    blocks.push(room);
                }
                room -= left;
            }
            assert_eq!(blocks, widths, "{parts:?}");
        }
    }
}
