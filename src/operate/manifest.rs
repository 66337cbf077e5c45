//! The manifest of a backup: what is in it, line by line, each line under its own checksum.
//!
//! While a backup is made it is `backup.partial` and grows by a line for each file that is whole and
//! synced; finished it is `backup.manifest`, which ends in a line that counts the others.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path};

use anyhow::{Context as _, Result, bail};

pub(crate) const MANIFEST: &str = "backup.manifest";
pub(crate) const PARTIAL: &str = "backup.partial";
const FORM: &str = "roundel-backup 1";
/// A line for each of a million files is 150 MB; more is no manifest of ours.
const MOST_BYTES: u64 = 256 << 20;

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) len: u64,
    /// When the source was last written to, as its file system says: seconds and nanoseconds.
    pub(crate) written: (i64, i64),
    /// False when that was so short before the copy that it could change again unseen.
    pub(crate) is_settled: bool,
    pub(crate) crc: u32,
}

/// What a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The journal's record: every frame up to it is in the archives.
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    /// By name, relative to the folder.
    pub(crate) files: BTreeMap<String, Entry>,
    pub(crate) folders: Vec<String>,
}

/// Errors for a backup that was cut short: what is missing in it must not be begun anew.
pub(crate) fn refuse_unfinished(dir: &Path) -> Result<()> {
    if dir.join(PARTIAL).exists() {
        bail!("{}: a backup that was not finished; run `roundel backup` again", dir.display());
    }
    Ok(())
}

impl Manifest {
    /// The manifest of a finished backup; `None` where the folder is no backup.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(MANIFEST);
        if !path.exists() {
            refuse_unfinished(dir)?;
            return Ok(None);
        }
        let text = read_text(&path)?;
        let manifest = Self::finished(&text);
        let damaged = || {
            format!(
                "{}: damaged, so that no file can be trusted; use another backup",
                path.display()
            )
        };
        manifest.map(Some).with_context(damaged)
    }

    fn finished(text: &str) -> Option<Self> {
        let lines: Option<Vec<&str>> = text.lines().map(unsealed).collect();
        let lines = lines?;
        let (last, lines) = lines.split_last()?;
        let is_whole = *last == format!("end {}", lines.len()) && lines.first()?.starts_with(FORM);
        let mut manifest = Self::default();
        lines
            .iter()
            .skip(1)
            .all(|line| manifest.take(line))
            .then_some(manifest)
            .filter(|_| is_whole)
    }

    /// What an interrupted backup had copied. Lines that are not whole are passed over.
    pub(crate) fn partial(dir: &Path) -> Result<Self> {
        let mut manifest = Self::default();
        let path = dir.join(PARTIAL);
        if path.exists() {
            for line in read_text(&path)?.lines().filter_map(unsealed) {
                manifest.take(line);
            }
        }
        Ok(manifest)
    }

    /// Takes one line in; false for one that says nothing.
    fn take(&mut self, line: &str) -> bool {
        let mut words = line.splitn(2, ' ');
        let (Some(word), Some(rest)) = (words.next(), words.next()) else { return false };
        match word {
            "file" => match file_of(rest) {
                Some((name, entry)) => {
                    self.files.insert(name, entry);
                    true
                }
                None => false,
            },
            "folder" if is_name(rest) => {
                self.folders.push(rest.to_owned());
                true
            }
            "stand" => match rest.split_once(' ').map(|(s, e)| (s.parse(), e.parse())) {
                Some((Ok(seq), Ok(epoch))) => {
                    (self.seq, self.epoch) = (seq, epoch);
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Makes the backup in `dir` a finished one.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        let mut lines =
            vec![format!("{FORM} by {version}"), format!("stand {} {}", self.seq, self.epoch)];
        lines.extend(self.folders.iter().map(|name| format!("folder {name}")));
        lines.extend(self.files.iter().map(|(name, entry)| line_of(name, entry)));
        lines.push(format!("end {}", lines.len()));
        let text: String = lines.iter().map(|line| sealed(line)).collect();
        let (path, unfinished) = (dir.join(MANIFEST), dir.join("backup.manifest.new"));
        let mut file = File::create(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(dir)?.sync_all()?;
        match fs::remove_file(dir.join(PARTIAL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Reads every file of the backup in `dir`; answers those that are not as they were copied.
    pub(crate) fn verify(&self, dir: &Path) -> Result<Vec<(String, String)>> {
        let mut problems = Vec::new();
        for (name, entry) in &self.files {
            let path = dir.join(name);
            match checksum(&path) {
                Ok((len, _)) if len != entry.len => problems.push((
                    name.clone(),
                    format!("{len} bytes, and the manifest says {}; use another backup", entry.len),
                )),
                Ok((_, crc)) if crc != entry.crc => problems.push((
                    name.clone(),
                    "not as it was copied: its checksum is another than the manifest's; use another backup".to_owned(),
                )),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    problems.push((name.clone(), "missing from the backup; use another one".to_owned()));
                }
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        Ok(problems)
    }
}

/// The manifest of a backup that is being made.
pub(crate) struct Growing {
    file: File,
}

impl Growing {
    /// Begins with what a backup in `dir`, finished or not, has already.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Manifest)> {
        let path = dir.join(PARTIAL);
        // From here on the folder is no finished backup until it is one again.
        match fs::rename(dir.join(MANIFEST), &path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => File::open(dir)?.sync_all()?,
        }
        let known = Manifest::partial(dir)?;
        let mut file = File::options().create(true).append(true).open(&path)?;
        // A line that was cut short ends here.
        file.write_all(b"\n")?;
        Ok((Self { file }, known))
    }

    /// Notes a file that is whole and synced.
    pub(crate) fn add(&mut self, name: &str, entry: &Entry) -> io::Result<()> {
        self.file.write_all(sealed(&line_of(name, entry)).as_bytes())
    }
}

/// Length and checksum of a file.
fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let (mut len, mut crc) = (0, 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((len, crc)),
            read => {
                crc = crc32c::crc32c_append(crc, &buffer[..read]);
                len += read as u64;
            }
        }
    }
}

fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let named = || path.display().to_string();
    File::open(path)
        .with_context(named)?
        .take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .with_context(named)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn line_of(name: &str, entry: &Entry) -> String {
    let Entry { len, written, is_settled, crc } = entry;
    let settled = u8::from(*is_settled);
    format!("file {crc:08x} {len} {} {} {settled} {name}", written.0, written.1)
}

fn file_of(text: &str) -> Option<(String, Entry)> {
    let mut words = text.splitn(6, ' ');
    let entry = Entry {
        crc: u32::from_str_radix(words.next()?, 16).ok()?,
        len: words.next()?.parse().ok()?,
        written: (words.next()?.parse().ok()?, words.next()?.parse().ok()?),
        is_settled: words.next()? == "1",
    };
    let name = words.next().filter(|name| is_name(name))?;
    Some((name.to_owned(), entry))
}

/// True for what stays inside a folder.
pub(crate) fn is_name(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some()
        && !name.contains('\n')
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn sealed(line: &str) -> String {
    format!("{:08x} {line}\n", crc32c::crc32c(line.as_bytes()))
}

fn unsealed(line: &str) -> Option<&str> {
    let (crc, line) = line.split_once(' ')?;
    (u32::from_str_radix(crc, 16).ok()? == crc32c::crc32c(line.as_bytes())).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = Entry { len: 7, written: (-1, 999), is_settled: true, crc: 0xfeed };
        let files = [("archives/a b.rrd".to_owned(), entry.clone()), ("rules/x".to_owned(), entry)];
        Manifest { seq: 9, epoch: 2, files: files.into(), folders: vec!["rules".to_owned()] }
    }

    #[test]
    fn a_manifest_reads_back_and_no_changed_or_missing_byte_goes_unnoticed() {
        let dir = tempfile::tempdir().unwrap();
        manifest().write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), Some(manifest()));
        let bytes = fs::read(dir.path().join(MANIFEST)).unwrap();
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            fs::write(dir.path().join(MANIFEST), &broken).unwrap();
            let read = Manifest::read(dir.path());
            assert!(read.is_err() || read.unwrap() == Some(manifest()), "byte {at}");
            fs::write(dir.path().join(MANIFEST), &bytes[..at]).unwrap();
            assert!(at + 1 >= bytes.len() || Manifest::read(dir.path()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_cut_line_of_an_unfinished_backup_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (mut growing, known) = Growing::open(dir.path()).unwrap();
        assert_eq!(known, Manifest::default());
        for (name, entry) in &manifest().files {
            growing.add(name, entry).unwrap();
        }
        let partial = dir.path().join(PARTIAL);
        let bytes = fs::read(&partial).unwrap();
        fs::write(&partial, &bytes[..bytes.len() - 5]).unwrap();
        let (mut growing, known) = Growing::open(dir.path()).unwrap();
        assert_eq!(known.files.len(), 1);
        growing.add("rules/x", &manifest().files["rules/x"]).unwrap();
        assert_eq!(Growing::open(dir.path()).unwrap().1.files, manifest().files);
        assert!(Manifest::read(dir.path()).unwrap_err().to_string().contains("not finished"));
    }

    #[test]
    fn a_name_never_leads_out_of_the_folder() {
        for (name, good) in
            [("a/b", true), ("../a", false), ("/a", false), ("", false), ("a/../../b", false)]
        {
            assert_eq!(is_name(name), good, "{name}");
        }
    }
}
