//! What a check looks at in a data folder, and what it finds there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use rrd::{
    BadTile, Disk, InstanceId, ONE_SLOT_DAMAGED, OsDisk, SlotView, Slots, Store, inspect_slots,
};

use super::Stand;
use crate::aside::{self, Aside};
use crate::operate::finding::Finding;
use crate::operate::manifest::Manifest;
use crate::recovery::{Folders, Recovered, snapshots};

/// All that was looked at, and what was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) findings: Vec<Finding>,
    pub(super) bad: Vec<BadTile>,
    /// Archives of which a slot is damaged and provably of no use.
    pub(super) slots: Vec<InstanceId>,
    pub(super) leftovers: Vec<PathBuf>,
    pub(super) record: journal::Record,
    /// Archives of which something waits in the journal or aside, so that they must be there.
    pub(super) needed: BTreeSet<InstanceId>,
    pub(super) archives: u64,
    pub(super) series: u64,
    pub(super) tiles: u64,
    pub(super) segments: u64,
}

impl Found {
    /// Of a backup: whether every file is as it was copied.
    pub(super) fn manifest(&mut self, data: &Path) -> Result<()> {
        let Some(manifest) = Manifest::read(data)? else { return Ok(()) };
        for (name, problem) in manifest.verify(data)? {
            self.findings.push(Finding::damage(&data.join(name), problem));
        }
        Ok(())
    }

    pub(super) fn leftovers(&mut self, folders: &Folders) -> Result<()> {
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

    pub(super) fn journal(&mut self, disk: &dyn Disk, dir: &Path) {
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
    pub(super) fn snapshots(&mut self, disk: &Arc<dyn Disk>, dir: &Path, upto: u64) -> Result<()> {
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
    pub(super) fn aside(&mut self, folders: &Folders, stand: &Stand) -> Result<()> {
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
    pub(super) fn recovered(
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
    pub(super) fn missing(&mut self, archives: &Path) {
        for path in self.needed.iter().map(|id| archive(archives, *id)) {
            if !path.exists() {
                self.findings.retain(|known| known.file != path);
                let what = "missing, though acknowledged frames of it are in the journal or set aside: its rows are lost; a backup may have them";
                self.findings.push(Finding::damage(&path, what));
            }
        }
    }

    /// Slots, state and tiles of every archive of a store that stands where a start would.
    pub(super) fn archives(
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

pub(super) fn archive(dir: &Path, instance: InstanceId) -> PathBuf {
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
