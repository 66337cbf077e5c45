//! An inspection of the journal's files as they are: copies that are damaged while the other one counts.

use std::path::{Path, PathBuf};

use rrd::Disk;

use crate::error::JournalError;
use crate::record;
use crate::segment::{BLOCK, HEADER_BYTES, Header, usize_of};
use crate::setup::{TEMPORARY, read_header};

/// One of two copies that is not as it was written; the other is used, and the journal writes this
/// one anew in its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedCopy {
    /// The file.
    pub path: PathBuf,
    /// Where the copy begins, in bytes.
    pub offset: u64,
    /// What it is a copy of.
    pub what: &'static str,
}

/// The damaged copies in the journal folder `dir`, and how many segments it has. What a start cannot
/// do without is told by [`crate::Journal::open`].
pub fn inspect(disk: &dyn Disk, dir: &Path) -> Result<(usize, Vec<DamagedCopy>), JournalError> {
    let mut damaged = Vec::new();
    let mut segment_count = 0;
    for path in disk.list(dir).map_err(JournalError::io(dir))? {
        let file = disk.open(&path).map_err(JournalError::io(&path))?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut copies = |len: u64, copy_len: u64, what, is_sound: fn(&[u8]) -> bool| {
            let mut bytes = vec![0; usize_of(len)];
            file.read_at(&mut bytes, 0).map_err(JournalError::io(&path))?;
            let parts = (0..).step_by(usize_of(copy_len)).zip(bytes.chunks(usize_of(copy_len)));
            let unsound = parts.filter(|(_, copy)| !is_sound(copy));
            damaged.extend(unsound.map(|(offset, _)| DamagedCopy {
                path: path.clone(),
                offset,
                what,
            }));
            Ok(())
        };
        if name == record::FILE_NAME {
            let half = record::FILE_BYTES / 2;
            copies(record::FILE_BYTES, half, "the checkpoint record", record::is_sound)?;
        } else if name.starts_with("segment-") && !name.ends_with(TEMPORARY) {
            segment_count += 1;
            let header = |copy: &[u8]| Header::decode_copy(copy).is_some();
            copies(HEADER_BYTES, BLOCK, "the segment's header", header)?;
        }
    }
    Ok((segment_count, damaged))
}

/// The journal's files in the order in which a copy must read them while frames are appended, each from
/// its end to its start: what is written last is read first, so that no frame is copied without those
/// before it. No checkpoint may be recorded meanwhile.
pub fn copy_order(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let mut segments = Vec::new();
    let mut others = Vec::new();
    let mut newest = (0, 0);
    for path in disk.list(dir).map_err(JournalError::io(dir))? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(TEMPORARY) {
            continue;
        }
        if !name.starts_with("segment-") {
            others.push(path);
            continue;
        }
        let file = disk.open(&path).map_err(JournalError::io(&path))?;
        let header = read_header(file.as_ref()).map_err(JournalError::io(&path))?;
        let ordinal = header.map_or(0, |header| header.ordinal);
        newest = newest.max((ordinal, segments.len()));
        segments.push(path);
    }
    // Laps go round: the segment after the newest is the one to be written next.
    let next = (newest.1 + 1).min(segments.len());
    segments.rotate_left(next);
    segments.reverse();
    // The newest is last after the rotation, and the one that comes furthest from now before it.
    let is_any = usize::from(!segments.is_empty());
    segments.rotate_left(is_any);
    segments.extend(others);
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rrd::{ManualClock, MemDisk};

    use super::*;
    use crate::{Config, Journal, Record};

    fn names(disk: &MemDisk) -> Vec<String> {
        let order = copy_order(disk, Path::new("/j")).unwrap();
        order.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_copy_reads_first_what_is_written_last() {
        let disk = MemDisk::new();
        let config = Config { segment_bytes: 64 << 10, segment_count: 4, ..Config::default() };
        let clock = Arc::new(ManualClock::default());
        let (journal, _) =
            Journal::open(Arc::new(disk.clone()), Path::new("/j"), config, clock).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..400 {
            let seq = journal.append(1, &[7; 1000]).unwrap();
            journal.wait_durable(seq).unwrap();
            journal.trim(Record { seq, ..Record::default() }).unwrap();
            let order = names(&disk);
            assert_eq!(order.len(), 5, "{order:?}");
            assert_eq!(order[4], "checkpoint");
            let index =
                |n: usize| order[n].strip_prefix("segment-").unwrap().parse::<usize>().unwrap();
            // Back round the ring, to the one that is written now.
            for n in 0..3 {
                assert_eq!((index(n + 1) + 1) % 4, index(n), "{order:?}");
            }
            seen.insert(order[3].clone());
        }
        assert_eq!(seen.len(), 4, "every segment was the newest: {seen:?}");
    }

    #[test]
    fn a_damaged_copy_is_named_and_the_journal_goes_on_with_the_other() {
        let disk = MemDisk::new();
        let config = Config { segment_bytes: 64 << 10, segment_count: 2, ..Config::default() };
        let clock = Arc::new(ManualClock::default());
        drop(Journal::open(Arc::new(disk.clone()), Path::new("/j"), config, clock).unwrap());
        assert_eq!(inspect(&disk, Path::new("/j")).unwrap(), (2, Vec::new()));
        disk.open(Path::new("/j/segment-001")).unwrap().write_at(b"x", BLOCK + 9).unwrap();
        disk.open(Path::new("/j/checkpoint")).unwrap().write_at(b"x", 20).unwrap();
        let (_, damaged) = inspect(&disk, Path::new("/j")).unwrap();
        let places: Vec<_> = damaged.iter().map(|d| (d.path.to_str().unwrap(), d.offset)).collect();
        assert_eq!(places, [("/j/checkpoint", 0), ("/j/segment-001", BLOCK)]);
    }
}
