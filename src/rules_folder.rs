//! The folder of rules: read at the start and when it changes; each good state enters as a frame.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alerter::{Engine, FRAME_RULES, SERVER_RULES, STARTER_RULES};
use journal::{Journal, Refused};
use tracing::{error, warn};

use crate::config::read_bounded;

/// How often the folder is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// More files than this are not a folder of rules.
const FILES: usize = 1000;

/// The names and texts of the rule files, sorted by name.
pub(crate) type Texts = Vec<(String, String)>;

/// Watches `rules/*.toml`.
pub(crate) struct RulesFolder {
    dir: PathBuf,
    engine: Arc<Mutex<Engine>>,
    journal: Journal,
    /// What was last looked at, good or bad, so that a bad state is reported once.
    seen: Option<Texts>,
    /// What was seen once and not twice: a file may be half written.
    pending: Option<Texts>,
    /// Why the folder could not be read when it was last looked at; reported once, too.
    unread: Option<String>,
}

impl RulesFolder {
    /// The folder `dir`, made with the starter rules when it does not exist.
    pub(crate) fn open(
        dir: &Path,
        engine: Arc<Mutex<Engine>>,
        journal: Journal,
    ) -> io::Result<Self> {
        if !dir.exists() {
            fs::create_dir_all(dir)?;
            fs::write(dir.join("host.toml"), STARTER_RULES)?;
            fs::write(dir.join("server.toml"), SERVER_RULES)?;
        }
        Ok(Self { dir: dir.to_owned(), engine, journal, seen: None, pending: None, unread: None })
    }

    /// Looks once: a changed and good state, seen twice alike, goes into the journal; a bad one is reported line by line
    /// and the rules in force stay.
    pub(crate) fn look(&mut self) {
        let texts = match read(&self.dir) {
            Ok(texts) => texts,
            Err(reason) => {
                let reason = reason.to_string();
                if self.unread.as_ref() != Some(&reason) {
                    warn!(folder = %self.dir.display(), reason, "the rules cannot be read; those in force stay");
                    self.unread = Some(reason);
                }
                return;
            }
        };
        self.unread = None;
        if self.seen.as_ref() == Some(&texts) {
            return;
        }
        if self.seen.is_some() && self.pending.as_ref() != Some(&texts) {
            self.pending = Some(texts);
            return;
        }
        if crate::worker::lock(&self.engine).has_rules(&texts) || self.submit(&texts) {
            self.seen = Some(texts);
        }
    }

    /// True when this state is dealt with.
    fn submit(&self, texts: &[(String, String)]) -> bool {
        match Engine::rules_frame(texts) {
            Ok(frame) => match self.journal.append_reserved(FRAME_RULES, &frame) {
                Ok(_) => true,
                Err(refused @ Refused::TooLarge { .. }) => {
                    error!(%refused, "the rules do not fit the journal; shorten them or raise journal_size");
                    true
                }
                Err(refused) => {
                    warn!(%refused, "changed rules wait for the journal");
                    false
                }
            },
            Err(problems) => {
                for problem in problems {
                    error!(%problem, "the rules are refused; those in force stay");
                }
                true
            }
        }
    }
}

pub(crate) fn read(dir: &Path) -> io::Result<Texts> {
    let mut texts = Texts::new();
    for entry in fs::read_dir(dir)?.take(FILES) {
        let path = entry?.path();
        // A pipe or a folder of that name would be waited for, or never be read.
        if path.extension().is_none_or(|extension| extension != "toml") || !path.is_file() {
            continue;
        }
        let text = read_bounded(&path)
            .map_err(|error| io::Error::other(format!("{}: {error:#}", path.display())))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        texts.push((name, text));
    }
    texts.sort();
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_named_and_what_is_no_file_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a.toml")).unwrap();
        fs::write(dir.path().join("b.toml"), "x").unwrap();
        assert_eq!(read(dir.path()).unwrap(), [("b.toml".to_owned(), "x".to_owned())]);
        for (bytes, expected) in
            [(vec![0xff], "c.toml: it holds bytes"), (vec![b'#'; 2 << 20], "c.toml: over 1048576")]
        {
            fs::write(dir.path().join("c.toml"), bytes).unwrap();
            let error = read(dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
