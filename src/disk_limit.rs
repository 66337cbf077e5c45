//! The disk limit when nobody says one: a share of what was free at the first start, kept in a file.

use std::path::Path;

use anyhow::{Context as _, Result};
use rrd::Disk;

/// The file in the data folder, in words that an operator may change.
const NAME: &str = "disk-limit";
/// Of what is free: the rest is for the journal, for changes of archives, and for others.
const PERCENT: u64 = 80;

/// Bytes that all archives may take, of which there are so many now.
pub(crate) fn effective(disk: &dyn Disk, data: &Path, archive_bytes: u64) -> Result<u64> {
    let path = data.join(NAME);
    let read = || -> Result<u64> {
        let file = disk.open(&path)?;
        let mut text = vec![0; usize::try_from(file.len()?.min(64))?];
        file.read_at(&mut text, 0)?;
        let text = String::from_utf8(text)?;
        text.trim().parse().with_context(|| format!("{text:?} is no number of bytes"))
    };
    if disk.list(data)?.contains(&path) {
        let remedy = || format!("{}: write a number of bytes, or delete it", path.display());
        return read().with_context(remedy);
    }
    let limit = (disk.free_bytes(data)? + archive_bytes) / 100 * PERCENT;
    // Its name comes last, so that it is whole or not there.
    let new = path.with_extension("new");
    let file = disk.create(&new)?;
    file.write_at(format!("{limit}\n").as_bytes(), 0)?;
    file.sync_data()?;
    disk.rename(&new, &path)?;
    disk.sync_dir(data)?;
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use rrd::MemDisk;

    use super::*;

    #[test]
    fn the_limit_is_that_of_the_first_start() {
        let (disk, data) = (MemDisk::new(), Path::new("/data"));
        disk.set_capacity(1_000_000);
        let first = effective(&disk, data, 0).unwrap();
        assert_eq!(first, 800_000);
        disk.set_capacity(50_000);
        assert_eq!(effective(&disk, data, 7).unwrap(), first);
        assert_eq!(effective(&disk.crash(1), data, 7).unwrap(), first);
    }

    #[test]
    fn what_is_no_number_is_told_with_its_remedy() {
        let (disk, data) = (MemDisk::new(), Path::new("/data"));
        let file = disk.create(&data.join(NAME)).unwrap();
        file.write_at(b"20GiB", 0).unwrap();
        let error = format!("{:#}", effective(&disk, data, 0).unwrap_err());
        assert!(error.contains("/data/disk-limit: write a number of bytes"), "{error}");
    }
}
