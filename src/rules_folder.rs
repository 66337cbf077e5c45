//! The folder of rules: read at the start and when it changes; each good state enters as a frame.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alerter::{Engine, FRAME_RULES, STARTER_RULES};
use journal::{Journal, Refused};
use tracing::{error, warn};

/// How often the folder is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);
/// More files than this are not a folder of rules.
const FILES: usize = 1000;
/// A longer file is refused unread.
const FILE_BYTES: u64 = 1 << 20;

/// The names and texts of the rule files, sorted by name.
type Texts = Vec<(String, String)>;

/// Watches `rules/*.toml`.
pub(crate) struct RulesFolder {
    dir: PathBuf,
    engine: Arc<Mutex<Engine>>,
    journal: Journal,
    /// What was last looked at, good or bad, so that a bad state is reported once.
    seen: Option<Texts>,
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
        }
        Ok(Self { dir: dir.to_owned(), engine, journal, seen: None })
    }

    /// Looks once: a changed and good state goes into the journal; a bad one is reported line by line
    /// and the rules in force stay.
    pub(crate) fn look(&mut self) {
        let texts = match read(&self.dir) {
            Ok(texts) => texts,
            Err(reason) => {
                warn!(folder = %self.dir.display(), %reason, "the rules cannot be read; those in force stay");
                return;
            }
        };
        if self.seen.as_ref() == Some(&texts) {
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

fn read(dir: &Path) -> io::Result<Texts> {
    let mut texts = Texts::new();
    for entry in fs::read_dir(dir)?.take(FILES) {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if fs::metadata(&path)?.len() > FILE_BYTES {
            return Err(io::Error::other(format!("{}: over {FILE_BYTES} bytes", path.display())));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        texts.push((name, fs::read_to_string(&path)?));
    }
    texts.sort();
    Ok(texts)
}
