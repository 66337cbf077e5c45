//! Real power cuts: the joined parts on an ext4 of their own, which the kernel shuts down in flight.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::{fs, io};

use fixtures::dice::{Dice, told};
use fixtures::power::{Mount, NEEDS};
use rrd::{File, OsDisk};

use super::chance::Chance;
use super::world::Machine;
use super::*;

/// Histories, each on a new file system, so that its making is cut as well.
const HISTORIES: u64 = 10;
/// Power cuts of each history.
const CUTS: usize = 30;
/// Changes of the disk between two cuts, at most; a batch makes about three.
const MOST_CHANGES: u64 = 80;
const IMAGE_MEBIBYTES: u64 = 64;

/// The machine's disk over a mount: the path `/data` lies in it. Counts changes, and lets the power go
/// while the program works on.
#[derive(Clone)]
struct Mounted {
    mount: Arc<Mount>,
    power: Arc<Power>,
}

#[derive(Default)]
struct Power {
    op_count: AtomicU64,
    stop_at: AtomicU64,
    is_going: AtomicBool,
    is_gone: AtomicBool,
    cutter: Mutex<Option<JoinHandle<()>>>,
}

impl Mounted {
    fn new(mount: Mount) -> Self {
        let power = Power { stop_at: AtomicU64::new(u64::MAX), ..Power::default() };
        Self { mount: Arc::new(mount), power: Arc::new(power) }
    }

    fn at(&self, path: &Path) -> PathBuf {
        self.mount.folder().join(path.strip_prefix("/").unwrap())
    }

    fn count(&self) {
        let op_count = self.power.op_count.fetch_add(1, Ordering::SeqCst);
        if op_count == self.power.stop_at.load(Ordering::SeqCst) {
            self.cut();
        }
    }

    fn cut(&self) {
        if self.power.is_going.swap(true, Ordering::SeqCst) {
            return;
        }
        let (mount, power) = (Arc::clone(&self.mount), Arc::clone(&self.power));
        let cutter = std::thread::spawn(move || {
            mount.cut().unwrap();
            power.is_gone.store(true, Ordering::SeqCst);
        });
        *self.power.cutter.lock().unwrap() = Some(cutter);
    }

    /// The power is back; cuts it first if that has not happened yet.
    fn restored(&self) -> Self {
        self.cut();
        let cutter = self.power.cutter.lock().unwrap().take();
        cutter.unwrap().join().unwrap();
        self.mount.restore().unwrap();
        let power = Power { stop_at: AtomicU64::new(u64::MAX), ..Power::default() };
        Self { mount: Arc::clone(&self.mount), power: Arc::new(power) }
    }
}

impl Machine for Mounted {
    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn stop_after(&self, op_count: u64) {
        let now = self.power.op_count.load(Ordering::SeqCst);
        self.power.stop_at.store(now + op_count, Ordering::SeqCst);
    }

    fn is_off(&self) -> bool {
        self.power.is_gone.load(Ordering::SeqCst)
    }

    fn may_fail(&self) -> bool {
        self.power.is_going.load(Ordering::SeqCst)
    }
}

impl Mounted {
    fn shared(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(Counted { file, disk: self.clone() })
    }
}

impl Disk for Mounted {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        OsDisk.open(&self.at(path)).map(|file| self.shared(file))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.count();
        OsDisk.create(&self.at(path)).map(|file| self.shared(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.count();
        OsDisk.rename(&self.at(from), &self.at(to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.count();
        OsDisk.remove(&self.at(path))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_dir(&self.at(path))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let inside =
            |path: PathBuf| Path::new("/").join(path.strip_prefix(self.mount.folder()).unwrap());
        Ok(OsDisk.list(&self.at(dir))?.into_iter().map(inside).collect())
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.count();
        OsDisk.sync_dir(&self.at(dir))
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        OsDisk.free_bytes(&self.at(dir))
    }
}

/// A file that counts its changes. Holds the disk, so that the mount outlives it. Never mapped: a
/// page that is not in memory when the power goes would kill the test.
struct Counted {
    file: Arc<dyn File>,
    disk: Mounted,
}

impl File for Counted {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.count();
        self.file.write_at(bytes, offset)
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.count();
        self.file.allocate(offset, len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.disk.count();
        self.file.sync_data()
    }
}

/// A history on a new file system with so many power cuts; after each the server is as the mirror.
fn play(runtime: &Runtime, mount: Mount, seed: u64) {
    let mut dice = Dice::new(seed);
    let mut world = World::on(Mounted::new(mount), runtime);
    world.faults = (0..CUTS).map(|_| dice.below(MOST_CHANGES)).collect();
    if !world.start() {
        world.restart(&Mounted::restored);
    }
    let mut chance = Chance::new(seed);
    while !world.faults.is_empty() {
        let act = chance.act();
        while !world.perform(act) {
            world.restart(&Mounted::restored);
        }
    }
    // The last one, between two acts.
    world.restart(&Mounted::restored);
}

fn mount(folder: &Path) -> Result<Mount, String> {
    Mount::new(&folder.join("image"), &folder.join("mount"), IMAGE_MEBIBYTES)
}

#[test]
fn a_real_power_cut_at_any_moment_loses_nothing_acknowledged() {
    const TEST: &str = "a_real_power_cut_at_any_moment_loses_nothing_acknowledged";
    let runtime = Runtime::new().unwrap();
    let seeds: Vec<u64> = told().map_or_else(|| (0..HISTORIES).collect(), |seed| vec![seed]);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (runtime, seeds) = (&runtime, &seeds);
            scope.spawn(move || {
                for &seed in seeds.iter().filter(|seed| **seed % 2 == thread) {
                    let folder = tempfile::tempdir().unwrap();
                    let mount = match mount(folder.path()) {
                        Ok(mount) => mount,
                        Err(lack) if seed < 2 => return not_run(TEST, &format!("{NEEDS}; {lack}")),
                        Err(_) => return,
                    };
                    let history = AssertUnwindSafe(|| play(runtime, mount, seed));
                    let again = format!("ROUNDEL_SEED={seed} cargo nextest run -p roundel {TEST}");
                    assert!(catch_unwind(history).is_ok(), "again: {again}");
                }
            });
        }
    });
}

/// Says that a test did not run, and what it lacks, where `cargo xtask test` reads it.
fn not_run(test: &str, needs: &str) {
    use std::io::Write as _;
    let line = format!("not run: {test} (needs {})\n", needs.trim().replace('\n', " "));
    eprint!("{line}");
    if let Some(file) = std::env::var_os("ROUNDEL_NOT_RUN") {
        let mut file = fs::File::options().create(true).append(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}
