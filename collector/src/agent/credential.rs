//! The credential: who this machine is to its collector, kept in `agent.json`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rrd::Step;
use serde::{Deserialize, Serialize};

use super::error::AgentError;
use super::secret::Secret;
use crate::native::{EnrollAnswer, hex_id};

const FILE_NAME: &str = "agent.json";
const DRAFT_NAME: &str = "agent.json.new";

/// What enrolment gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) instance: u128,
    pub(super) secret: Secret,
    /// The step the collector asks for.
    pub(super) step: Option<Step>,
    /// When it ends, by the collector's clock; never without a key.
    pub(super) expires_ms: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "hex_id")]
    id: u128,
    credential: String,
    step_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_ms: Option<i64>,
}

impl From<EnrollAnswer> for Credential {
    fn from(answer: EnrollAnswer) -> Self {
        Self {
            instance: answer.id,
            secret: Secret::from(answer.credential),
            step: Step::from_millis(answer.step_ms),
            expires_ms: answer.expires_ms,
        }
    }
}

impl Credential {
    /// The credential kept in `dir`; `None` when there is none yet.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, AgentError> {
        let path = dir.join(FILE_NAME);
        match path.try_exists() {
            Ok(true) => check_mode(&path)?,
            Ok(false) => return Ok(None),
            Err(problem) => return Err(AgentError::State { path, problem }),
        }
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(problem) => return Err(AgentError::State { path, problem }),
        };
        match serde_json::from_slice::<Stored>(&text) {
            Ok(stored) => Ok(Some(Self {
                instance: stored.id,
                secret: Secret::from(stored.credential),
                step: Step::from_millis(stored.step_ms),
                expires_ms: stored.expires_ms,
            })),
            Err(error) => Err(AgentError::StateDamaged { path, problem: error.to_string() }),
        }
    }

    /// Makes sure that a credential could be kept in `dir`, before one is asked for.
    pub(super) fn prepare(dir: &Path) -> Result<(), AgentError> {
        let draft = dir.join(DRAFT_NAME);
        let tried = create_dir(dir).and_then(|()| create_draft(&draft)).map(drop);
        tried
            .and_then(|()| fs::remove_file(&draft))
            .map_err(|problem| AgentError::State { path: dir.to_owned(), problem })
    }

    /// Keeps the credential in `dir`, readable by this user alone.
    pub(super) fn save(&self, dir: &Path) -> Result<(), AgentError> {
        let path = dir.join(FILE_NAME);
        self.write(dir).map_err(|problem| AgentError::State { path, problem })
    }

    fn write(&self, dir: &Path) -> io::Result<()> {
        let stored = Stored {
            id: self.instance,
            credential: self.secret.reveal().to_owned(),
            step_ms: self.step.map_or(0, Step::as_millis),
            expires_ms: self.expires_ms,
        };
        replace(dir, FILE_NAME, &serde_json::to_vec_pretty(&stored)?)
    }

    /// Forgets the credential kept in `dir`, which was another machine's.
    pub(super) fn remove(dir: &Path) -> Result<(), AgentError> {
        let path = dir.join(FILE_NAME);
        match fs::remove_file(&path) {
            Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
                Err(AgentError::State { path, problem })
            }
            _ => Ok(()),
        }
    }
}

/// Errors when others may read a file with a secret.
pub(super) fn check_mode(path: &Path) -> Result<(), AgentError> {
    let metadata = fs::metadata(path)
        .map_err(|problem| AgentError::State { path: path.to_owned(), problem })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(AgentError::StateTooOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Puts a file for this user alone in the place of the one of this name, whole or not at all.
pub(super) fn replace(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    create_dir(dir)?;
    let draft = dir.join(DRAFT_NAME);
    let mut file = create_draft(&draft)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&draft, dir.join(name))?;
    File::open(dir)?.sync_all()
}

fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// An empty file for this user alone; one that an earlier life left behind is replaced.
fn create_draft(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential() -> Credential {
        let step = Step::from_secs(10);
        Credential { instance: 0xabc, secret: Secret::new("s3cret"), step, expires_ms: Some(7) }
    }

    #[test]
    fn a_credential_comes_back_and_only_its_user_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("state");
        assert_eq!(Credential::load(&dir).unwrap(), None);
        credential().save(&dir).unwrap();
        credential().save(&dir).unwrap();
        assert_eq!(Credential::load(&dir).unwrap(), Some(credential()));
        let mode = fs::metadata(dir.join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        credential().save(dir.path()).unwrap();
        let path = dir.path().join(FILE_NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Credential::load(dir.path()).unwrap_err();
        assert!(matches!(error, AgentError::StateTooOpen { mode: 0o640, .. }));
        assert!(
            error
                .to_string()
                .ends_with("mode 640 lets others read the credential; run chmod 600 on it")
        );
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        credential().save(dir.path()).unwrap();
        fs::write(dir.path().join(FILE_NAME), "{\"id\": 7}").unwrap();
        let error = Credential::load(dir.path()).unwrap_err();
        assert!(matches!(error, AgentError::StateDamaged { .. }), "{error}");
    }
}
