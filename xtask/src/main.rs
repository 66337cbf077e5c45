//! The commands of this repository: `cargo xtask test`, `bench`, `demo`, `mutants`.

mod counts;
mod demo;
mod licences;
mod mutants;
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
    /// Measure, beside peers in the same run
    Bench {
        /// `quick` (two minutes), `rrd` (a million series), `ingest` and `query` (over HTTP, beside two
        /// peers), `bombs` (bodies to be refused), `layout` (tiles), `counts` (instructions)
        name: String,
        /// For `counts`: keep what is measured as the new baseline
        #[arg(long)]
        record: bool,
        /// For `rrd`, `ingest` and `layout`: how many instances, instead of 10,000, 10,000 and 2,000
        #[arg(long)]
        instances: Option<u32>,
    },
    /// Make the code wrong on purpose, one mistake after the other: each must fail some test
    Mutants {
        /// Only those whose name holds this
        only: Option<String>,
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
        Task::Bench { name, record, .. } if name == "counts" => {
            peers::bring().and_then(|()| counts::check(record))
        }
        Task::Bench { name, instances, .. } => bench(&name, instances),
        Task::Mutants { only } => mutants::hunt(only.as_deref()),
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

fn bench(name: &str, instances: Option<u32>) -> Result<()> {
    peers::bring()?;
    if name == "query" || name == "ingest" {
        run(cargo().args(["build", "--release", "--quiet", "--package", "roundel"]))?;
    }
    let mut command = cargo();
    command.args(["run", "--release", "--quiet", "--package", "benches", "--", name]);
    run(command.args(instances.map(|count| count.to_string())))
}
