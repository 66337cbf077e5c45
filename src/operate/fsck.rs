//! `roundel fsck`: everything in a data folder verified, by the code of a start on a disk that forgets.
//!
//! What a start would replay is replayed in memory first, so that the traces of an unfinished round
//! are not taken for damage. So is what was set aside for archives that the record excepts: they stand
//! at a frame of their own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use rrd::disk::lock_dir;
use rrd::{
    BadTile, Disk, InstanceId, ONE_SLOT_DAMAGED, OsDisk, SlotView, Slots, Store, inspect_slots,
};

use super::finding::{Finding, Level};
use super::hold;
use super::manifest::Manifest;
use super::overlay::Overlay;
use super::words::{count, counted};
use crate::args::{Fsck, Serve};
use crate::aside::{self, Aside};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::recovery::{Folders, Recovered, excepted, recover, snapshots};
use crate::report;
use crate::rounds::Excepted;

const DEFAULT_FOLDER: &str = "./roundel-data";

/// Verifies, mends if told to, and says what was found: 0 clean, 1 remarks or mended, 2 damage left.
pub(crate) fn run(arguments: &Fsck) -> Result<ExitCode> {
    if !arguments.file.is_empty() {
        return Ok(tell(&check_files(&arguments.file)?, &[], arguments.json));
    }
    let data = arguments.data.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FOLDER));
    if !data.is_dir() {
        bail!("{}: no such folder; name it with --data", data.display());
    }
    let _lock = lock_dir(&data).context("only the folder of a stopped server can be verified")?;
    if arguments.repair && Manifest::read(&data)?.is_some() {
        bail!("{}: a backup; restore it and repair what was restored", data.display());
    }
    let found = check_folder(&data)?;
    if !arguments.repair {
        return Ok(tell(&found, &[], arguments.json));
    }
    let _alone = hold::alone(&data)?;
    repair(&data, &found)?;
    let left = check_folder(&data)?;
    let is_left = |finding: &&Finding| !left.findings.contains(finding);
    let repaired: Vec<_> = found.findings.iter().filter(is_left).cloned().collect();
    Ok(tell(&left, &repaired, arguments.json))
}

/// All that was looked at, and what was found.
#[derive(Default)]
struct Found {
    findings: Vec<Finding>,
    bad: Vec<BadTile>,
    /// Archives of which a slot is damaged and provably of no use.
    slots: Vec<InstanceId>,
    leftovers: Vec<PathBuf>,
    record: journal::Record,
    /// Archives of which something waits in the journal or aside, so that they must be there.
    needed: BTreeSet<InstanceId>,
    archives: u64,
    series: u64,
    tiles: u64,
    segments: u64,
}

fn check_files(files: &[PathBuf]) -> Result<Found> {
    let mut found = Found::default();
    for path in files {
        if !path.is_file() {
            bail!("{}: no such file", path.display());
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        let id = match inspect_slots(Overlay::default().open(path)?.as_ref())? {
            Ok(slots) => slots.instance,
            Err(what) => {
                found.archives += 1;
                found.findings.push(Finding::damage(path, what));
                continue;
            }
        };
        // A store knows archives by their names, those of `roundel rrd` have any.
        let name = archive(dir, id);
        let disk: Arc<dyn Disk> = Arc::new(Overlay::only(name.clone(), path.clone()));
        let (store, _) = Store::open(Arc::clone(&disk), dir, u64::MAX)?;
        let known = found.findings.len();
        found.archives(disk.as_ref(), dir, &store, &Stand::of(u64::MAX))?;
        for finding in &mut found.findings[known..] {
            finding.file.clone_from(path);
        }
    }
    Ok(found)
}

fn check_folder(data: &Path) -> Result<Found> {
    let mut found = Found::default();
    let folders = Folders { data: data.to_owned() };
    let disk: Arc<dyn Disk> = Arc::new(Overlay::default());
    found.manifest(data)?;
    found.leftovers(&folders)?;
    found.journal(disk.as_ref(), &folders.at("journal"));
    let stand = Stand::at(&found.record);
    found.snapshots(&disk, &folders.at("state"), stand.upto)?;
    found.aside(&folders, &stand)?;
    found.needed.extend(stand.excepted.keys());
    let archives = folders.at("archives");
    match started(data, &disk) {
        Ok(recovered) => found.recovered(&recovered, disk.as_ref(), &archives, &stand)?,
        Err(error) => {
            let what = format!("the server would not start: {error:#}");
            found.findings.push(Finding::damage(data, what));
            let disk: Arc<dyn Disk> = Arc::new(Overlay::default());
            let excepted = &stand.excepted;
            let opened = Store::open_excepting(Arc::clone(&disk), &archives, stand.upto, excepted);
            found.archives(disk.as_ref(), &archives, &opened?.0, &stand)?;
        }
    }
    found.missing(&archives);
    Ok(found)
}

/// Up to which frame archives count.
struct Stand {
    upto: u64,
    /// Those of which the last rounds came to nothing.
    excepted: Excepted,
}

impl Stand {
    fn of(upto: u64) -> Self {
        Self { upto, excepted: Excepted::new() }
    }

    fn at(record: &journal::Record) -> Self {
        Self { upto: record.seq, excepted: excepted(record) }
    }

    fn archive(&self, instance: InstanceId) -> u64 {
        self.excepted.get(&instance).map_or(self.upto, |&own| own.min(self.upto))
    }
}

/// The parts as a start would bring them back.
fn started(data: &Path, disk: &Arc<dyn Disk>) -> Result<Recovered> {
    let config = Config::check(&Serve::of(data))?;
    let folders = Folders { data: data.to_owned() };
    let clock: Arc<dyn rrd::Clock> = Arc::new(SystemClock::start());
    recover(&config, &folders, disk, &clock, Vec::new())
}

impl Found {
    /// Of a backup: whether every file is as it was copied.
    fn manifest(&mut self, data: &Path) -> Result<()> {
        let Some(manifest) = Manifest::read(data)? else { return Ok(()) };
        for (name, problem) in manifest.verify(data)? {
            self.findings.push(Finding::damage(&data.join(name), problem));
        }
        Ok(())
    }

    fn leftovers(&mut self, folders: &Folders) -> Result<()> {
        for name in ["archives", "journal"] {
            let folder = folders.at(name);
            if !folder.is_dir() {
                continue;
            }
            for path in OsDisk.list(&folder)? {
                if path.extension().is_some_and(|extension| extension == "new") {
                    let what = "a file whose making was cut short, and that nothing refers to; --repair removes it";
                    self.findings.push(Finding::remark(&path, what));
                    self.leftovers.push(path);
                }
            }
        }
        Ok(())
    }

    fn journal(&mut self, disk: &dyn Disk, dir: &Path) {
        match journal::inspect(disk, dir) {
            Ok((segments, copies)) => {
                self.segments = segments as u64;
                for copy in copies {
                    let what = format!(
                        "one of two copies of {} is damaged; the other one is used, and this one is written anew in its time",
                        copy.what
                    );
                    let place = format!("byte {}", copy.offset);
                    self.findings.push(Finding::remark(&copy.path, what).at(place));
                }
            }
            Err(error) => self.findings.push(Finding::damage(dir, error.to_string())),
        }
        // A record that cannot be read is told by the start.
        self.record = journal::checkpoint(disk, dir).unwrap_or_default();
    }

    /// Each round writes every part, so that one copy stands exactly at the record.
    fn snapshots(&mut self, disk: &Arc<dyn Disk>, dir: &Path, upto: u64) -> Result<()> {
        let parts = snapshots(disk, dir);
        for (name, part) in [("registry", parts.registry), ("alerts", parts.alerts)] {
            let copies = part.inspect()?;
            if upto > 0 && copies.iter().all(|(_, seq)| *seq != Some(upto)) {
                let what = format!(
                    "neither copy of the {name} stands at the journal's record ({upto}): what changed since is lost; a backup may have it"
                );
                self.findings.push(Finding::damage(copies[0].0, what));
            }
            for (path, seq) in copies {
                if path.exists() && seq.is_none() {
                    let what = format!(
                        "this copy of the {name} is not whole; the other one counts, and the next round writes this one"
                    );
                    self.findings.push(Finding::remark(path, what));
                }
            }
        }
        Ok(())
    }

    /// Frames that wait for their archive. A start applies them; here they are read to their ends.
    fn aside(&mut self, folders: &Folders, stand: &Stand) -> Result<()> {
        let (dir, upto) = (folders.at("aside"), stand.upto);
        if !dir.is_dir() {
            return Ok(());
        }
        let aside = Aside::new(Arc::new(OsDisk), dir.clone());
        for path in OsDisk.list(&dir)? {
            let Some((instance, after, _)) = aside::named(path.clone()) else {
                let what = "not a file of frames set aside: nothing reads it; move it away";
                self.findings.push(Finding::remark(&path, what));
                continue;
            };
            let file = archive(&folders.at("archives"), instance);
            if after < upto && !stand.excepted.contains_key(&instance) && !file.exists() {
                let what = "of an instance that was removed since: the next round removes it too";
                self.findings.push(Finding::remark(&path, what));
                continue;
            }
            self.needed.insert(instance);
            if after == upto {
                let what = "left by a round or a start that was cut short: the journal has these frames, and nothing needs to be done";
                self.findings.push(Finding::remark(&path, what));
                continue;
            }
            let frames = aside.read(&path).and_then(|mut frames| {
                frames.try_fold(0, |frames: u64, frame| Ok(frames + u64::from(frame?.seq <= upto)))
            });
            self.findings.push(match frames {
                Ok(frames) => {
                    let what = format!(
                        "{frames} acknowledged frames wait here for an archive that could not be written or opened; keep the file, a start applies them when the archive can be used"
                    );
                    Finding::remark(&path, what)
                }
                Err(reason) => {
                    let what = format!(
                        "frames that were set aside are damaged, those from there on are lost: {reason:#}; a backup may have them"
                    );
                    Finding::damage(&path, what)
                }
            });
        }
        Ok(())
    }

    /// What a start has brought back.
    fn recovered(
        &mut self,
        recovered: &Recovered,
        disk: &dyn Disk,
        archives: &Path,
        stand: &Stand,
    ) -> Result<()> {
        for damage in &recovered.lost {
            let what = format!("{damage}; they were acknowledged, a backup may have them");
            self.findings.push(Finding::damage(&damage.path, what));
        }
        self.needed.extend(&recovered.orphaned);
        let store = &recovered.state.store;
        self.archives(disk, archives, store, stand)?;
        for info in store.instances() {
            let path = archive(archives, info.id);
            if recovered.state.registry.instance(info.id).is_none() {
                let what = "the registry knows no such instance: its rows are kept and shown nowhere; restore the folder as a whole, or move the file away";
                self.findings.push(Finding::remark(&path, what));
            }
            if let Some(own) = stand.excepted.get(&info.id) {
                let what = format!(
                    "the last rounds could not write it: it stands at frame {own}, the others at {}; a start brings the rest from the frames set aside, check the disk",
                    stand.upto
                );
                self.findings.push(Finding::remark(&path, what));
            }
        }
        Ok(())
    }

    /// An instance may have no archive, if nobody sent a series of it. Of some it is known that they
    /// had one.
    fn missing(&mut self, archives: &Path) {
        for path in self.needed.iter().map(|id| archive(archives, *id)) {
            if !path.exists() {
                self.findings.retain(|known| known.file != path);
                let what = "missing, though acknowledged frames of it are in the journal or set aside: its rows are lost; a backup may have them";
                self.findings.push(Finding::damage(&path, what));
            }
        }
    }

    /// Slots, state and tiles of every archive of a store that stands where a start would.
    fn archives(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        store: &Store,
        stand: &Stand,
    ) -> Result<()> {
        let mut judged = Vec::new();
        for path in disk.list(dir)? {
            if path.extension().is_none_or(|extension| extension != "rrd") {
                continue;
            }
            self.archives += 1;
            if let Ok(slots) = inspect_slots(disk.open(&path)?.as_ref())?
                && self.slots(&path, &slots, stand.archive(slots.instance))
            {
                judged.push(path);
            }
        }
        let instances = store.instances();
        self.series += instances.iter().map(|info| info.series_count as u64).sum::<u64>();
        let (tiles, bad) = check_tiles(store, instances.iter().map(|info| info.id).collect())?;
        self.tiles += tiles;
        for damage in store.damage() {
            // What a damaged slot means has been said.
            if damage.what != ONE_SLOT_DAMAGED && !judged.contains(&damage.path) {
                self.findings.push(Finding::damage(&damage.path, damage.what));
            }
        }
        for tile in &bad {
            let path = archive(dir, tile.instance);
            self.findings.push(Finding::tile(&path, tile));
        }
        self.bad.extend(bad);
        Ok(())
    }

    /// True when the file cannot be used for what its slots say.
    fn slots(&mut self, path: &Path, slots: &Slots, upto: u64) -> bool {
        let newest = slots.newest(upto);
        if let (None, Some(oldest)) = (newest, slots.oldest()) {
            let what = format!(
                "its slots stand at {oldest} and later, the journal's record at {upto}: it belongs to a newer journal; restore archives and journal together"
            );
            self.findings.push(Finding::damage(path, what));
            return true;
        }
        for (copy, slot) in slots.slots.iter().enumerate() {
            let SlotView::Damaged { seq } = *slot else { continue };
            let place = format!("slot {copy}, byte {}", 1024 + 512 * copy);
            // Whole accumulators of its round still say where it stood.
            let is_of_no_use = newest == Some(upto)
                || seq.is_some_and(|seq| seq > upto || newest.is_some_and(|newest| seq < newest));
            let finding = if newest.is_none() {
                continue;
            } else if is_of_no_use {
                self.slots.push(slots.instance);
                Finding::remark(
                    path,
                    "damaged, and older than the slot that counts: nothing is lost; --repair writes it anew",
                )
            } else {
                Finding::damage(
                    path,
                    "damaged, and it may have been the newest: the rows since the other slot are lost; a backup may have them",
                )
            };
            self.findings.push(finding.at(place));
        }
        false
    }
}

fn archive(dir: &Path, instance: InstanceId) -> PathBuf {
    dir.join(format!("{instance}.rrd"))
}

/// Every tile of these instances, on two threads: two cores read as fast as most disks.
fn check_tiles(store: &Store, instances: Vec<InstanceId>) -> Result<(u64, Vec<BadTile>)> {
    let queue = Mutex::new(instances.into_iter());
    let work = || -> Result<(u64, Vec<BadTile>)> {
        let (mut tiles, mut bad) = (0, Vec::new());
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(instance) = next else { return Ok((tiles, bad)) };
            let mut check = match store.check(instance) {
                Ok(Some(check)) => check,
                Ok(None) => continue,
                Err(reason) => {
                    store.report_unreadable(instance, &reason);
                    continue;
                }
            };
            loop {
                match check.step() {
                    Ok(None) => break,
                    Ok(Some(checked)) => {
                        tiles += checked.tiles;
                        bad.extend(checked.bad);
                    }
                    // Said once for each archive, with the damage of the store.
                    Err(reason) => store.report_unreadable(instance, &reason),
                }
            }
        }
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        (work(), other.join())
    });
    let second = second.map_err(|_| anyhow::anyhow!("a thread of the check panicked"))??;
    let (mut tiles, mut bad) = first?;
    tiles += second.0;
    bad.extend(second.1);
    bad.sort_by_key(|tile| (tile.instance, tile.column, tile.archive, tile.rows));
    Ok((tiles, bad))
}

/// Mends what is provably right; what is left is found by looking again.
fn repair(data: &Path, found: &Found) -> Result<()> {
    let folders = Folders { data: data.to_owned() };
    for path in &found.leftovers {
        OsDisk.remove(path)?;
    }
    if found.bad.is_empty() && found.slots.is_empty() {
        return Ok(());
    }
    let (stand, epoch) = (Stand::at(&found.record), found.record.epoch);
    let bad = found.bad.iter().map(|tile| tile.instance);
    let seqs = bad.chain(found.slots.iter().copied()).map(|instance| stand.archive(instance));
    // The files of changes that count take their names first: at an earlier frame they are but room.
    Store::open_excepting(Arc::new(OsDisk), &folders.at("archives"), stand.upto, &stand.excepted)?;
    // Each archive is mended where it stands: one that the record excepts lacks what was set aside,
    // and a slot at the record's own frame would pass it over, or not count. Of what its failed rounds
    // left, nothing counts: neither a new file beside it, nor that it is to be removed.
    for seq in seqs.collect::<BTreeSet<_>>() {
        let archives = folders.at("archives");
        let (store, _) = Store::open_excepting(Arc::new(OsDisk), &archives, seq, &stand.excepted)?;
        let is_here = |instance: InstanceId| stand.archive(instance) == seq;
        let bad = found.bad.iter().filter(|tile| is_here(tile.instance));
        store.forget_tiles(&bad.cloned().collect::<Vec<_>>(), seq, epoch)?;
        for &instance in found.slots.iter().filter(|instance| is_here(**instance)) {
            store.rewrite_slots(instance, seq, epoch)?;
        }
    }
    Ok(())
}

fn tell(found: &Found, repaired: &[Finding], json: bool) -> ExitCode {
    let is = |level| found.findings.iter().filter(move |finding| finding.level == level).count();
    let (damage, remarks) = (is(Level::Damage), is(Level::Remark));
    if json {
        let findings = found.findings.iter().map(|finding| finding.json(false));
        let findings = findings.chain(repaired.iter().map(|finding| finding.json(true)));
        let json = serde_json::json!({
            "findings": findings.collect::<Vec<_>>(),
            "archives": found.archives,
            "series": found.series,
            "tiles": found.tiles,
            "segments": found.segments,
            "seq": found.record.seq,
            "damage": damage,
            "remarks": remarks,
            "repaired": repaired.len(),
        });
        report::print(&format!("{json:#}\n"));
    } else {
        for finding in repaired {
            report::print(&format!("repaired  {finding}\n"));
        }
        for finding in &found.findings {
            report::print(&format!("{finding}\n"));
        }
        report::print(&found.summary(damage, remarks, repaired.len()));
    }
    match (damage, remarks + repaired.len()) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(1),
        _ => ExitCode::from(2),
    }
}

impl Found {
    fn summary(&self, damage: usize, remarks: usize, repaired: usize) -> String {
        let looked = format!(
            "{}, {} series, {}, {}",
            counted(self.archives, "archive"),
            count(self.series),
            counted(self.tiles, "tile"),
            counted(self.segments, "journal segment")
        );
        let places = counted(damage as u64, "damaged place");
        let said = counted(remarks as u64, "remark");
        let verdict = match (damage, remarks, repaired) {
            (0, 0, 0) => "clean".to_owned(),
            (0, _, 0) => format!("{said}, no damage"),
            (0, _, _) => format!("{repaired} repaired, {said}, no damage left"),
            _ => format!("{places}, {said}, {repaired} repaired"),
        };
        format!("{verdict}: {looked}\n")
    }
}
