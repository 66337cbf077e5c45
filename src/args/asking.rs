//! What is said to commands that ask a running server.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::label;

/// What all these commands have in common stands apart from what each takes.
const SERVER: &str = "The server, whose admin token is read from ROUNDEL_ADMIN_TOKEN";

/// Which server is asked, and how its answer is printed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Asked {
    /// Address of the server
    #[arg(
        long,
        value_name = "http://HOST:PORT",
        default_value = "http://127.0.0.1:4270",
        help_heading = SERVER,
        global = true
    )]
    pub(crate) server: String,
    /// Authorities of the server's certificate (PEM), instead of the public ones
    #[arg(long, value_name = "FILE", help_heading = SERVER, global = true)]
    pub(crate) ca: Option<PathBuf>,
    /// SHA-256 of the server's authority or certificate, where there is no file of it
    #[arg(
        long,
        value_name = "sha256:HEX",
        conflicts_with = "ca",
        help_heading = SERVER,
        global = true
    )]
    pub(crate) ca_hash: Option<collector::agent::Pin>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The server's bearer token with every scope
    #[arg(long, env = "ROUNDEL_ADMIN_TOKEN", hide = true, hide_env_values = true, global = true)]
    pub(crate) admin_token: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Instances {
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(subcommand)]
    pub(crate) command: InstancesCommand,
}

#[derive(Debug, Clone, Args)]
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
pub(crate) struct Reject {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// Id of the request
    pub(crate) id: String,
    /// Why; its machine is told
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
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

fn span(text: &str) -> Result<u64, String> {
    rrd::time::parse_duration_ms(text)
        .filter(|span_ms| *span_ms >= 1_000)
        .ok_or_else(|| format!("{text:?} is not a time from 1s on; write it as 30s, 5m or 2h"))
}
