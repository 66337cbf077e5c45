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
        "instance {instance}: there is no room for {needed} more bytes; free some or lower the policy"
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
    /// The instance is being removed.
    #[error("instance {0} is being removed; try again in a minute")]
    Leaving(InstanceId),
    /// More labels than a file has room for.
    #[error("instance {0}: its labels take more than 4,068 bytes; shorten them")]
    LabelsTooLong(InstanceId),
    /// The journal did not take the grant.
    #[error("{0}")]
    Append(E),
}

/// Why nothing was changed. `E` is what the journal says when it refuses.
#[derive(Debug, Error)]
pub enum ChangeError<E> {
    /// There is no such instance, or it is being removed.
    #[error("there is no instance {0}; ask for the list of instances")]
    NoInstance(InstanceId),
    /// Another change of the instance waits for its round.
    #[error("instance {0} is being changed already; try again in a minute")]
    UnderWay(InstanceId),
    /// Neither of the finest steps is a multiple of the other, or there are days of a zone.
    #[error(
        "instance {instance}: its finest step is {finest}; begin the policy with it. It may become a multiple or \
         a part of it where neither policy has days of a zone"
    )]
    OtherStep {
        /// Whose archives were to be changed.
        instance: InstanceId,
        /// The step it has.
        finest: crate::Step,
    },
    /// The column has another series by now, or none.
    #[error("instance {instance}: column {} has no such series; look it up again", column.index)]
    NoSeries {
        /// Whose series was to be dropped.
        instance: InstanceId,
        /// The column that was named.
        column: Column,
    },
    /// The disk has no room for the new file beside the old one.
    #[error(
        "instance {instance}: the disk has no room for {needed} bytes beside its archive; free some or keep less"
    )]
    DiskFull {
        /// Whose archives were to be changed.
        instance: InstanceId,
        /// Bytes that were to be allocated.
        needed: u64,
    },
    /// The disk failed otherwise.
    #[error("instance {instance}: its new archive cannot be made: {reason}; check the disk")]
    Disk {
        /// Whose archives were to be changed.
        instance: InstanceId,
        /// What the disk said.
        reason: io::Error,
    },
    /// The rows of a member cannot be added to those of its role.
    #[error("role {role} takes nothing of an instance that goes: {why}")]
    Role {
        /// The instance that is the role.
        role: InstanceId,
        /// What is in the way, and what to do.
        why: String,
    },
    /// The journal did not take the change.
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
