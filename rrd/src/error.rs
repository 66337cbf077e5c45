//! What can go wrong with the store, in words that end in a remedy.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::{Column, InstanceId};

/// Why the store could not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder of archives cannot be used.
    #[error("{path}: {reason}; check that the folder exists and belongs to this program", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        reason: io::Error,
    },
    /// The instance has no file here, or one that cannot be used.
    #[error("instance {0} has no usable archive; restore its file and restart")]
    NoArchive(InstanceId),
    /// A granted column lies outside the blocks of its file.
    #[error("instance {instance}: column {} is beyond its archive; restore its file and restart", column.index)]
    NoBlock {
        /// Whose column it is.
        instance: InstanceId,
        /// The column.
        column: Column,
    },
    /// More labels than a file has room for.
    #[error("instance {0}: its labels take more than 4,068 bytes; shorten them")]
    LabelsTooLong(InstanceId),
}

/// Why no series of a request was granted. `E` is what the journal says when it refuses.
#[derive(Debug, Error)]
pub enum GrantError<E> {
    /// The disk has no room for another block; nothing was changed.
    #[error(
        "instance {instance}: the disk has no room for {needed} more bytes; free some or lower the policy"
    )]
    DiskFull {
        /// Whose series were to be granted.
        instance: InstanceId,
        /// Bytes that were to be allocated.
        needed: u64,
    },
    /// The disk failed otherwise.
    #[error("instance {instance}: its archive cannot grow: {reason}")]
    Disk {
        /// Whose series were to be granted.
        instance: InstanceId,
        /// What the disk said.
        reason: io::Error,
    },
    /// The instance's file is damaged, and was left as it is.
    #[error("instance {0} has no usable archive; restore its file and restart")]
    Unavailable(InstanceId),
    /// More labels than a file has room for.
    #[error("instance {0}: its labels take more than 4,068 bytes; shorten them")]
    LabelsTooLong(InstanceId),
    /// The journal did not take the grant.
    #[error("{0}")]
    Append(E),
}

/// Why one series was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The instance has as many series as it may have.
    #[error("the instance has {} series, the most there may be; send fewer", crate::MAX_COLUMNS)]
    TooManySeries,
    /// The labels of the series are longer than the file has room for.
    #[error("the labels of the series take more than 3,072 bytes; shorten them")]
    KeyTooLong,
}

/// Something on disk that is not as it was written. The process goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path}: {what}", path = path.display())]
pub struct Damage {
    /// Whose file it is, where that can be told.
    pub instance: Option<InstanceId>,
    /// The file, left in its place.
    pub path: PathBuf,
    /// What is wrong and what to do.
    pub what: String,
}
