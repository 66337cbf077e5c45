//! The folder of descriptors: what agents are told, read at the start and when it changes.

use std::io;
use std::path::{Path, PathBuf};

use collector::intake::Descriptors;
use tracing::{error, info, warn};

use crate::rules_folder::{Texts, read};

/// Watches `descriptors/*.toml`, when there is such a folder.
pub(crate) struct DescriptorsFolder {
    dir: PathBuf,
    descriptors: Descriptors,
    /// What was last looked at, good or bad, so that a bad state is reported once.
    seen: Option<Texts>,
    /// What was seen once and not twice: a file may be half written.
    pending: Option<Texts>,
    is_unread: bool,
}

impl DescriptorsFolder {
    /// The folder `dir`, read at the first look.
    pub(crate) fn open(dir: &Path, descriptors: Descriptors) -> Self {
        let dir = dir.to_owned();
        Self { dir, descriptors, seen: None, pending: None, is_unread: false }
    }

    /// Looks once: a changed and good state, seen twice alike, is in force; a bad one is reported line
    /// by line and what was in force stays.
    pub(crate) fn look(&mut self) {
        let texts = match read(&self.dir) {
            Ok(texts) => texts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Texts::new(),
            Err(error) => {
                if !std::mem::replace(&mut self.is_unread, true) {
                    warn!(folder = %self.dir.display(), %error, "the descriptors cannot be read; those in force stay");
                }
                return;
            }
        };
        self.is_unread = false;
        if self.seen.as_ref().map_or(texts.is_empty(), |seen| *seen == texts) {
            return;
        }
        if self.seen.is_some() && self.pending.as_ref() != Some(&texts) {
            self.pending = Some(texts);
            return;
        }
        match self.descriptors.set(&texts) {
            Ok(()) => info!(files = texts.len(), "descriptors are in force"),
            Err(problems) => {
                for problem in problems {
                    error!(%problem, "the descriptors are refused; those in force stay");
                }
            }
        }
        self.seen = Some(texts);
    }
}
