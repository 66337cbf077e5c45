//! A snapshot: one part's state at a round, kept in two copies so that one is always whole.
//!
//! Each copy is a file: magic `RNDLSNP1`, epoch, sequence number and body length (u64 each, little
//! endian), CRC32C of all other bytes (u32), body. The newest valid copy that is not above the
//! record's S is the one that counts; a round overwrites the other, whatever that one holds: after
//! rounds that failed half-way it may well be the newer.

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

/// A whole copy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    /// The frame up to which it holds.
    pub(crate) seq: u64,
    pub(crate) body: Vec<u8>,
}

impl Snapshot {
    /// The snapshot of the part `name` in the folder `dir`.
    pub(crate) fn of(disk: Arc<dyn Disk>, dir: &Path, name: &str) -> Self {
        let copies = ["a", "b"].map(|copy| dir.join(format!("{name}.{copy}")));
        Self { disk, copies }
    }

    /// The newest whole state that is not above `upto`; `None` when there is none.
    pub(crate) fn read(&self, upto: u64) -> io::Result<Option<Copy>> {
        let mut newest: Option<Copy> = None;
        for path in &self.copies {
            let copy = self.copy(path)?.filter(|copy| copy.seq <= upto);
            if copy.as_ref().is_some_and(|c| newest.as_ref().is_none_or(|n| n.seq < c.seq)) {
                newest = copy;
            }
        }
        Ok(newest)
    }

    /// Each copy's file, and the frame up to which it holds; `None` for one that is missing or not
    /// whole.
    pub(crate) fn inspect(&self) -> io::Result<[(&Path, Option<u64>); 2]> {
        let seq = |number: usize| self.copy(&self.copies[number]).map(|copy| copy.map(|c| c.seq));
        Ok([(&self.copies[0], seq(0)?), (&self.copies[1], seq(1)?)])
    }

    /// Writes `body` as the state at `seq` over the copy that does not count while the record says
    /// `recorded`, and syncs it.
    pub(crate) fn write(
        &self,
        epoch: u64,
        seq: u64,
        recorded: u64,
        body: &[u8],
    ) -> Result<(), String> {
        let path = self.expendable(recorded);
        self.write_over(path, &encode(epoch, seq, body))
            .map_err(|reason| format!("{}: {reason}", path.display()))
    }

    /// The copy that a restart would not use, with the record at `recorded`. One that cannot be read
    /// may be the one that counts, and is kept if the other surely is not.
    fn expendable(&self, recorded: u64) -> &Path {
        let [first, second] = [0, 1].map(|number| match self.copy(&self.copies[number]) {
            Ok(Some(copy)) if copy.seq <= recorded => (2, copy.seq),
            Err(_) => (1, 0),
            Ok(_) => (0, 0),
        });
        &self.copies[usize::from(second < first)]
    }

    fn write_over(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = match self.disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(path)?,
            other => other?,
        };
        file.write_at(bytes, 0)?;
        file.sync_data()?;
        // Also for a file that was there: its name may not have been synced before a kill.
        self.disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
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

    fn text(snapshot: &Snapshot, upto: u64) -> Option<String> {
        let copy = snapshot.read(upto).unwrap()?;
        Some(String::from_utf8(copy.body).unwrap())
    }

    #[test]
    fn the_newest_copy_not_above_the_record_counts() {
        let (_, snapshot) = snapshot();
        assert_eq!(snapshot.read(u64::MAX).unwrap(), None);
        for seq in [10, 20, 30] {
            snapshot.write(1, seq, seq - 10, format!("at {seq}").as_bytes()).unwrap();
        }
        for (upto, body) in [(9, None), (19, None), (20, Some("at 20")), (99, Some("at 30"))] {
            assert_eq!(text(&snapshot, upto).as_deref(), body, "up to {upto}");
        }
    }

    #[test]
    fn rounds_that_fail_half_way_never_overwrite_the_copy_that_counts() {
        let (_, snapshot) = snapshot();
        snapshot.write(1, 10, 0, b"at 10").unwrap();
        snapshot.write(1, 20, 10, b"at 20").unwrap();
        for seq in [30, 40, 50] {
            snapshot.write(1, seq, 20, b"of a round without a record").unwrap();
            assert_eq!(text(&snapshot, 20).as_deref(), Some("at 20"), "after the round at {seq}");
        }
    }

    #[test]
    fn a_copy_made_before_a_kill_outlasts_the_power_after_it() {
        let disk = MemDisk::new();
        let of =
            |disk: &MemDisk| Snapshot::of(Arc::new(disk.clone()), Path::new("/state"), "alerts");
        disk.stop_after(1); // The file is made, and nothing more.
        of(&disk).write(1, 10, 0, b"first").unwrap_err();
        let disk = disk.kill();
        of(&disk).write(1, 10, 0, b"first").unwrap();
        for seed in 0..20 {
            let (after, found) = (disk.kill(), Some("first"));
            assert_eq!(text(&of(&after.crash(seed)), 10).as_deref(), found, "seed {seed}");
        }
    }

    #[test]
    fn a_copy_with_any_flipped_byte_is_not_taken() {
        let (disk, snapshot) = snapshot();
        snapshot.write(1, 10, 0, b"older").unwrap();
        snapshot.write(1, 20, 10, b"newer").unwrap();
        let file = disk.open(Path::new("/state/registry.b")).unwrap();
        for at in 0..file.len().unwrap() {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_at(&[byte[0] ^ 1], at).unwrap();
            assert_eq!(text(&snapshot, 99).as_deref(), Some("older"), "byte {at}");
            file.write_at(&byte, at).unwrap();
        }
    }
}
