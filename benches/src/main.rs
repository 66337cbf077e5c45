//! Measured comparisons with rival engines: `cargo xtask bench quick`, `rrd`, `ingest`, `query`, `layout`,
//! `bombs`.
//!
//! Each figure is measured in this run, on this machine, beside rrdtool where it can do the same.

mod apply;
mod bombs;
mod cached;
mod cold;
mod data;
mod goals;
mod graph;
mod ingest;
mod intake;
mod layout;
mod meter;
mod peer;
mod procfs;
mod query;
mod read;
mod store;
mod table;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::peer::Rrdtool;
use crate::table::Table;

/// What is measured here in process is measured with the program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match chosen() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let shown = writeln!(io::stderr(), "bench: {error:#}");
            if shown.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}

fn chosen() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["quick"] => quick(),
        ["rrd"] => store::run(&scratch_parent()?, store::INSTANCES),
        ["rrd", instances] => store::run(&scratch_parent()?, instances.parse()?),
        ["fleet"] => store::fleet(&scratch_parent()?),
        ["query"] => query::run(&scratch_parent()?),
        ["ingest"] => ingest::run(&scratch_parent()?, ingest::TARGETS, "all"),
        ["ingest", targets] => ingest::run(&scratch_parent()?, targets.parse()?, "all"),
        ["ingest", targets, part] => ingest::run(&scratch_parent()?, targets.parse()?, part),
        ["bombs"] => bombs::run(&scratch_parent()?, bombs::TIMES),
        ["bombs", times] => bombs::run(&scratch_parent()?, times.parse()?),
        ["layout"] => layout::run(&scratch_parent()?, layout::INSTANCES),
        ["layout", instances] => layout::run(&scratch_parent()?, instances.parse()?),
        // Processes that `rrd` starts, to be killed.
        ["load", folder, ..] => store::load(Path::new(folder), &arguments[2..]),
        ["go-on", folder, ..] => store::go_on(Path::new(folder), &arguments[2..]),
        ["reopen", folder] => store::reopen(Path::new(folder)),
        _ => {
            bail!(
                "no such benchmark; there are: quick, rrd [INSTANCES], fleet, ingest [TARGETS [PART]], \
                 query, layout [INSTANCES], bombs [TIMES]"
            )
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
