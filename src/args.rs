//! The command line: what an operator can say to `roundel`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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

/// Which server is asked, and how its answer is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Asked {
    /// Address of the server
    #[arg(
        long,
        value_name = "http://HOST:PORT",
        default_value = "http://127.0.0.1:4270",
        global = true
    )]
    pub(crate) server: String,
    /// Authorities of the server's certificate (PEM), instead of the public ones
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ca: Option<PathBuf>,
    /// SHA-256 of the server's authority or certificate, where there is no file of it
    #[arg(long, value_name = "sha256:HEX", conflicts_with = "ca", global = true)]
    pub(crate) ca_hash: Option<collector::agent::Pin>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The server's bearer token with every scope
    #[arg(long, env = "ROUNDEL_ADMIN_TOKEN", hide = true, hide_env_values = true, global = true)]
    pub(crate) admin_token: Option<String>,
}

const ADMIN_HELP: &str = "The server's admin token is read from ROUNDEL_ADMIN_TOKEN, for both.";

#[derive(Debug, Clone, Args)]
#[command(after_help = ADMIN_HELP)]
pub(crate) struct Instances {
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(subcommand)]
    pub(crate) command: InstancesCommand,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = ADMIN_HELP)]
pub(crate) struct TokenArguments {
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; its secret is shown this once
    Create(TokenWish),
    /// A line for each: id, kind, name, age, end, and what is left of it
    List,
    /// Take a token back; whoever came by it stays
    Revoke {
        /// Its id
        token: String,
    },
}

/// What a token shall be.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenWish {
    /// join enrols machines, relay sends for many, events tells what a cloud says, read lists instances
    #[arg(long, default_value = "join", value_parser = ["join", "relay", "events", "read"])]
    pub(crate) kind: String,
    /// What its holder is called
    #[arg(long, default_value = "")]
    pub(crate) name: String,
    /// A label forced on every instance under it; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// A label that machines may declare of themselves [default: any]; may be repeated
    #[arg(long = "allow-label", value_name = "NAME")]
    pub(crate) allow_labels: Vec<String>,
    /// How long it is good for [default: 1h to join, else until revoked]
    #[arg(long = "ttl", value_name = "DURATION", value_parser = span)]
    pub(crate) ttl_ms: Option<u64>,
    /// How many machines it is good for [default: any number]
    #[arg(long, value_name = "N")]
    pub(crate) uses: Option<u32>,
    /// Network to join from [default: any]; may be repeated
    #[arg(long, value_name = "NETWORK")]
    pub(crate) cidr: Vec<String>,
    /// Have a person decide: on each machine that joins, or once on the token of a sender
    #[arg(long)]
    pub(crate) wait: bool,
    /// Series that each of its instances may have [default: 2000]
    #[arg(long, value_name = "N")]
    pub(crate) series: Option<u32>,
    #[command(flatten)]
    pub(crate) spans: SpanArguments,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = ADMIN_HELP)]
pub(crate) struct PolicyArguments {
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(subcommand)]
    pub(crate) command: PolicyCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Each with what has to hold for it, and what it gives
    List,
    /// Let in from now on whom all of this holds of; one of the same name is replaced
    Add(PolicyWish),
    /// Say who of the last days would have been let in, and change nothing
    Try {
        #[command(flatten)]
        wish: PolicyWish,
        /// How many days to look back, 7 at most
        #[arg(long, value_name = "N", default_value_t = 7)]
        days: u32,
    },
    /// Take a policy back; whoever came by it stays
    Remove {
        /// Its name
        name: String,
    },
}

/// What a policy shall be. Everything that is named has to hold.
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyWish {
    /// Its name
    pub(crate) name: String,
    /// Network to ask from [default: any]; may be repeated
    #[arg(long, value_name = "NETWORK")]
    pub(crate) cidr: Vec<String>,
    /// The name asked for; * stands for anything
    #[arg(long, value_name = "PATTERN")]
    pub(crate) name_like: Option<String>,
    /// A label that the machine declares; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Id of the token that it shows, one that waits for a person
    #[arg(long, value_name = "ID")]
    pub(crate) token: Option<String>,
    /// The cloud's document has to hold, and to say those labels that are the cloud's; its account
    /// has to be among them
    #[arg(long, value_name = "WHAT", value_parser = ["verified"])]
    pub(crate) require: Option<String>,
    /// Whose it is by that document: aws:ACCOUNT, gcp:PROJECT or azure:SUBSCRIPTION; may be repeated,
    /// one of them has to fit
    #[arg(long = "account", value_name = "CLOUD:NAME")]
    pub(crate) accounts: Vec<String>,
    /// By that document, how long ago the machine was started at most
    #[arg(long = "started-within", value_name = "DURATION", value_parser = span)]
    pub(crate) started_within_ms: Option<u64>,
    /// A label forced on whom it lets in; may be repeated
    #[arg(long = "force-label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) forced: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) spans: SpanArguments,
}

/// How the silence of instances is judged.
#[derive(Debug, Clone, Args)]
pub(crate) struct SpanArguments {
    /// They come and go: let them go an hour after they were lost
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Silence before it is noted [default: three looks]
    #[arg(long = "silent", value_name = "DURATION", value_parser = span)]
    pub(crate) silent_ms: Option<u64>,
    /// From then on, before it is a loss [default: 5m]
    #[arg(long = "lost", value_name = "DURATION", value_parser = span)]
    pub(crate) lost_ms: Option<u64>,
    /// From then on, before an ephemeral one is let go [default: 1h]
    #[arg(long = "withdraw", value_name = "DURATION", value_parser = span)]
    pub(crate) withdraw_ms: Option<u64>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = ADMIN_HELP)]
pub(crate) struct Approve {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// Id of the request, or of a token that waits; without one, who waits
    pub(crate) id: Option<String>,
    /// The fingerprint that its machine shows; refused if it is another
    #[arg(long)]
    pub(crate) fingerprint: Option<String>,
    /// A label forced on it; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Series it may have [default: what its token says, or 2000]
    #[arg(long, value_name = "N")]
    pub(crate) series: Option<u32>,
    #[command(flatten)]
    pub(crate) spans: SpanArguments,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = ADMIN_HELP)]
pub(crate) struct Reject {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// Id of the request
    pub(crate) id: String,
    /// Why; its machine is told
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
}

fn span(text: &str) -> Result<u64, String> {
    rrd::time::parse_duration_ms(text)
        .filter(|span_ms| *span_ms >= 1_000)
        .ok_or_else(|| format!("{text:?} is not a time from 1s on; write it as 30s, 5m or 2h"))
}

/// What is asked of the server; the admin token comes from `ROUNDEL_ADMIN_TOKEN`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum InstancesCommand {
    /// A line for each: id, state, name, series, bytes, rows it keeps, and why it does not report
    List {
        /// Those in this state
        #[arg(long)]
        state: Option<String>,
        /// Those with this label; may be repeated
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// One of them, and how it came to be where it is
    Show {
        /// Its id or name
        instance: String,
    },
    /// What became of instances, oldest first
    Events {
        /// Those after this number
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
    },
    /// Say that an instance is gone: its alerts close, its rows stay readable
    Withdraw {
        /// Its id or name
        instance: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Believe an instance no more for now: what it sends is kept, and nothing is judged by it
    Quarantine {
        /// Its id or name
        instance: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Believe an instance in quarantine again
    Release {
        /// Its id or name
        instance: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Put an instance out for good: its key is refused from now on
    Revoke {
        /// Its id or name
        instance: String,
        /// Why
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Keep other rows from now on; what is kept already is taken over
    Policy {
        /// Its id or name
        instance: String,
        /// Rows to keep, finest first
        #[arg(value_name = "STEP:KEEP,...")]
        policy: String,
        /// Say what it needs and loses, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Drop series with their rows, for others to take their places
    Drop {
        /// Its id or name
        instance: String,
        /// Those with this label, as in __name__=up; also != =~ !~; may be repeated
        #[arg(long = "match", value_name = "NAME=VALUE", required = true)]
        matchers: Vec<String>,
        /// List them, and drop none
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove the archive of an instance that was withdrawn
    Reclaim {
        /// Its id or name
        instance: String,
        /// Say what comes back, and remove nothing
        #[arg(long)]
        dry_run: bool,
    },
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

#[derive(Debug, Clone, Args)]
pub(crate) struct Agent {
    /// Address of the collector
    #[arg(long, value_name = "http://HOST:PORT", required_unless_present_any = ["once", "config"])]
    pub(crate) collector: Option<String>,
    /// Configuration file (TOML): step, labels, sources, and all that can be said here, which wins
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Join token; needed until this host is enrolled
    #[arg(long, value_name = "T", env = "ROUNDEL_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Folder that keeps this host's identity [default: ./roundel-agent]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Name to ask for [default: the host's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A label of this host; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Authorities of the collector's certificate (PEM), instead of the public ones
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// SHA-256 of the collector's authority or certificate, where there is no file of it
    #[arg(long, value_name = "sha256:HEX", conflicts_with = "ca")]
    pub(crate) ca_hash: Option<collector::agent::Pin>,
    /// Certificate to show to a collector that asks for one (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Time between readings [default: what the collector says, usually 10s]
    #[arg(long, value_name = "DURATION", value_parser = step)]
    pub(crate) step: Option<rrd::Step>,
    /// Where the kernel's files are, for an agent in a container [default: /proc]
    #[arg(long, value_name = "DIR")]
    pub(crate) proc: Option<PathBuf>,
    /// What to tell the collector when it is stopped: terminate, reboot, upgrade or stop
    #[arg(long, value_name = "REASON", default_value = "stop", value_parser = farewell)]
    pub(crate) goodbye: Option<collector::lifecycle::Farewell>,
    /// Read once, print what would be sent, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// What --once does
    #[arg(long, hide = true, requires = "once")]
    pub(crate) print: bool,
}

fn farewell(text: &str) -> Result<collector::lifecycle::Farewell, String> {
    use collector::lifecycle::Farewell;
    Ok(match text {
        "terminate" => Farewell::Terminate,
        "reboot" => Farewell::Reboot,
        "upgrade" => Farewell::Upgrade,
        "stop" => Farewell::Stop,
        _ => return Err("write terminate, reboot, upgrade or stop".to_owned()),
    })
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not a label; write it as role=web")),
    }
}

fn step(text: &str) -> Result<rrd::Step, String> {
    rrd::time::parse_duration_ms(text)
        .and_then(rrd::Step::from_millis)
        .filter(|step| (1_000..=3_600_000).contains(&step.as_millis()))
        .ok_or_else(|| format!("{text:?} is not a time from 1s to 1h; write it as 10s"))
}
