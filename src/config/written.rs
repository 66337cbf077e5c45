//! The file of settings as it is written: sections and keys, and all that is wrong with them.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use alerter::Problem;
use alerter::config::{Config as Notify, MailSection, WebhookSection};
use anyhow::{Context as _, Result};
use collector::{CloudTrust, Rate, Rates, Relabel};
use journal::Durability;
use rrd::{Kind, Policy};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{JOURNAL_RANGE, TlsSection, bytes, read_bounded};
use crate::lines::{Graphite, Lines, Zabbix};

/// Below it a check never ends, above it is no check beside other work.
const SCRUB_RANGE: std::ops::RangeInclusive<u64> = (64 << 10)..=(1 << 30);
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

/// What the file says.
pub(super) struct Written {
    pub(super) listen: Option<SocketAddr>,
    pub(super) policy: Option<Policy>,
    pub(super) journal_bytes: Option<u64>,
    pub(super) durability: Option<Durability>,
    pub(super) disk_limit: Option<u64>,
    pub(super) scrub_bytes: Option<u64>,
    pub(super) base_url: Option<String>,
    pub(super) notify: Notify,
    pub(super) tls: Option<TlsSection>,
    pub(super) rates: Rates,
    pub(super) relabel: Relabel,
    pub(super) kinds: Vec<(Vec<String>, Kind)>,
    pub(super) lines: Lines,
    pub(super) cloud: CloudTrust,
}

impl Written {
    /// What a file says, or nobody.
    pub(super) fn of(file: Option<&Path>) -> Result<Self> {
        match file {
            Some(file) => Self::load(file),
            None => Self::read("", "").map_err(|problems| refused(&problems)),
        }
    }

    fn load(file: &Path) -> Result<Self> {
        let text =
            read_bounded(file).with_context(|| format!("the configuration {}", file.display()))?;
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
            kinds: self
                .section::<Vec<KindSection>>(document, "kind")
                .map_or_else(Vec::new, |kinds| kinds.into_iter().map(KindSection::meant).collect()),
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

#[cfg(test)]
mod tests {
    use super::*;

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
