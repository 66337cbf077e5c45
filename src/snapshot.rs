//! A snapshot: one part's state at a round, kept in two copies so that one is always whole.
//!
//! Each copy is a file: magic `RNDLSNP1`, epoch, sequence number and body length (u64 each, little
//! endian), CRC32C of all other bytes (u32), body. A round overwrites the older copy; the newest
//! valid copy that is not above the record's S is the one that counts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rrd::{Disk, File};

const MAGIC: [u8; 8] = *b"RNDLSNP1";
const HEADER: usize = 8 + 3 * 8 + 4;
/// A snapshot beyond this is not one of ours: 100,000 instances take about 50 MB.
const MAX_BODY: u64 = 1 << 30;

/// The two copies of one part's state.
#[derive(Clone)]
pub(crate) struct Snapshot {
    disk: Arc<dyn Disk>,
    copies: [PathBuf; 2],
}

/// What a copy says of itself.
struct Copy {
    seq: u64,
    body: Vec<u8>,
}

impl Snapshot {
    /// The snapshot of the part `name` in the folder `dir`.
    pub(crate) fn of(disk: Arc<dyn Disk>, dir: &Path, name: &str) -> Self {
        let copies = ["a", "b"].map(|copy| dir.join(format!("{name}.{copy}")));
        Self { disk, copies }
    }

    /// The newest whole state that is not above `upto`; `None` when there is none.
    pub(crate) fn read(&self, upto: u64) -> io::Result<Option<Vec<u8>>> {
        let mut newest: Option<Copy> = None;
        for path in &self.copies {
            let copy = self.copy(path)?.filter(|copy| copy.seq <= upto);
            if copy.as_ref().is_some_and(|c| newest.as_ref().is_none_or(|n| n.seq < c.seq)) {
                newest = copy;
            }
        }
        Ok(newest.map(|copy| copy.body))
    }

    /// Writes `body` as the state at `seq` over the copy that does not count, and syncs it.
    pub(crate) fn write(&self, epoch: u64, seq: u64, body: &[u8]) -> Result<(), String> {
        self.try_write(epoch, seq, body).map_err(|e| format!("{}: {e}", self.copies[0].display()))
    }

    fn try_write(&self, epoch: u64, seq: u64, body: &[u8]) -> io::Result<()> {
        let seqs = [&self.copies[0], &self.copies[1]]
            .map(|path| self.copy(path).ok().flatten().map_or(0, |copy| copy.seq));
        let older = &self.copies[usize::from(seqs[1] < seqs[0])];
        let file = match self.disk.open(older) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self.disk.create(older)?;
                self.disk.sync_dir(older.parent().unwrap_or(Path::new(".")))?;
                file
            }
            other => other?,
        };
        file.write_at(&encode(epoch, seq, body), 0)?;
        file.sync_data()
    }

    /// The copy at `path`; `None` when it is missing or not whole.
    fn copy(&self, path: &Path) -> io::Result<Option<Copy>> {
        match self.disk.open(path) {
            Ok(file) => decode(file.as_ref()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn encode(epoch: u64, seq: u64, body: &[u8]) -> Vec<u8> {
    let len = u64::try_from(body.len()).expect("a length fits in 64 bits");
    let mut bytes = MAGIC.to_vec();
    for field in [epoch, seq, len] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), body);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn decode(file: &dyn File) -> io::Result<Option<Copy>> {
    let mut header = [0; HEADER];
    if file.len()? < HEADER as u64 {
        return Ok(None);
    }
    file.read_at(&mut header, 0)?;
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let (seq, len) = (number(16), number(24));
    if header[..8] != MAGIC || len > MAX_BODY || file.len()? < HEADER as u64 + len {
        return Ok(None);
    }
    let mut body = vec![0; usize::try_from(len).expect("below MAX_BODY")];
    file.read_at(&mut body, HEADER as u64)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..32]), &body);
    Ok((header[32..] == crc.to_le_bytes()).then_some(Copy { seq, body }))
}

#[cfg(test)]
mod tests {
    use rrd::MemDisk;

    use super::*;

    fn snapshot() -> (Arc<dyn Disk>, Snapshot) {
        let disk: Arc<dyn Disk> = Arc::new(MemDisk::default());
        disk.create_dir(Path::new("/state")).unwrap();
        (Arc::clone(&disk), Snapshot::of(disk, Path::new("/state"), "registry"))
    }

    #[test]
    fn the_newest_copy_not_above_the_record_counts() {
        let (_, snapshot) = snapshot();
        assert_eq!(snapshot.read(u64::MAX).unwrap(), None);
        for seq in [10, 20, 30] {
            snapshot.write(1, seq, format!("at {seq}").as_bytes()).unwrap();
        }
        for (upto, body) in [(9, None), (19, None), (20, Some("at 20")), (99, Some("at 30"))] {
            let read = snapshot.read(upto).unwrap();
            assert_eq!(read.as_deref(), body.map(str::as_bytes), "up to {upto}");
        }
    }

    #[test]
    fn a_copy_with_any_flipped_byte_is_not_taken() {
        let (disk, snapshot) = snapshot();
        snapshot.write(1, 10, b"older").unwrap();
        snapshot.write(1, 20, b"newer").unwrap();
        let file = disk.open(Path::new("/state/registry.b")).unwrap();
        for at in 0..file.len().unwrap() {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_at(&[byte[0] ^ 1], at).unwrap();
            assert_eq!(snapshot.read(99).unwrap().as_deref(), Some(&b"older"[..]), "byte {at}");
            file.write_at(&byte, at).unwrap();
        }
    }
}
