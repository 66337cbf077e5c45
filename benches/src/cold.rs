//! Cold files: what the page cache holds of them is dropped.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Result;
use rustix::fs::{Advice, fadvise};

/// How cold files are made here.
pub(crate) const HOW: &str = "cold: pages of our files dropped by fadvise, file names still cached";

/// Drops the pages of every file in a folder and below. They must not be mapped.
pub(crate) fn drop_pages(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            drop_pages(&entry.path())?;
            continue;
        }
        let file = File::open(entry.path())?;
        file.sync_data()?; // Dirty pages are not dropped.
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

/// Bytes of all files of a folder: their lengths, and the blocks they take.
pub(crate) fn sizes(folder: &Path) -> Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut lengths, mut taken) = (0, 0);
    for entry in fs::read_dir(folder)? {
        let about = entry?.metadata()?;
        lengths += about.len();
        taken += about.blocks() * 512;
    }
    Ok((lengths, taken))
}
