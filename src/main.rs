//! The program `roundel`: arguments and configuration become parts, which start and stop.

mod args;
mod aside;
mod clock;
mod config;
mod descriptors_folder;
mod disk_limit;
mod lines;
mod offline;
mod operate;
mod own_series;
mod progress;
mod recovery;
mod report;
mod report_host;
mod rounds;
mod rrd_command;
mod rrd_export;
mod rrd_files;
mod rrd_import;
mod rules_folder;
mod scrub;
mod serve;
mod snapshot;
mod views;
mod worker;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::args::{Arguments, Command, Rrd};

/// Gives what nobody uses back to the system. Rows that wait for a round come and go with it, and the
/// system's own allocator keeps what they took: more than all the rest.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(words) = rrd_command::words() {
        return rrd_command::run(&words);
    }
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Some(Command::Instances(instances)) => operate::instances::run(&instances),
        Some(Command::Token(token)) => operate::tokens::run(&token),
        Some(Command::Policy(policy)) => operate::policies::run(&policy),
        Some(Command::Approve(approve)) => operate::approvals::approve(&approve),
        Some(Command::Reject(reject)) => operate::approvals::reject(&reject),
        Some(Command::Size(size)) => return operate::ended(operate::size::run(&size)),
        Some(Command::Fsck(fsck)) => return operate::ended(operate::fsck::run(&fsck)),
        Some(Command::Backup(backup)) => return operate::ended(operate::backup::run(&backup)),
        Some(Command::Restore(restore)) => return operate::ended(operate::restore::run(&restore)),
        Some(Command::Rrd(Rrd::Tool(words))) => return rrd_command::run(&words),
        other => run(other, &arguments.serve),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// The commands that have a log.
fn run(command: Option<Command>, arguments: &args::Serve) -> Result<()> {
    report::start_logging();
    match command {
        Some(Command::Serve(arguments)) => serve(&arguments),
        Some(Command::Agent(arguments)) => report_host::run(arguments),
        Some(Command::Rrd(Rrd::Import(import))) => rrd_import::import(&import),
        Some(Command::Rrd(Rrd::Export(export))) => rrd_export::export(&export),
        _ => serve(arguments),
    }
}

fn serve(arguments: &args::Serve) -> Result<()> {
    serve::run(config::Config::check(arguments)?)
}
