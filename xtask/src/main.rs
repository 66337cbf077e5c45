//! The commands of this repository: `cargo xtask test`, `bench`, `demo`.

mod demo;
mod licences;
mod outcome;
mod peers;
mod spelling;
mod test;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

/// What a developer of Roundel runs.
#[derive(Parser)]
#[command(name = "cargo xtask", about)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring what the tests need, then run every check: format, lints, tests, docs, licences
    Test,
    /// Measure, beside a peer in the same run: `cargo xtask bench quick`
    Bench {
        /// Which measurement; `quick` takes about two minutes
        name: String,
    },
    /// A server, five agents, real load on one of them: watch an alert become mail and webhook
    Demo {
        /// Where the server listens; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: String,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Task::Test => test::all(),
        Task::Bench { name } => bench(&name),
        Task::Demo { listen } => demo::play(&listen),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            outcome::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// The Cargo that runs us.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end; its failure is ours.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

fn bench(name: &str) -> Result<()> {
    peers::bring()?;
    run(cargo().args(["run", "--release", "--quiet", "--package", "benches", "--", name]))
}
