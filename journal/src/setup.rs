//! The journal's folder: made once, whole or not at all, and opened ever after.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rrd::{Disk, File, Timestamp};

use crate::error::JournalError;
use crate::frame::{MAX_BODY_BYTES, frame_len};
use crate::record::{self, Record, RecordFile};
use crate::segment::{self, BLOCK, HEADER_BYTES, Header, usize_of};

/// How large the journal is and how long it waits. Size and count are fixed when the folder is made.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes of one segment file: a multiple of 4,096, from 64 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// Number of segment files, 2 to 999.
    pub segment_count: u32,
    /// A commit starts this long after its first frame, so that others can join.
    pub commit_delay: Duration,
    /// When a frame is accepted.
    pub durability: Durability,
    /// Bytes that may wait for the disk before appends are refused as busy.
    pub pending_bytes: usize,
    /// Committed bytes that may wait for the worker before appends are refused as busy.
    pub unread_bytes: usize,
    /// New sequences start above this one, whatever is found in the journal.
    pub floor: u64,
}

/// When a frame is accepted: how much a power cut may take of what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is synced: a power cut takes nothing.
    Strict,
    /// When it is written: a kill takes nothing, a power cut the frames since the last sync, which comes
    /// at least so often. Never one from among others: what is left has no holes.
    Relaxed {
        /// Longest time between two syncs while frames come.
        sync_every: Duration,
    },
}

impl Default for Config {
    /// 256 MiB: some minutes of a million series. The waiting bytes are a second of a slow disk.
    fn default() -> Self {
        Self {
            segment_bytes: 32 << 20,
            segment_count: 8,
            commit_delay: Duration::from_millis(2),
            durability: Durability::Strict,
            pending_bytes: 32 << 20,
            unread_bytes: 64 << 20,
            floor: 0,
        }
    }
}

impl Config {
    /// Bytes of the folder that this makes, for ever.
    pub fn folder_bytes(&self) -> u64 {
        u64::from(self.segment_count) * self.segment_bytes + record::FILE_BYTES
    }

    fn check(&self) -> Result<(), JournalError> {
        let Self { segment_bytes, segment_count, .. } = *self;
        if !segment_bytes.is_multiple_of(BLOCK) || !(64 << 10..=1 << 30).contains(&segment_bytes) {
            let problem = format!(
                "a segment of {segment_bytes} bytes; choose a multiple of 4096 from 65536 to 1 GiB"
            );
            return Err(JournalError::Config(problem));
        }
        if !(2..=999).contains(&segment_count) {
            let problem = format!("{segment_count} segments; choose 2 to 999");
            return Err(JournalError::Config(problem));
        }
        Ok(())
    }
}

/// The open files.
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    pub(crate) files: Vec<Arc<dyn File>>,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_count: u32,
}

impl Folder {
    /// Opens the folder `dir`, or makes it. What is found is synced before anybody relies on it:
    /// after kill -9 it may only be in the cache.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        config: &Config,
    ) -> Result<(Self, RecordFile, Record), JournalError> {
        config.check()?;
        if !exists(disk, &segment::path(dir, 0))? {
            create(disk, dir, config)?;
        }
        sync_names(disk, dir)?;
        let folder = Self::open_segments(disk, dir)?;
        let path = dir.join(record::FILE_NAME);
        let file = open_existing(disk, &path)?;
        let (record_file, record) = RecordFile::open(file, path)?;
        Ok((folder, record_file, record))
    }

    fn open_segments(disk: &dyn Disk, dir: &Path) -> Result<Self, JournalError> {
        let first = segment::path(dir, 0);
        let file = open_existing(disk, &first)?;
        let segment_bytes = file.len().map_err(JournalError::io(&first))?;
        let mut files = vec![file];
        let mut segment_count = None;
        for index in 1_u32..999 {
            let path = segment::path(dir, index);
            if !exists(disk, &path)? {
                break;
            }
            files.push(open_existing(disk, &path)?);
        }
        let found = u32::try_from(files.len()).expect("at most 999");
        for (file, index) in files.iter().zip(0..) {
            let path = segment::path(dir, index);
            file.sync_data().map_err(JournalError::io(&path))?;
            let header = read_header(file.as_ref()).map_err(JournalError::io(&path))?;
            check_header(&path, header.as_ref(), file.as_ref(), segment_bytes, index)?;
            segment_count = segment_count.or(header.map(|header| header.segment_count));
        }
        let segment_count = segment_count.unwrap_or(found);
        if segment_count != found {
            return Err(JournalError::Missing(segment::path(dir, found)));
        }
        Ok(Self { dir: dir.to_owned(), files, segment_bytes, segment_count })
    }

    /// The file that lap `ordinal` is written to.
    pub(crate) fn file(&self, ordinal: u64) -> &Arc<dyn File> {
        &self.files[segment::index_of(ordinal, self.segment_count)]
    }

    /// That file's name.
    pub(crate) fn path(&self, ordinal: u64) -> PathBuf {
        self.path_at(segment::index_of(ordinal, self.segment_count))
    }

    pub(crate) fn path_at(&self, index: usize) -> PathBuf {
        segment::path(&self.dir, u32::try_from(index).expect("at most 999"))
    }

    /// The longest body that certainly finds a segment with room for it.
    pub(crate) fn body_limit(&self) -> usize {
        MAX_BODY_BYTES.min(usize_of((self.segment_bytes - HEADER_BYTES) / 4) - frame_len(0))
    }
}

/// The header of the lap in `file`; `None` when neither copy is sound.
pub(crate) fn read_header(file: &dyn File) -> io::Result<Option<Header>> {
    let mut bytes = vec![0; usize_of(HEADER_BYTES)];
    file.read_at(&mut bytes, 0)?;
    Ok(Header::decode(&bytes))
}

fn check_header(
    path: &Path,
    header: Option<&Header>,
    file: &dyn File,
    segment_bytes: u64,
    index: u32,
) -> Result<(), JournalError> {
    let len = file.len().map_err(JournalError::io(path))?;
    let said = header.map_or((segment_bytes, index), |h| (h.segment_bytes, h.segment_index));
    if (len, index) == (segment_bytes, index) && said == (segment_bytes, index) {
        return Ok(());
    }
    let problem = format!(
        "{len} bytes, says it is segment {} of {} bytes; expected segment {index} of {segment_bytes}",
        said.1, said.0
    );
    Err(JournalError::Layout { path: path.to_owned(), problem })
}

/// Makes all files. Segment 0 comes last: where it exists, everything does, so that a power cut in
/// the midst only means to start over.
fn create(disk: &dyn Disk, dir: &Path, config: &Config) -> Result<(), JournalError> {
    disk.create_dir(dir).map_err(JournalError::io(dir))?;
    remove_unfinished(disk, dir)?;
    create_file(disk, &dir.join(record::FILE_NAME), record::FILE_BYTES, &[])?;
    for index in (0..config.segment_count).rev() {
        if index == 0 {
            disk.sync_dir(dir).map_err(JournalError::io(dir))?;
        }
        let header = Header {
            segment_bytes: config.segment_bytes,
            segment_index: index,
            segment_count: config.segment_count,
            ordinal: 0,
            salt: 0,
            follows: 0,
            prior_epoch: 0,
            stamp: Timestamp::MIN,
        };
        let path = segment::path(dir, index);
        create_file(disk, &path, config.segment_bytes, &header.encode())?;
    }
    Ok(())
}

/// Makes the names last: the folder's own and those in it.
fn sync_names(disk: &dyn Disk, dir: &Path) -> Result<(), JournalError> {
    disk.sync_dir(dir).map_err(JournalError::io(dir))?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => disk.sync_dir(parent).map_err(JournalError::io(parent)),
        None => Ok(()),
    }
}

/// Removes what an interrupted creation has left; refuses if any of it was ever in use.
fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), JournalError> {
    for path in disk.list(dir).map_err(JournalError::io(dir))? {
        let file = disk.open(&path).map_err(JournalError::io(&path))?;
        let used = match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if name.ends_with(TEMPORARY) => false,
            Some(record::FILE_NAME) => {
                RecordFile::open(file, path.clone()).map_or(true, |(file, _)| !file.is_blank())
            }
            Some(name) if name.starts_with("segment-") => {
                let header = read_header(file.as_ref()).map_err(JournalError::io(&path))?;
                header.is_none_or(|header| header.ordinal > 0)
            }
            _ => continue,
        };
        if used {
            return Err(JournalError::Missing(segment::path(dir, 0)));
        }
        disk.remove(&path).map_err(JournalError::io(&path))?;
    }
    Ok(())
}

/// How the name of a file ends that is being made.
pub(crate) const TEMPORARY: &str = ".new";

/// Makes one file in full: blocks are written, not only reserved, because the first write to a
/// reserved block is a change of metadata that every commit of the first lap would pay for.
fn create_file(disk: &dyn Disk, path: &Path, len: u64, start: &[u8]) -> Result<(), JournalError> {
    let temporary = PathBuf::from(format!("{}{TEMPORARY}", path.display()));
    let file = disk.create(&temporary).map_err(JournalError::io(&temporary))?;
    let fill = || -> io::Result<()> {
        file.allocate(0, len)?;
        let zeroes = vec![0; usize_of(len.min(1 << 20))];
        let mut at = 0;
        while at < len {
            let part = (len - at).min(zeroes.len() as u64);
            file.write_at(&zeroes[..usize_of(part)], at)?;
            at += part;
        }
        file.write_at(start, 0)?;
        file.sync_data()
    };
    fill().map_err(JournalError::io(&temporary))?;
    disk.rename(&temporary, path).map_err(JournalError::io(path))
}

fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, JournalError> {
    match disk.open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(JournalError::io(path)(error)),
    }
}

fn open_existing(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn File>, JournalError> {
    disk.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => JournalError::Missing(path.to_owned()),
        _ => JournalError::io(path)(error),
    })
}
