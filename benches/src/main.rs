//! Measured comparisons with rival engines: `cargo xtask bench quick`.
//!
//! Each figure is measured in this run, on this machine, beside rrdtool where it can do the same.

mod apply;
mod data;
mod graph;
mod intake;
mod meter;
mod peer;
mod read;
mod table;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::peer::Rrdtool;
use crate::table::Table;

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        Some("quick") | None => quick(),
        Some(other) => Err(anyhow::anyhow!("no benchmark named {other}; there is: quick")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let shown = writeln!(io::stderr(), "bench: {error:#}");
            if shown.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}

/// All of the walking skeleton's figures, within a minute or two.
fn quick() -> Result<()> {
    let scratch = tempfile::tempdir_in(scratch_parent()?).context("a folder for the data")?;
    let mut peer = Rrdtool::start(scratch.path())?;
    let mut table = Table::default();
    let applied = apply::run(scratch.path(), peer.as_mut(), &mut table)?;
    read::run(&applied, peer.as_mut(), &mut table)?;
    graph::run(peer.as_mut(), &mut table)?;
    intake::run(scratch.path(), &mut table)?;
    table.print(&mut io::stdout().lock(), peer.is_some())?;
    Ok(())
}

/// Beside the build, on a real disk: a temporary folder may be memory, where a sync costs nothing.
fn scratch_parent() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    match program.parent() {
        Some(folder) => Ok(folder.to_owned()),
        None => bail!("{} is in no folder", program.display()),
    }
}
