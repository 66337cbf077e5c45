//! The configuration: as written in TOML and on the command line, and as meant. Every problem of the
//! file is reported at once, with its line and the remedy.

mod written;

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alerter::config::Config as Notify;
use anyhow::{Context as _, Result, bail};
use collector::{CloudTrust, Rates, Relabel};
use journal::Durability;
use rrd::{Kind, Policy};
use serde::Deserialize;

use crate::args::Serve;
use crate::lines::Lines;
use written::Written;

/// Where the server listens when nobody says.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4270);
/// The journal's size when nobody says: what a million samples a minute bring in 25 minutes, of which
/// rounds come every 16.
pub(crate) const JOURNAL_BYTES: u64 = 256 << 20;
/// Room that the journal may take: below it a round could not keep up, above it a restart is long.
pub(crate) const JOURNAL_RANGE: std::ops::RangeInclusive<u64> = (16 << 20)..=(64 << 30);
/// Bytes that the check of the archives reads a second, at most, when nobody says.
const SCRUB_BYTES: u64 = 8 << 20;
/// A longer file is not a configuration.
const FILE_BYTES: u64 = 1 << 20;
/// All that the server is told, checked.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) policy: Policy,
    pub(crate) journal_bytes: u64,
    /// When samples are acknowledged.
    pub(crate) durability: Durability,
    /// Most bytes of all archives, where somebody said.
    pub(crate) disk_limit: Option<u64>,
    /// Most bytes a second that the check of the archives reads.
    pub(crate) scrub_bytes: u64,
    /// The address that links in mails begin with; where we listen when nobody says.
    pub(crate) base_url: Option<String>,
    pub(crate) notify: Notify,
    pub(crate) local_agent: bool,
    pub(crate) admin_token: Option<String>,
    /// Where TLS is spoken, and with what.
    pub(crate) tls: Option<TlsSection>,
    /// What one sender may bring in a second.
    pub(crate) rates: Rates,
    /// Rules for the series of every relay.
    pub(crate) relabel: Relabel,
    /// Kinds that the operator knows better.
    pub(crate) kinds: Vec<(Vec<String>, Kind)>,
    /// Listeners of senders that speak no HTTP.
    pub(crate) lines: Lines,
    /// Whose word of machines is believed.
    pub(crate) cloud: CloudTrust,
}

/// What the file says of TLS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    /// Where to listen for it.
    #[serde(default = "TlsSection::listen")]
    pub(crate) listen: SocketAddr,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    #[serde(default)]
    pub(crate) client_ca: Option<PathBuf>,
}

impl TlsSection {
    const fn listen() -> SocketAddr {
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 4271)
    }
}

impl Config {
    /// The meaning of a command line and the file it names; a flag wins over the file.
    pub(crate) fn check(arguments: &Serve) -> Result<Self> {
        let written = Written::of(arguments.config.as_deref())?;
        let policy = match &arguments.policy {
            Some(text) => Policy::parse(text).with_context(|| format!("--policy {text:?}"))?,
            None => match written.policy {
                Some(policy) => policy,
                None => Policy::parse(Policy::DEFAULT).context("the default policy")?,
            },
        };
        let listen = arguments.listen.or(written.listen).unwrap_or(LISTEN);
        written.lines.check(arguments.insecure)?;
        if !listen.ip().is_loopback() && !arguments.insecure {
            bail!(
                "{listen} is reached by other machines and has no TLS: leave it at 127.0.0.1 and say where \
                 TLS is spoken under [tls] in the configuration, or say --insecure"
            );
        }
        Ok(Self {
            data: arguments.data.clone(),
            listen,
            policy,
            journal_bytes: written.journal_bytes.unwrap_or(JOURNAL_BYTES),
            durability: written.durability.unwrap_or(Durability::Strict),
            disk_limit: arguments.disk_limit.or(written.disk_limit),
            scrub_bytes: written.scrub_bytes.unwrap_or(SCRUB_BYTES),
            base_url: written.base_url,
            notify: written.notify,
            lines: written.lines,
            cloud: written.cloud,
            local_agent: !arguments.no_local_agent,
            admin_token: arguments.admin_token.clone().filter(|token| !token.is_empty()),
            tls: written.tls,
            rates: written.rates,
            relabel: written.relabel,
            kinds: written.kinds,
        })
    }
}

/// The text of a file that may be a pipe or a device: its length is known when it is read.
pub(crate) fn read_bounded(file: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|read| read > FILE_BYTES) {
        bail!("over {FILE_BYTES} bytes; no file of settings or rules is that long");
    }
    String::from_utf8(bytes).context("it holds bytes that are not UTF-8; save it as UTF-8 text")
}

/// Bytes in a written size: a whole number and `KiB`, `MiB` or `GiB`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let shift = match unit.trim_start() {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_carry_their_unit() {
        for (text, size) in
            [("16MiB", Some(16 << 20)), ("1 GiB", Some(1 << 30)), ("16", None), ("MiB", None)]
        {
            assert_eq!(bytes(text), size, "{text}");
        }
    }
}
