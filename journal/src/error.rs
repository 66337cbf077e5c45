//! What can go wrong with the journal, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why the journal could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The configuration cannot work.
    #[error("journal: {0}")]
    Config(String),
    /// A file of the journal is gone while others hold frames.
    #[error(
        "{}: missing, though the journal has been in use; restore the data folder from a backup",
        .0.display()
    )]
    Missing(PathBuf),
    /// A file is not what the others say it is.
    #[error("{}: {problem}; restore the journal folder as a whole", .path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// Both copies of the checkpoint record are broken, so nobody knows where to replay from.
    #[error(
        "{}: both copies of the checkpoint record are broken; restore the data folder from a backup",
        .0.display()
    )]
    Record(PathBuf),
    /// The system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl JournalError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// Why an append was refused. Nothing of it is in the journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The space up to the reserve is used; a checkpoint makes room.
    #[error("the journal is full until the next checkpoint; send again later")]
    Full,
    /// The disk or the worker is behind by more than may wait in memory.
    #[error("the journal is busy; send again later")]
    Busy,
    /// A write or a sync has failed, or the journal is closed: nothing is accepted any more.
    #[error("the journal has stopped: {0}; restart to replay what is committed")]
    Failed(String),
    /// The body is longer than a frame may be.
    #[error("a frame of {len} bytes is over the limit of {limit}; send smaller batches")]
    TooLarge {
        /// The body's bytes.
        len: usize,
        /// The most a body may have.
        limit: usize,
    },
}

/// The journal has stopped: what was asked for will not become durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal has stopped: {reason}; restart to replay what is committed")]
pub struct Failed {
    /// What the system said, or that the journal is closed.
    pub reason: Arc<str>,
}

/// A stretch of acknowledged frames that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file with the unreadable bytes.
    pub path: PathBuf,
    /// Where in the file the trouble starts, in bytes.
    pub offset: u64,
    /// The last frame before the trouble.
    pub after: u64,
    /// The first frame after it; `None` when it is not known how many are lost.
    pub resumes: Option<u64>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, after, resumes } = self;
        write!(f, "{}: unreadable from byte {offset}: frames after {after}", path.display())?;
        match resumes {
            Some(resumes) => write!(f, " and before {resumes} are lost"),
            None => write!(f, " may be lost"),
        }
    }
}
