//! Rot: bits, sectors and lengths change behind the store's back. What is read is what was written, or
//! unknown, or reported; never a wrong number, never a panic, never a large allocation.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use fixtures::dice::Dice;
use rrd::{Damage, Disk, File, MemDisk, OsDisk, Store};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::damage::{check_rows, content, disk_with, file_name};
use crate::world::{DIR, WEB, dump, open};

/// Where the first block begins: header, slots, labels and directory come before.
const BLOCKS_AT: usize = 20_480;

/// A file that rots and is healed again, and what the store says of it while it is whole.
struct Rotting {
    disk: MemDisk,
    file: Arc<dyn File>,
    bytes: Vec<u8>,
    upto: u64,
    whole: String,
}

impl Rotting {
    /// No test here may need more memory than a small store: a number that rotted must not become an
    /// allocation.
    fn new() -> Self {
        const MEMORY: u64 = 1 << 30;
        let limit = Rlimit { current: Some(MEMORY), ..getrlimit(Resource::As) };
        setrlimit(Resource::As, limit).unwrap();
        let (bytes, upto) = content();
        let disk = disk_with(&file_name(), &bytes);
        let (store, damage) = open(&disk, upto);
        assert_eq!(damage, []);
        let file = disk.open(&Path::new(DIR).join(file_name())).unwrap();
        let whole = dump(&store);
        Self { disk, file, bytes, upto, whole }
    }

    fn flip(&self, bit: usize) {
        let byte = self.bytes[bit / 8] ^ (1 << (bit % 8));
        self.file.write_at(&[byte], (bit / 8) as u64).unwrap();
    }

    fn heal(&self, from: usize, len: usize) {
        self.file.write_at(&self.bytes[from..from + len], from as u64).unwrap();
        self.file.sync_data().unwrap();
    }

    fn open(&self) -> Store {
        open(&self.disk, self.upto).0
    }

    /// What is read is whole, or something was said; in no case is a number wrong.
    #[track_caller]
    fn check(&self, store: &Store, case: &str) -> bool {
        check_rows(store, case);
        let found = dump(store);
        let is_said = !store.damage().is_empty();
        assert!(is_said || found == self.whole, "{case}: something is missing without a word");
        is_said
    }
}

#[test]
fn one_to_eight_flipped_bits_never_make_a_wrong_number() {
    let rotting = Rotting::new();
    let mut said = 0;
    for seed in 0..10_000 {
        let mut dice = Dice::new(seed);
        let bits: Vec<usize> =
            (0..=dice.below(8)).map(|_| dice.index(rotting.bytes.len() * 8)).collect();
        let case = format!("seed {seed}, bits {bits:?}");
        // One half rots at rest, the other under an open store.
        let is_live = dice.once_in(2);
        let before = is_live.then(|| rotting.open());
        for &bit in &bits {
            rotting.flip(bit);
        }
        let store = before.unwrap_or_else(|| rotting.open());
        said += usize::from(rotting.check(&store, &case));
        for bit in &bits {
            rotting.heal(bit / 8, 1);
        }
    }
    assert!(said > 1000, "rot was noticed {said} times");
}

#[test]
fn every_single_bit_before_the_blocks_is_checked() {
    let rotting = Rotting::new();
    let mut said = 0;
    // The first 4 KiB, and what is in use of the labels and the directory.
    let bits = (0..4096 * 8).chain((6144..6400).flat_map(|at| at * 8..at * 8 + 8));
    for bit in bits.chain((10_240..10_400).flat_map(|at| at * 8..at * 8 + 8)) {
        rotting.flip(bit);
        said += usize::from(rotting.check(&rotting.open(), &format!("bit {bit}")));
        rotting.heal(bit / 8, 1);
    }
    assert!(said > 1024 * 8, "rot was noticed {said} times");
}

#[test]
fn a_sector_of_zeroes_or_of_another_place_is_noticed_wherever_it_matters() {
    let rotting = Rotting::new();
    let sectors = rotting.bytes.len() / 512;
    for sector in 0..sectors {
        let other = &rotting.bytes[(sector + 7) % sectors * 512..][..512];
        for content in [&[0; 512][..], &[0xFF; 512], other] {
            rotting.file.write_at(content, sector as u64 * 512).unwrap();
            rotting.check(&rotting.open(), &format!("sector {sector}, {:x?}..", &content[..4]));
        }
        rotting.heal(sector * 512, 512);
    }
}

/// Sealed again after the change, as no rot does but a bad tool may: the store may believe the rows, but
/// neither panics nor asks for memory without bound.
#[test]
fn absurd_numbers_under_a_right_checksum_do_no_harm() {
    let rotting = Rotting::new();
    let sealed = [(0, 1024), (1024, 512), (1536, 512), (2048, 4096), (6144, 4096)];
    let blocks = [(10_240, 40), (BLOCKS_AT, 1024), (BLOCKS_AT + 1024, 48)];
    for seed in 0..4000 {
        let mut dice = Dice::new(seed);
        let &(at, len) = [&sealed[..], &blocks].concat().get(dice.index(8)).unwrap();
        let mut bytes = rotting.bytes[at..at + len].to_vec();
        for _ in 0..=dice.below(2) {
            let place = dice.index(len.min(160) - 8);
            let absurd = [dice.number(), u64::MAX, u64::from(u32::MAX), 1 << 40, 0];
            let bytes_len = 1 << dice.index(4);
            let number = absurd[dice.index(absurd.len())].to_le_bytes();
            bytes[place..place + bytes_len].copy_from_slice(&number[..bytes_len]);
        }
        let seal = crc32c::crc32c(&bytes[..len - 4]);
        bytes[len - 4..].copy_from_slice(&seal.to_le_bytes());
        rotting.file.write_at(&bytes, at as u64).unwrap();
        let store = rotting.open();
        assert!(dump(&store).len() <= 10 * rotting.whole.len(), "seed {seed}");
        rotting.heal(at, len);
    }
}

#[test]
fn a_file_of_any_length_is_reported_and_left_as_it_is() {
    let rotting = Rotting::new();
    for len in 0..rotting.bytes.len() {
        let disk = disk_with(&file_name(), &rotting.bytes[..len]);
        let (store, damage) = open(&disk, rotting.upto);
        assert_eq!(damage.len(), 1, "cut at {len}");
        assert!(store.instances().is_empty() && store.is_unavailable(WEB), "cut at {len}");
        let left = disk.open(&Path::new(DIR).join(file_name())).unwrap().len().unwrap();
        assert_eq!(left, len as u64);
    }
}

/// The folder of a store on the real disk with one good archive, and what opening it says.
fn said_of(make: impl FnOnce(&Path, &[u8])) -> Vec<Damage> {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, upto) = content();
    make(&folder.path().join(file_name()), &bytes);
    let (store, damage) = Store::open(Arc::new(OsDisk), folder.path(), upto).unwrap();
    assert!(damage.is_empty() || store.is_unavailable(WEB), "{damage:?}");
    damage
}

#[test]
fn whatever_stands_in_the_place_of_an_archive_is_named() {
    let resealed = |bytes: &[u8], at: usize, change: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + change.len()].copy_from_slice(change);
        let seal = crc32c::crc32c(&bytes[..1020]);
        bytes[1020..1024].copy_from_slice(&seal.to_le_bytes());
        bytes
    };
    let version = |number: u32| {
        said_of(|path, bytes| fs::write(path, resealed(bytes, 8, &number.to_le_bytes())).unwrap())
    };
    let says = |damage: Vec<Damage>, what: &str| {
        let [damage] = &damage[..] else { panic!("{what}: {damage:?}") };
        assert!(damage.to_string().contains(what), "{what}: {damage}");
    };
    assert_eq!(said_of(|path, bytes| fs::write(path, bytes).unwrap()), []);
    says(version(0), "format 0");
    says(version(1), "format 1, which no release wrote and this program cannot read; move it away");
    says(version(2), "format 2, which no release wrote and this program cannot read; move it away");
    says(version(4), "format 4, this program reads 3; upgrade");
    says(version(u32::MAX), "format 4294967295");
    says(version(1_u32.swap_bytes()), "format 16777216");
    says(
        said_of(|path, bytes| {
            fs::write(path, resealed(bytes, 0, b"\x1aLEDNUOR")).unwrap();
        }),
        "not an archive of this program",
    );
    says(
        said_of(|path, bytes| {
            fs::write(path, resealed(bytes, 16, &7_u128.to_le_bytes())).unwrap();
        }),
        "give it its name back",
    );
    says(said_of(|path, _| fs::write(path, []).unwrap()), "shorter than it was made");
    says(said_of(|path, _| fs::create_dir(path).unwrap()), "Is a directory");
    says(said_of(|path, _| symlink(path, path).unwrap()), "symbolic links");
    says(said_of(|path, _| symlink("/nowhere", path).unwrap()), "No such file");
    let linked = said_of(|path, bytes| {
        fs::write(path.with_extension("moved"), bytes).unwrap();
        symlink(path.with_extension("moved"), path).unwrap();
    });
    assert_eq!(linked, [], "an archive may be a link to another disk");
}
