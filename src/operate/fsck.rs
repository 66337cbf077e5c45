//! `roundel fsck`: everything in a data folder verified, by the code of a start on a disk that forgets.
//!
//! What a start would replay is replayed in memory first, so that the traces of an unfinished round
//! are not taken for damage. So is what was set aside for archives that the record excepts: they stand
//! at a frame of their own.

mod found;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rrd::disk::lock_dir;
use rrd::{Disk, InstanceId, OsDisk, Store, inspect_slots};

use super::finding::{Finding, Level};
use super::hold;
use super::manifest::Manifest;
use super::overlay::Overlay;
use super::words::{count, counted};
use crate::args::{Fsck, Serve};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::recovery::{Folders, Recovered, excepted, recover};
use crate::report;
use crate::rounds::Excepted;
use found::{Found, archive};

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
