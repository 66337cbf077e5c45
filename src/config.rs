//! The configuration: as written in TOML and on the command line, and as meant. Every problem of the
//! file is reported at once, with its line and the remedy.

use std::io::Read as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alerter::Problem;
use alerter::config::{Config as Notify, MailSection, WebhookSection};
use anyhow::{Context as _, Result, bail};
use collector::{CloudTrust, Rate, Rates, Relabel};
use journal::Durability;
use rrd::{Kind, Policy};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::args::Serve;
use crate::lines::{Graphite, Lines, Zabbix};

/// Where the server listens when nobody says.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4270);
/// The journal's size when nobody says: an hour of a million samples a minute.
pub(crate) const JOURNAL_BYTES: u64 = 256 << 20;
/// Room that the journal may take: below it a round could not keep up, above it a restart is long.
pub(crate) const JOURNAL_RANGE: std::ops::RangeInclusive<u64> = (16 << 20)..=(64 << 30);
/// Bytes that the check of the archives reads a second, at most, when nobody says.
const SCRUB_BYTES: u64 = 8 << 20;
/// Below it a check never ends, above it is no check beside other work.
const SCRUB_RANGE: std::ops::RangeInclusive<u64> = (64 << 10)..=(1 << 30);
/// A longer file is not a configuration.
const FILE_BYTES: u64 = 1 << 20;
/// What the file may say at its top level.
const KEYS: [&str; 16] = [
    "listen",
    "policy",
    "journal_size",
    "durability",
    "disk_limit",
    "scrub_rate",
    "base_url",
    "mail",
    "webhook",
    "tls",
    "limits",
    "relabel",
    "kind",
    "graphite",
    "zabbix",
    "cloud",
];
/// Time between two syncs of samples that are acknowledged before, when the file asks for that.
const SYNC_EVERY: Duration = Duration::from_millis(200);

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

/// What the file says of senders' limits.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitsSection {
    relay: RateSection,
    instance: RateSection,
}

/// What one sender may bring; 0 is without limit.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RateSection {
    samples_per_s: Option<u64>,
    bytes_per_s: Option<u64>,
}

impl LimitsSection {
    fn meant(self) -> Rates {
        let Rates { instance, relay } = Rates::default();
        Rates { instance: self.instance.over(instance), relay: self.relay.over(relay) }
    }
}

impl RateSection {
    fn over(self, usual: Rate) -> Rate {
        Rate {
            samples: self.samples_per_s.unwrap_or(usual.samples),
            bytes: self.bytes_per_s.unwrap_or(usual.bytes),
        }
    }
}

/// What the file says of the kind of some series.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KindSection {
    #[serde(rename = "match")]
    matchers: Vec<String>,
    kind: KindWord,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindWord {
    Gauge,
    Counter,
}

impl KindSection {
    fn meant(self) -> (Vec<String>, Kind) {
        let kind = match self.kind {
            KindWord::Gauge => Kind::Gauge,
            KindWord::Counter => Kind::Total,
        };
        (self.matchers, kind)
    }
}

/// What the file says.
struct Written {
    listen: Option<SocketAddr>,
    policy: Option<Policy>,
    journal_bytes: Option<u64>,
    durability: Option<Durability>,
    disk_limit: Option<u64>,
    scrub_bytes: Option<u64>,
    base_url: Option<String>,
    notify: Notify,
    tls: Option<TlsSection>,
    rates: Rates,
    relabel: Relabel,
    kinds: Vec<KindSection>,
    lines: Lines,
    cloud: CloudTrust,
}

impl Config {
    /// The meaning of a command line and the file it names; a flag wins over the file.
    pub(crate) fn check(arguments: &Serve) -> Result<Self> {
        let written = match &arguments.config {
            Some(file) => Written::load(file)?,
            None => Written::read("", "").map_err(|problems| refused(&problems))?,
        };
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
            kinds: written.kinds.into_iter().map(KindSection::meant).collect(),
        })
    }
}

impl Written {
    fn load(file: &Path) -> Result<Self> {
        let text = read_bounded(file).with_context(|| file.display().to_string())?;
        Self::read(&file.display().to_string(), &text).map_err(|problems| refused(&problems))
    }

    fn read(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader { file, text, problems: Vec::new() };
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reader.report(&error.span().unwrap_or(0..0), error.message().to_owned());
        }
        let written = reader.document(document.get_ref());
        match written {
            Some(written) if reader.problems.is_empty() => Ok(written),
            _ => Err(reader.problems),
        }
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

/// True for what can stand in a mail and in a page as it is, and leads somewhere.
fn is_web_address(text: &str) -> bool {
    let Some(host) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]@!$&()*+,;=%".contains(c);
    host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') && host.chars().all(plain)
}

fn refused(problems: &[Problem]) -> anyhow::Error {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("the configuration is refused:\n{}", lines.join("\n"))
}

/// The file while it is read.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn report(&mut self, span: &Range<usize>, message: String) {
        self.problems.push(Problem::at(self.file, self.text, span, message));
    }

    /// `None` when the sections of the notifier are refused; the problems say why.
    fn document(&mut self, document: &DeTable<'_>) -> Option<Written> {
        for (key, _) in document {
            let name = key.get_ref().as_ref();
            if !KEYS.contains(&name) {
                let remedy = alerter::nearest(name, &KEYS).map_or_else(
                    || format!("known are {}", KEYS.join(", ")),
                    |word| format!("did you mean {word:?}?"),
                );
                self.report(&key.span(), format!("unknown key {name:?}; {remedy}"));
            }
        }
        let mail: Option<MailSection> = self.section(document, "mail");
        let webhooks: Vec<WebhookSection> = self.section(document, "webhook").unwrap_or_default();
        let lines = Lines {
            graphite: self.section::<Graphite>(document, "graphite"),
            zabbix: self.section::<Zabbix>(document, "zabbix"),
        };
        let notify = Notify::check(mail.as_ref(), &webhooks, self.file, self.text)
            .map_err(|problems| self.problems.extend(problems));
        Some(Written {
            listen: self.text(document, "listen", "127.0.0.1:4270", |text| {
                text.parse().map_err(|_| "is not an address and a port".to_owned())
            }),
            policy: self.text(document, "policy", Policy::DEFAULT, |text| {
                Policy::parse(text).map_err(|error| format!("is refused: {error}"))
            }),
            journal_bytes: self.text(document, "journal_size", "256MiB", |text| {
                bytes(text)
                    .filter(|size| JOURNAL_RANGE.contains(size))
                    .ok_or_else(|| "is not a size from 16MiB to 64GiB".to_owned())
            }),
            durability: self.text(document, "durability", "strict", |text| match text {
                "strict" => Ok(Durability::Strict),
                "relaxed" => Ok(Durability::Relaxed { sync_every: SYNC_EVERY }),
                _ => Err("is neither strict nor relaxed".to_owned()),
            }),
            disk_limit: self.text(document, "disk_limit", "20GiB", |text| {
                bytes(text).ok_or_else(|| "is not a size".to_owned())
            }),
            scrub_bytes: self.text(document, "scrub_rate", "8MiB", |text| {
                bytes(text)
                    .filter(|size| SCRUB_RANGE.contains(size))
                    .ok_or_else(|| "is not a size from 64KiB to 1GiB".to_owned())
            }),
            base_url: self.text(document, "base_url", "https://roundel.example.org", |text| {
                let trimmed = text.trim_end_matches('/').to_owned();
                is_web_address(text).then_some(trimmed).ok_or("is not a web address".to_owned())
            }),
            notify: notify.ok()?,
            tls: self.section(document, "tls"),
            rates: self
                .section(document, "limits")
                .map_or_else(Rates::default, LimitsSection::meant),
            relabel: self.section(document, "relabel").unwrap_or_default(),
            kinds: self.section(document, "kind").unwrap_or_default(),
            lines,
            cloud: self.section(document, "cloud").unwrap_or_default(),
        })
    }

    /// The section under `key`; what does not fit its form is reported.
    fn section<T: for<'de> Deserialize<'de>>(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
    ) -> Option<T> {
        let value = table.get(key)?.clone();
        let span = value.span();
        T::deserialize(ValueDeserializer::from(value))
            .map_err(|e| self.report(&e.span().unwrap_or(span), e.message().to_owned()))
            .ok()
    }

    /// The text under `key` as `meant` reads it; anything else is reported with `example`.
    fn text<T>(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        example: &str,
        meant: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value: &Spanned<DeValue<'_>> = table.get(key)?;
        let outcome = match value.get_ref().as_str() {
            Some(text) => meant(text).map_err(|why| format!("{key} = {text:?} {why}")),
            None => Err(format!("{key} must be a text")),
        };
        outcome
            .map_err(|why| self.report(&value.span(), format!("{why}; write it as {example:?}")))
            .ok()
    }
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

    #[test]
    fn every_problem_of_a_file_is_reported_at_once() {
        let text = "polcy = \"1m:2d\"\nlisten = 7\njournal_size = \"1MiB\"\npolicy = \"1m\"\n";
        let problems = Written::read("roundel.toml", text).err().unwrap();
        let mut lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        lines.sort_unstable();
        assert_eq!(lines, [1, 2, 3, 4], "{problems:#?}");
    }

    #[test]
    fn links_lead_to_a_web_address_and_nothing_else() {
        for (text, good) in [
            ("https://roundel.example.org", true),
            ("http://[::1]:4270/metrics/", true),
            ("https://", false),
            ("ftp://x", false),
            ("javascript:alert(1)", false),
            (r"http://x/\r\nBcc: y@example.org", false),
            (r#"https://x\" onclick=\"1"#, false),
            ("http://x/<b>", false),
        ] {
            let file = format!("base_url = \"{text}\"\n");
            assert_eq!(Written::read("roundel.toml", &file).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_file_without_an_end_is_no_configuration() {
        let error = Written::load(Path::new("/dev/zero")).err().unwrap();
        assert!(format!("{error:#}").contains("/dev/zero: over 1048576 bytes"), "{error:#}");
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        assert!(Written::read("roundel.toml", "").is_ok());
    }
}
