//! Groups on the disk, a file each: a restart repeats what the last acknowledged push said, or nothing.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rrd::{Kind, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::share::{ALL, Used};
use super::{Group, Groups, Name, Pushed};
use crate::exposition::Series;
use crate::registry::TokenId;

/// Bytes of a file: a page of the longest kind, its texts escaped.
const FILE_BYTES: u64 = 64 << 20;
/// What the operator is told of a file that cannot be removed.
const STAYS: &str = "a pushed group stays on the disk; remove it from pushed/";

/// A group as its file holds it.
#[derive(Serialize, Deserialize)]
struct Kept {
    relay: Option<u64>,
    labels: Vec<(String, String)>,
    pushed_at_ms: i64,
    until_ms: i64,
    series: Vec<KeptSeries>,
}

#[derive(Serialize, Deserialize)]
struct KeptSeries {
    family: String,
    text: String,
    kind: Option<u8>,
    /// The bits of the value: JSON has neither NaN nor infinity.
    value: u64,
}

impl Groups {
    /// Keeps groups in `folder` from now on, and takes those that an earlier process left there.
    pub(in crate::intake) fn keep_in(&mut self, folder: PathBuf) -> io::Result<()> {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "json")
                || self.members.len() >= ALL.groups
            {
                continue;
            }
            match read(&path) {
                Ok((name, group)) => self.take(name, group),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "a pushed group is forgotten");
                }
            }
        }
        self.folder = Some(folder);
        Ok(())
    }

    fn take(&mut self, name: Name, group: Group) {
        self.shares.add(name.relay, Used { groups: 1, ..group.size_of(|_| true) });
        self.members.insert(name, group);
    }

    /// Writes a group's file. One that cannot be written is removed: the old values would be a lie.
    pub(super) fn save(&self, name: &Name) {
        let (Some(folder), Some(group)) = (&self.folder, self.members.get(name)) else { return };
        if let Err(error) = write(folder, name, group) {
            tracing::warn!(%error, "a restart will forget this push; make room for the data folder");
            if let Err(error) = self.unsave(name) {
                tracing::warn!(%error, "{STAYS}");
            }
        }
    }

    /// Removes a group's file, for good once this returns.
    pub(super) fn unsave(&self, name: &Name) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        remove(folder, name)?;
        File::open(folder)?.sync_all()
    }

    /// Removes the file of a group whose time is over, or that may not be repeated: should a crash
    /// bring it back, it is removed again.
    pub(super) fn discard(&self, name: &Name) {
        let Some(folder) = &self.folder else { return };
        if let Err(error) = remove(folder, name) {
            tracing::warn!(%error, "{STAYS}");
        }
    }
}

fn file_name(name: &Name) -> String {
    let relay = name.relay.map_or(String::new(), |TokenId(id)| id.to_string());
    let texts = name.labels.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    let mut digest = Sha256::new();
    for text in [relay.as_str()].into_iter().chain(texts) {
        // Its length first, so that no text is confused with two others.
        digest.update(u64::try_from(text.len()).expect("a text in memory").to_le_bytes());
        digest.update(text);
    }
    let digest: [u8; 32] = digest.finalize().into();
    let hex = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex: String =
        hex.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect();
    format!("{hex}.json")
}

fn remove(folder: &Path, name: &Name) -> io::Result<()> {
    match fs::remove_file(folder.join(file_name(name))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(folder: &Path, name: &Name, group: &Group) -> io::Result<()> {
    let series = group.families.iter().flat_map(|(family, series)| {
        series.iter().map(|one| KeptSeries {
            family: family.to_string(),
            text: one.text.to_string(),
            kind: one.kind.map(|kind| kind as u8),
            value: one.value.to_bits(),
        })
    });
    let kept = Kept {
        relay: name.relay.map(|TokenId(id)| id),
        labels: name.labels.clone(),
        pushed_at_ms: group.pushed_at.as_millis(),
        until_ms: group.until.as_millis(),
        series: series.collect(),
    };
    let path = folder.join(file_name(name));
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(&kept)?)?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(folder)?.sync_all()
}

fn read(path: &Path) -> io::Result<(Name, Group)> {
    if fs::metadata(path)?.len() > FILE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let kept: Kept = serde_json::from_slice(&fs::read(path)?)?;
    let mut group = Group {
        families: std::collections::BTreeMap::new(),
        pushed_at: Timestamp::from_millis(kept.pushed_at_ms),
        until: Timestamp::from_millis(kept.until_ms),
        handed_at: Timestamp::MIN,
    };
    for one in kept.series {
        Series::read(&one.text).map_err(io::Error::other)?;
        group.families.entry(one.family.into()).or_default().push(Pushed {
            text: one.text.into(),
            kind: one.kind.and_then(Kind::from_number),
            value: f64::from_bits(one.value),
        });
    }
    Ok((Name { relay: kept.relay.map(TokenId), labels: kept.labels }, group))
}
