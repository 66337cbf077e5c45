//! The file of probes: what it says in words, checked, and what that means.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Uri};
use rrd::time::parse_duration_ms;
use serde::Deserialize;

use super::dns::Dns;
use super::dns_message::{Question, RecordKind};
use super::http::Http;
use super::icmp::Icmp;
use super::reach::{Family, Host, host_and_port};
use super::tcp::Tcp;
use super::tls;
use super::{Probe, What};

/// Probes of one file.
const PROBES_MAX: usize = 1_000;
/// Time between two probes when nobody says, and the most: with less, a row would have no answer in it.
const EVERY: Duration = Duration::from_mins(1);
const EVERY_RANGE_MS: RangeInclusive<u64> = 1_000..=240_000;
/// How long a probe may take when nobody says.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_RANGE_MS: RangeInclusive<u64> = 100..=60_000;
/// Redirects that are followed when nobody says, and the most.
const REDIRECTS: u8 = 5;
const REDIRECTS_MAX: u8 = 10;
/// Memory that one expression may take.
const REGEX_BYTES: usize = 1 << 20;

/// Labels that a target cannot have.
const TAKEN: [&str; 5] = ["__name__", "job", "instance", "phase", "target"];

/// What probes of all kinds may say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Shared {
    name: Option<String>,
    every: Option<String>,
    timeout: Option<String>,
    labels: BTreeMap<String, String>,
    ip: Option<u8>,
}

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    every: Option<String>,
    timeout: Option<String>,
    labels: BTreeMap<String, String>,
    http: Vec<Entry<HttpEntry>>,
    tcp: Vec<Entry<TcpEntry>>,
    dns: Vec<Entry<DnsEntry>>,
    icmp: Vec<Entry<IcmpEntry>>,
}

/// One probe. What neither part knows is in `rest`, and refused.
#[derive(Debug, Deserialize)]
struct Entry<T> {
    #[serde(flatten)]
    shared: Shared,
    #[serde(flatten)]
    own: T,
    #[serde(flatten)]
    rest: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Deserialize)]
struct HttpEntry {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    send: Option<String>,
    #[serde(default)]
    status: Vec<u16>,
    body: Option<String>,
    body_not: Option<String>,
    redirects: Option<u8>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    insecure: bool,
}

#[derive(Debug, Deserialize)]
struct TcpEntry {
    address: String,
    #[serde(default)]
    tls: bool,
    send: Option<String>,
    expect: Option<String>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    insecure: bool,
}

#[derive(Debug, Deserialize)]
struct DnsEntry {
    query: String,
    server: Option<String>,
    r#type: Option<String>,
    #[serde(default)]
    tcp: bool,
    rcode: Option<String>,
    answers: Option<u16>,
    answer: Option<String>,
}

#[derive(Debug, Deserialize)]
struct IcmpEntry {
    host: String,
}

/// The probes of a file's text. Errors with the first thing that is wrong and where.
pub(super) fn parse(text: &str) -> Result<Vec<Probe>, String> {
    parse_table(toml::from_str(text).map_err(|error| error.to_string())?)
}

/// The probes of a table.
pub(crate) fn parse_table(table: toml::Table) -> Result<Vec<Probe>, String> {
    let written: Written = table.try_into().map_err(|error| error.to_string())?;
    let Written { every, timeout, labels, http, tcp, dns, icmp } = written;
    let usual = Shared { name: None, every, timeout, labels, ip: None };
    let mut probes = Vec::new();
    add(("http", &mut probes), http, &usual, HttpEntry::meant)?;
    add(("tcp", &mut probes), tcp, &usual, TcpEntry::meant)?;
    add(("dns", &mut probes), dns, &usual, DnsEntry::meant)?;
    add(("icmp", &mut probes), icmp, &usual, IcmpEntry::meant)?;
    if probes.len() > PROBES_MAX {
        return Err(format!("more than {PROBES_MAX} probes; leave some to an agent"));
    }
    let mut names = HashSet::new();
    if let Some(twice) = probes.iter().find(|probe| !names.insert(probe.name.as_str())) {
        return Err(format!("two probes are called {:?}; give one another `name`", twice.name));
    }
    Ok(probes)
}

/// What an entry is called when it says nothing, and what is asked.
type Meant = Result<(String, What), String>;

fn add<T>(
    (kind, probes): (&str, &mut Vec<Probe>),
    entries: Vec<Entry<T>>,
    usual: &Shared,
    meant: fn(T, Option<Family>) -> Meant,
) -> Result<(), String> {
    for (Entry { shared, own, rest }, number) in entries.into_iter().zip(1..) {
        let place = shared.name.clone().unwrap_or_else(|| format!("number {number}"));
        let probe =
            rest.keys().next().map_or(Ok(()), |key| Err(format!("there is no key {key:?}")));
        let probe = probe.and_then(|()| shared.probe(usual, |family| meant(own, family)));
        probes.push(probe.map_err(|why| format!("{kind} probe {place}: {why}"))?);
    }
    Ok(())
}

impl Shared {
    fn probe(
        self,
        usual: &Self,
        meant: impl FnOnce(Option<Family>) -> Meant,
    ) -> Result<Probe, String> {
        let family = match self.ip {
            None => None,
            Some(4) => Some(Family::V4),
            Some(6) => Some(Family::V6),
            Some(other) => return Err(format!("ip = {other} is neither 4 nor 6")),
        };
        let every = self.every.as_ref().or(usual.every.as_ref());
        let every = duration("every", every, (EVERY, EVERY_RANGE_MS))?;
        let timeout = self.timeout.as_ref().or(usual.timeout.as_ref());
        let timeout = duration("timeout", timeout, (TIMEOUT, TIMEOUT_RANGE_MS))?.min(every);
        let (name, what) = meant(family)?;
        let name = self.name.unwrap_or(name);
        if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
            return Err(format!("{name:?} is no name; write one of 1 to 200 letters"));
        }
        let mut labels = usual.labels.clone();
        labels.extend(self.labels);
        if let Some(taken) = labels.keys().find(|label| TAKEN.contains(&label.as_str())) {
            return Err(format!("the label {taken} is given by the probe itself; take it out"));
        }
        let labels = labels.into_iter().collect();
        Ok(Probe { name, labels, every, timeout, what })
    }
}

impl HttpEntry {
    fn meant(self, family: Option<Family>) -> Meant {
        let url: Uri = self.url.parse().map_err(|error| format!("url: {error}"))?;
        let is_web = matches!(url.scheme_str(), Some("http" | "https"));
        let authority = url.authority().map(http::uri::Authority::as_str);
        let Some(authority) = authority.filter(|_| is_web) else {
            return Err(
                "url is no web address; write it as \"https://www.example.org/\"".to_owned()
            );
        };
        if authority.contains('@') {
            return Err("url holds a password, which logs would show; use `headers`".to_owned());
        }
        let method = self.method.as_deref().unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
        let header = |(name, value): (&String, &String)| {
            let bad = || format!("the header {name} cannot be sent");
            let name = HeaderName::try_from(name).map_err(|_| bad())?;
            let mut value = HeaderValue::try_from(value).map_err(|_| bad())?;
            value.set_sensitive(true);
            Ok((name, value))
        };
        let headers = self.headers.iter().map(header).collect::<Result<_, String>>()?;
        let redirects = self.redirects.unwrap_or(REDIRECTS);
        if redirects > REDIRECTS_MAX {
            return Err(format!("more than {REDIRECTS_MAX} redirects are a circle"));
        }
        let trust = tls::Written { ca_file: self.ca_file, insecure: self.insecure }.trust()?;
        // A name is shown; what follows the question mark may be a secret.
        let name = self.url.split('?').next().unwrap_or_default().to_owned();
        let http = Http {
            url,
            family,
            method,
            headers,
            send: self.send,
            trust,
            status: self.status,
            body: regex_of("body", self.body.as_deref())?,
            body_not: regex_of("body_not", self.body_not.as_deref())?,
            redirects,
        };
        Ok((name, What::Http(http)))
    }
}

impl TcpEntry {
    fn meant(self, family: Option<Family>) -> Meant {
        let (name, port) = host_and_port(&self.address)
            .ok_or("address is no HOST:PORT; write it as \"mail.example.org:25\"")?;
        let written = tls::Written { ca_file: self.ca_file, insecure: self.insecure };
        let trust = if self.tls { Some(written.trust()?) } else { None };
        let expect = regex_of("expect", self.expect.as_deref())?;
        let host = Host { name, family };
        Ok((self.address, What::Tcp(Tcp { host, port, trust, send: self.send, expect })))
    }
}

impl DnsEntry {
    fn meant(self, family: Option<Family>) -> Meant {
        let kind = self.r#type.as_deref().unwrap_or("A");
        let kind = RecordKind::named(kind)
            .ok_or_else(|| format!("type = {kind:?} is none that is asked for here; A is"))?;
        let question = Question::of(&self.query, kind)
            .ok_or_else(|| format!("query = {:?} is no name", self.query))?;
        let server = match &self.server {
            None => None,
            Some(text) => {
                let alone = || text.parse::<IpAddr>().ok().map(|ip| (ip.to_string(), 53));
                let bare = || (!text.contains(':')).then(|| (text.clone(), 53));
                let (name, port) = alone()
                    .or_else(|| host_and_port(text))
                    .or_else(bare)
                    .ok_or("server is no address; write it as \"192.0.2.53\"")?;
                Some((Host { name, family }, port))
            }
        };
        let code = self.rcode.as_deref().unwrap_or("NOERROR");
        let code = code_named(code).ok_or_else(|| format!("rcode = {code:?} is none"))?;
        let answers_min = self.answers.unwrap_or(u16::from(code == 0));
        let answer = self.answer.as_deref().map(regex::Regex::new).transpose();
        let answer = answer.map_err(|error| format!("answer: {error}"))?;
        let dns = Dns { server, question, is_tcp: self.tcp, code, answers_min, answer };
        Ok((self.query, What::Dns(dns)))
    }
}

impl IcmpEntry {
    fn meant(self, family: Option<Family>) -> Meant {
        if self.host.is_empty() || self.host.contains(char::is_whitespace) {
            return Err(format!("host = {:?} is no name", self.host));
        }
        let host = Host { name: self.host.clone(), family };
        Ok((self.host, What::Icmp(Icmp { host })))
    }
}

fn code_named(name: &str) -> Option<u8> {
    const CODES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    let at = CODES.iter().position(|code| code.eq_ignore_ascii_case(name))?;
    u8::try_from(at).ok()
}

fn regex_of(key: &str, text: Option<&str>) -> Result<Option<regex::bytes::Regex>, String> {
    let build = |text| regex::bytes::RegexBuilder::new(text).size_limit(REGEX_BYTES).build();
    text.map(build).transpose().map_err(|error| format!("{key}: {error}"))
}

fn duration(
    key: &str,
    text: Option<&String>,
    (usual, range): (Duration, RangeInclusive<u64>),
) -> Result<Duration, String> {
    let Some(text) = text else { return Ok(usual) };
    let millis = parse_duration_ms(text).filter(|millis| range.contains(millis));
    let millis = millis.ok_or_else(|| {
        let (low, high) =
            (Duration::from_millis(*range.start()), Duration::from_millis(*range.end()));
        format!("{key} = {text:?} is not a time from {low:?} to {high:?}; write it as \"30s\"")
    })?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_targets_and_what_they_have_in_common() {
        let probes = parse(
            "every = \"30s\"\nlabels = { team = \"web\" }\n\
             [[http]]\nurl = \"https://shop.example.org/health?key=secret\"\n\
             [[http]]\nname = \"login\"\nurl = \"http://127.0.0.1:8080/\"\nevery = \"5s\"\nlabels = { team = \"id\" }\n\
             [[tcp]]\naddress = \"[::1]:22\"\nexpect = \"^SSH-2\"\n\
             [[dns]]\nquery = \"example.org\"\nserver = \"::1\"\ntype = \"mx\"\n\
             [[icmp]]\nhost = \"192.0.2.1\"\nip = 4\n",
        )
        .unwrap();
        let names: Vec<&str> = probes.iter().map(|probe| probe.name.as_str()).collect();
        let expected =
            ["https://shop.example.org/health", "login", "[::1]:22", "example.org", "192.0.2.1"];
        assert_eq!(names, expected);
        assert_eq!(probes[0].every, Duration::from_secs(30));
        assert_eq!(
            (probes[1].every, probes[1].timeout),
            (Duration::from_secs(5), Duration::from_secs(5))
        );
        assert_eq!(probes[1].labels, [("team".to_owned(), "id".to_owned())]);
        let What::Dns(dns) = &probes[3].what else { panic!("it asks a name server") };
        assert_eq!(dns.server, Some((Host { name: "::1".to_owned(), family: None }, 53)));
        assert_eq!(dns.answers_min, 1);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("[[web]]\n", "web"),
            ("[[http]]\nname = \"a\"\n", "url"),
            ("[[http]]\nname = \"a\"\nurl = \"shop\"\n", "http probe a: url is no web address"),
            ("[[http]]\nurl = \"ftp://x/\"\n", "http probe number 1: url is no web address"),
            ("[[http]]\nurl = \"http://me:pw@x/\"\n", "url holds a password"),
            ("[[http]]\nurl = \"http://x/\"\naddress = 1\n", "there is no key \"address\""),
            ("[[http]]\nurl = \"http://x/\"\nbody = \"(\"\n", "body: regex"),
            ("[[http]]\nurl = \"http://x/\"\nbody = \"((a{100}){100}){100}\"\n", "body: "),
            ("[[http]]\nurl = \"http://x/\"\nredirects = 11\n", "a circle"),
            ("[[http]]\nurl = \"http://x/\"\nheaders = { \"a b\" = \"c\" }\n", "the header a b"),
            (
                "[[http]]\nurl = \"http://x/\"\nca_file = \"/nonexistent\"\n",
                "ca_file /nonexistent: ",
            ),
            ("[[http]]\nurl = \"http://x/\"\nlabels = { job = \"x\" }\n", "the label job"),
            ("[[http]]\nurl = \"http://x/\"\nip = 5\n", "neither 4 nor 6"),
            ("[[http]]\nurl = \"http://x/\"\nevery = \"1h\"\n", "write it as \"30s\""),
            ("[[tcp]]\naddress = \"::1:22\"\n", "no HOST:PORT"),
            ("[[tcp]]\naddress = \"a:0\"\n", "no HOST:PORT"),
            ("[[dns]]\nquery = \"a..b\"\n", "is no name"),
            ("[[dns]]\nquery = \"a\"\ntype = \"ANY\"\n", "A is"),
            ("[[dns]]\nquery = \"a\"\nrcode = \"FINE\"\n", "is none"),
            (
                "[[icmp]]\nhost = \"a\"\n[[tcp]]\nname = \"a\"\naddress = \"a:1\"\n",
                "two probes are called \"a\"",
            ),
            ("[[icmp]]\nhost = \"\"\n", "is no name"),
        ] {
            let problem = parse(text).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
