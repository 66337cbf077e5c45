//! What is on a disk in memory: names and contents, those that programs see and those that last.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// What a device writes whole or not at all: a cut may fall between any two of these.
pub(super) const SECTOR: usize = 512;

/// All that is on the disk, and the faults it is told to have.
#[derive(Default)]
pub(super) struct Image {
    pub(super) names: BTreeMap<PathBuf, usize>,
    pub(super) durable_names: BTreeMap<PathBuf, usize>,
    pub(super) unsynced_names: Vec<NameChange>,
    pub(super) nodes: Vec<Node>,
    pub(super) op_count: u64,
    pub(super) stop_at: Option<u64>,
    pub(super) off: bool,
    pub(super) capacity: Option<u64>,
    pub(super) failing: BTreeSet<PathBuf>,
}

impl Image {
    pub(super) fn powered(&self) -> io::Result<&Self> {
        if self.off { Err(power_is_off()) } else { Ok(self) }
    }

    /// Counts a change, and cuts the power when the count given to `stop_after` is used up.
    pub(super) fn change(&mut self) -> io::Result<()> {
        self.powered()?;
        if self.stop_at == Some(self.op_count) {
            self.off = true;
            return Err(power_is_off());
        }
        self.op_count += 1;
        Ok(())
    }

    /// The write in whose midst the power goes is as unsynced as any: parts of it may be on disk.
    pub(super) fn change_file(&mut self, node: usize, change: Change) -> io::Result<()> {
        let was_on = !self.off;
        let room = self.check_room(node, change.end());
        let outcome = self.change();
        if outcome.is_ok() {
            room?;
        } else if room.is_err() {
            return outcome;
        }
        if was_on {
            self.nodes[node].write(change);
        }
        outcome
    }

    fn check_room(&self, node: usize, end: usize) -> io::Result<()> {
        let growth = end.saturating_sub(self.nodes[node].live.len()) as u64;
        match self.capacity {
            Some(bytes) if self.used_bytes() + growth > bytes => {
                Err(io::Error::new(io::ErrorKind::StorageFull, "injected: the disk is full"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.names.values().map(|node| self.nodes[*node].live.len() as u64).sum()
    }

    pub(super) fn node(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| named(io::ErrorKind::NotFound, path))
    }

    pub(super) fn rename_all(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }
}

/// One change of a folder's names: whole or not at all.
#[derive(Clone)]
pub(super) struct NameChange {
    pub(super) dir: PathBuf,
    pub(super) set: Vec<(PathBuf, Option<usize>)>,
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        for (path, node) in &self.set {
            match node {
                Some(node) => names.insert(path.clone(), *node),
                None => names.remove(path),
            };
        }
    }
}

/// One file's contents, and in what they differ.
#[derive(Clone, Default)]
pub(super) struct Node {
    pub(super) live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Grow { len: usize },
}

impl Node {
    fn write(&mut self, change: Change) {
        change.apply(&mut self.live, &mut |_| true);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.durable, &mut |_| true);
        }
    }

    pub(super) fn lose_every_other_sector(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.durable, &mut |sector| sector % 2 == 0);
        }
    }

    /// In their order, because a device may have written an older version of a sector, and later
    /// not the newer one, but never an older one over a newer.
    pub(super) fn after_power_cut(&self, dice: &mut Dice) -> Self {
        let mut durable = self.durable.clone();
        for change in &self.unsynced {
            match dice.below(3) {
                0 => {}
                1 => change.apply(&mut durable, &mut |_| true),
                _ => change.apply(&mut durable, &mut |_| dice.below(2) == 0),
            }
        }
        Self { live: durable.clone(), durable, unsynced: Vec::new() }
    }
}

impl Change {
    fn end(&self) -> usize {
        match self {
            Self::Write { offset, bytes } => offset.saturating_add(bytes.len()),
            Self::Grow { len } => *len,
        }
    }

    /// Applies the sectors that `keep` lets through; `keep` is asked with the sector's number.
    fn apply(&self, content: &mut Vec<u8>, keep: &mut dyn FnMut(usize) -> bool) {
        match self {
            Self::Grow { len } => {
                if content.len() < *len && keep(0) {
                    content.resize(*len, 0);
                }
            }
            Self::Write { offset, bytes } => {
                let (mut at, end) = (*offset, *offset + bytes.len());
                while at < end {
                    let sector = at / SECTOR;
                    let stop = end.min((sector + 1) * SECTOR);
                    if keep(sector) {
                        let grown = content.len().max(stop);
                        content.resize(grown, 0);
                        content[at..stop].copy_from_slice(&bytes[at - offset..stop - offset]);
                    }
                    at = stop;
                }
            }
        }
    }
}

/// `SplitMix64`: enough to choose which sectors survive, and the same everywhere.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bound = bound as u64;
        usize::try_from((mixed ^ (mixed >> 31)) % bound).expect("below a usize")
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("injected: the power is off")
}

pub(super) fn named(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, format!("{}: {kind}", path.display()))
}
