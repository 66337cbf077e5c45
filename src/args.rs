//! The command line: what an operator can say to `roundel`.

mod agent;
mod asking;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use agent::Agent;
pub(crate) use asking::{
    Approve, Asked, Instances, InstancesCommand, PolicyArguments, PolicyCommand, PolicyWish,
    Reject, SpanArguments, TokenArguments, TokenCommand, TokenWish,
};

use crate::rrd_export::Export;
use crate::rrd_import::Import;

/// Metrology and supervision for fleets whose members come and go.
///
/// Without a command, `roundel` does what `roundel serve` does.
#[derive(Debug, Parser)]
#[command(name = "roundel", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server: collector, archives, alerter and pages, and an agent for this host
    Serve(Serve),
    /// Report this host to a collector
    Agent(Agent),
    /// Say how much disk so many series take, to the byte and for ever
    Size(Size),
    /// Verify a data folder, a backup or single archives, and mend what is provably right
    Fsck(Fsck),
    /// Copy a data folder, also while its server runs; goes on where it was interrupted
    Backup(Backup),
    /// Make a data folder from a backup
    Restore(Restore),
    /// List the instances of a running server, say what became of them, change or give back archives
    Instances(Instances),
    /// Make, list and revoke the tokens by which machines and senders come in
    Token(TokenArguments),
    /// List, add, try and remove policies: who is let in without a person
    Policy(PolicyArguments),
    /// Say who waits for approval; with an ID, let it in
    Approve(Approve),
    /// Refuse a machine that waits for approval
    Reject(Reject),
    /// Make, update and read round-robin files with rrdtool's commands; bring them in, or series out
    #[command(subcommand)]
    Rrd(Rrd),
}

/// What is done with files of one kind or the other.
#[derive(Debug, Subcommand)]
pub(crate) enum Rrd {
    /// Take over files of rrdtool, whole folders of them
    Import(Import),
    /// Write series as XML for rrdtool, CSV or JSON
    Export(Export),
    /// A command of rrdtool's and its arguments
    #[command(external_subcommand)]
    Tool(Vec<OsString>),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Size {
    /// Series of one instance
    #[arg(long, value_name = "N")]
    pub(crate) series: usize,
    /// Instances
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) instances: u64,
    /// Rows that they keep, finest first; one with our agent has 10s:2h in front
    #[arg(long, value_name = "STEP:KEEP,...", default_value = rrd::Policy::DEFAULT)]
    pub(crate) policy: String,
    /// How numbers are kept: f32, or f64 as for large whole gauges and all of a sender that tells no kinds
    #[arg(long, value_name = "f32|f64", default_value = "f32", value_parser = cell)]
    pub(crate) cell: rrd::Cell,
    /// Size of the journal [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = journal_size)]
    pub(crate) journal: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Fsck {
    /// Folder to verify: that of a stopped server, or a backup [default: ./roundel-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Mend what is provably right; rows that cannot be read become unknown
    #[arg(long, conflicts_with = "file")]
    pub(crate) repair: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Single archives to verify, without a journal
    #[arg(value_name = "FILE", conflicts_with = "data")]
    pub(crate) file: Vec<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Backup {
    /// Folder to copy
    #[arg(long, value_name = "DIR", default_value = "./roundel-data")]
    pub(crate) data: PathBuf,
    /// Folder that becomes the copy; what is in it already and has not changed is kept
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Restore {
    /// Folder with a finished backup
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// Folder to make; must be empty or missing
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

fn cell(text: &str) -> Result<rrd::Cell, String> {
    match text {
        "f32" => Ok(rrd::Cell::F32),
        "f64" => Ok(rrd::Cell::F64),
        _ => Err("write f32 or f64".to_owned()),
    }
}

fn journal_size(text: &str) -> Result<u64, String> {
    crate::config::bytes(text)
        .filter(|size| crate::config::JOURNAL_RANGE.contains(size))
        .ok_or_else(|| "write a size from 16MiB to 64GiB".to_owned())
}

fn disk_limit(text: &str) -> Result<u64, String> {
    crate::config::bytes(text).ok_or_else(|| "write a size as 20GiB".to_owned())
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Serve {
    /// Folder that holds everything: archives, journal, rules, mail files
    #[arg(long, value_name = "DIR", default_value = "./roundel-data")]
    pub(crate) data: PathBuf,
    /// Address to listen on [default: 127.0.0.1:4270]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Configuration file (TOML): mail, webhooks, listen address, policy
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Rows that new instances keep, finest first; days may be those of a time zone, as in
    /// 1d@Europe/Paris:5y [default: 1m:2d,5m:14d,1h:90d,1d:5y]
    #[arg(long, value_name = "STEP:KEEP,...")]
    pub(crate) policy: Option<String>,
    /// What all archives may take: beyond it withdrawn instances go, the longest silent first
    /// [default: 80 % of what is free at the first start]
    #[arg(long, value_name = "SIZE", value_parser = disk_limit)]
    pub(crate) disk_limit: Option<u64>,
    /// Do not report this host
    #[arg(long)]
    pub(crate) no_local_agent: bool,
    /// Listen without TLS on an address that other machines reach
    #[arg(long)]
    pub(crate) insecure: bool,
    /// A bearer token with every scope, for automation
    #[arg(long, env = "ROUNDEL_ADMIN_TOKEN", hide = true, hide_env_values = true)]
    pub(crate) admin_token: Option<String>,
}

impl Serve {
    /// What a server of this folder is told when nobody says more.
    pub(crate) fn of(data: &std::path::Path) -> Self {
        Self {
            data: data.to_owned(),
            listen: None,
            config: None,
            policy: None,
            disk_limit: None,
            no_local_agent: true,
            insecure: false,
            admin_token: None,
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not a label; write it as role=web")),
    }
}
