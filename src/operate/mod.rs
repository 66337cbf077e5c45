//! The operator's commands: how much disk, is it whole, a copy, and back.

pub(crate) mod approvals;
mod asking;
pub(crate) mod backup;
mod finding;
pub(crate) mod fsck;
pub(crate) mod hold;
pub(crate) mod instances;
mod manifest;
mod overlay;
pub(crate) mod policies;
pub(crate) mod restore;
pub(crate) mod size;
pub(crate) mod tokens;
pub(crate) mod words;

use std::process::ExitCode;

use anyhow::Result;

pub(crate) use manifest::refuse_unfinished;

use crate::report;

/// The exit code of a command; one that could not be done at all has ended with 2.
pub(crate) fn ended(outcome: Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        report::complain(&error);
        ExitCode::from(2)
    })
}
