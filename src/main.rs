//! The program `roundel`: arguments and configuration become parts, which start and stop.

mod args;
mod aside;
mod clock;
mod config;
mod offline;
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
mod serve;
mod snapshot;
mod views;
mod worker;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::args::{Arguments, Command, Rrd};

fn main() -> ExitCode {
    if let Some(words) = rrd_command::words() {
        return rrd_command::run(&words);
    }
    let arguments = Arguments::parse();
    report::start_logging();
    let outcome = match arguments.command {
        None => serve(&arguments.serve),
        Some(Command::Serve(serve_arguments)) => serve(&serve_arguments),
        Some(Command::Agent(agent_arguments)) => report_host::run(agent_arguments),
        Some(Command::Rrd(Rrd::Import(import))) => rrd_import::import(&import),
        Some(Command::Rrd(Rrd::Export(export))) => rrd_export::export(&export),
        Some(Command::Rrd(Rrd::Tool(words))) => return rrd_command::run(&words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &args::Serve) -> Result<()> {
    serve::run(config::Config::check(arguments)?)
}
