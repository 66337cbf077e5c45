//! Files of rrdtool in folders: which there are, and where below the folder that was given.

use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

/// A file to be imported, and what of its path lies below the folder that was given.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) below: PathBuf,
}

/// All files of rrdtool below the paths, in order of name; folders that cannot be read are failures.
pub(crate) fn found(paths: &[PathBuf], failures: &mut Vec<(PathBuf, String)>) -> Vec<Found> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            walk(path, path, &mut files, failures);
        } else {
            let below = path.file_name().map(PathBuf::from).unwrap_or_default();
            files.push(Found { path: path.clone(), below });
        }
    }
    files
}

fn walk(root: &Path, dir: &Path, files: &mut Vec<Found>, failures: &mut Vec<(PathBuf, String)>) {
    let entries = match list(dir) {
        Ok(entries) => entries,
        Err(reason) => return failures.push((dir.to_owned(), reason.to_string())),
    };
    for (path, kind) in entries {
        let is_ours = path.extension().is_some_and(|end| end == "rrd" || end == "xml");
        // A link to a folder may lead back here; one to a file is as good as the file.
        if kind.is_dir() {
            walk(root, &path, files, failures);
        } else if is_ours && path.is_file() {
            let below = path.strip_prefix(root).unwrap_or(&path).to_owned();
            files.push(Found { path, below });
        }
    }
}

fn list(dir: &Path) -> io::Result<Vec<(PathBuf, FileType)>> {
    let entries = std::fs::read_dir(dir)?.map(|entry| {
        let entry = entry?;
        Ok((entry.path(), entry.file_type()?))
    });
    let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}
