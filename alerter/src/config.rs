//! Who is told and how, as the configuration file writes it and as it is meant.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::Uri;
use lettre::message::Mailbox;
use rrd::hex::bytes_of_hex;
use serde::Deserialize;
use toml::Spanned;

use crate::Problem;
use crate::mail::{FileMailer, Mailbag, Mailer, Security, SmtpMailer, SmtpServer};
use crate::notify::Channels;
use crate::webhook::{Secret, WebClient, Webhook};

/// Most recipients and most webhooks: every transition makes a row for each.
pub const RECEIVERS_MOST: usize = 50;

/// `[mail]` as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MailSection {
    /// Who is told: `["ops@example.org", "Night shift <night@example.org>"]`.
    pub to: Vec<Spanned<String>>,
    /// Who writes: `"Roundel <roundel@example.org>"`.
    pub from: Option<Spanned<String>>,
    /// Through which server; without it mails are files under the data folder.
    pub smtp: Option<Secretive>,
}

/// `[[webhook]]` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSection {
    /// Names it in lists and logs.
    pub name: Spanned<String>,
    /// Where to POST.
    pub url: Spanned<String>,
    /// What signs it: `whsec_…`.
    pub secret: Option<Secretive>,
}

/// A text with a secret in it, and where it stands. Never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secretive(Spanned<String>);

impl std::fmt::Debug for Secretive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What to do with the channels' configuration once it is checked.
#[derive(Debug)]
pub struct Config {
    mail: Vec<Mailbox>,
    from: Mailbox,
    smtp: Option<SmtpServer>,
    webhooks: Vec<(String, Uri, Secret)>,
}

impl Config {
    /// The checked configuration, or everything that is wrong with it. `file` and `text` are the
    /// document that the sections were read from: problems name their line.
    pub fn check(
        mail: Option<&MailSection>,
        webhooks: &[WebhookSection],
        file: &str,
        text: &str,
    ) -> Result<Self, Vec<Problem>> {
        let mut checker = Checker { file, text, problems: Vec::new() };
        let none = MailSection::default();
        let mail = mail.unwrap_or(&none);
        let config = Self {
            mail: checker.recipients(mail),
            from: checker.sender(mail),
            smtp: checker.smtp(mail),
            webhooks: checker.webhooks(webhooks),
        };
        if checker.problems.is_empty() { Ok(config) } else { Err(checker.problems) }
    }

    /// The channels: `mail:ADDRESS` for each recipient and `webhook:NAME` for each webhook. Links
    /// in what they send start with `base_url`; mail files go into `mail_folder`.
    pub fn channels(&self, base_url: Option<&str>, mail_folder: &Path) -> Result<Channels, String> {
        let mailer: Arc<dyn Mailer> = match &self.smtp {
            Some(server) => Arc::new(SmtpMailer::new(server, self.from.email.domain())?),
            None => Arc::new(FileMailer::new(mail_folder)),
        };
        let base_url = base_url.map(str::to_owned);
        let mut channels = Channels::default();
        for to in &self.mail {
            let bag = Mailbag {
                from: self.from.clone(),
                to: to.clone(),
                base_url: base_url.clone(),
                mailer: Arc::clone(&mailer),
            };
            channels.insert(format!("mail:{}", to.email), Arc::new(bag));
        }
        let client = WebClient::new();
        for (name, url, secret) in &self.webhooks {
            let webhook = Webhook {
                url: url.clone(),
                secret: secret.clone(),
                base_url: base_url.clone(),
                client: client.clone(),
            };
            channels.insert(format!("webhook:{name}"), Arc::new(webhook));
        }
        Ok(channels)
    }

    /// True while mails are files, because no server is named.
    pub const fn is_mail_to_files(&self) -> bool {
        self.smtp.is_none()
    }

    /// Each channel's name and where its notices go, in words without secrets.
    pub fn targets(&self, mail_folder: &Path) -> Vec<(String, String)> {
        let way = match &self.smtp {
            Some(server) => format!("through {}", server.host),
            None => format!("files in {}", mail_folder.display()),
        };
        let mails = self.mail.iter().map(|to| (format!("mail:{}", to.email), way.clone()));
        let hooks = self.webhooks.iter().map(|(name, url, _)| {
            (
                format!("webhook:{name}"),
                url.authority().map(ToString::to_string).unwrap_or_default(),
            )
        });
        mails.chain(hooks).collect()
    }
}

/// Collects problems of one document.
struct Checker<'a> {
    file: &'a str,
    text: &'a str,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn report<T>(&mut self, at: &Spanned<T>, message: String) {
        self.problems.push(Problem::at(self.file, self.text, &at.span(), message));
    }

    fn mailbox(&mut self, written: &Spanned<String>, key: &str) -> Option<Mailbox> {
        match written.get_ref().parse() {
            Ok(mailbox) => Some(mailbox),
            Err(error) => {
                let text = written.get_ref();
                let message = format!(
                    "mail.{key}: {text:?} is not a mail address ({error}); write ops@example.org or Ops <ops@example.org>"
                );
                self.report(written, message);
                None
            }
        }
    }

    /// Recipients. Without any, mail files are still written, for whoever looks into the folder.
    fn recipients(&mut self, mail: &MailSection) -> Vec<Mailbox> {
        if mail.to.is_empty() {
            if let Some(smtp) = &mail.smtp {
                let message =
                    "mail.smtp is set but nobody is told; add `to = [\"you@example.org\"]`";
                self.report(&smtp.0, message.to_owned());
            }
            return vec![local("operator")];
        }
        if let Some(extra) = mail.to.get(RECEIVERS_MOST) {
            let message = format!("mail.to: more than {RECEIVERS_MOST}; use a mailing list");
            self.report(extra, message);
        }
        let mut boxes: Vec<Mailbox> = Vec::new();
        for written in &mail.to {
            let Some(mailbox) = self.mailbox(written, "to") else { continue };
            if boxes.iter().any(|other| other.email == mailbox.email) {
                self.report(written, format!("mail.to: {} is listed twice", mailbox.email));
            }
            boxes.push(mailbox);
        }
        boxes
    }

    fn sender(&mut self, mail: &MailSection) -> Mailbox {
        match (&mail.from, &mail.smtp) {
            (Some(written), _) => self.mailbox(written, "from").unwrap_or_else(|| local("roundel")),
            (None, Some(smtp)) => {
                let message = "mail.smtp needs a sender; add `from = \"roundel@example.org\"`";
                self.report(&smtp.0, message.to_owned());
                local("roundel")
            }
            (None, None) => local("roundel"),
        }
    }

    fn smtp(&mut self, mail: &MailSection) -> Option<SmtpServer> {
        let written = &mail.smtp.as_ref()?.0;
        match smtp_server(written.get_ref()) {
            Ok(server) => Some(server),
            Err(message) => {
                self.report(written, format!("mail.smtp: {message}"));
                None
            }
        }
    }

    fn webhooks(&mut self, sections: &[WebhookSection]) -> Vec<(String, Uri, Secret)> {
        let mut webhooks: Vec<(String, Uri, Secret)> = Vec::new();
        for (at, section) in sections.iter().enumerate() {
            let name = section.name.get_ref();
            if at == RECEIVERS_MOST {
                let message = format!("more than {RECEIVERS_MOST} webhooks; fan out behind one");
                self.report(&section.name, message);
            }
            if name.is_empty() || webhooks.iter().any(|(other, ..)| other == name) {
                let message = format!("webhook name {name:?} is empty or used twice; rename it");
                self.report(&section.name, message);
            }
            let url = self.url(section);
            let secret = self.secret(section);
            if let (Some(url), Some(secret)) = (url, secret) {
                webhooks.push((name.clone(), url, secret));
            }
        }
        webhooks
    }

    fn url(&mut self, section: &WebhookSection) -> Option<Uri> {
        let written = section.url.get_ref();
        match webhook_url(written) {
            Ok(url) => Some(url),
            Err(message) => {
                self.report(&section.url, format!("webhook.url: {message}"));
                None
            }
        }
    }

    fn secret(&mut self, section: &WebhookSection) -> Option<Secret> {
        let Some(Secretive(written)) = &section.secret else {
            let name = section.name.get_ref();
            let message = format!(
                "webhook {name:?} has no secret, and unsigned calls prove nothing to their receiver; \
                 add `secret = \"whsec_…\"` with 32 random bytes in base64: \
                 echo whsec_$(head -c 32 /dev/urandom | base64)"
            );
            self.report(&section.name, message);
            return None;
        };
        match Secret::parse(written.get_ref()) {
            Ok(secret) => Some(secret),
            Err(error) => {
                self.report(written, format!("webhook.secret: {error}"));
                None
            }
        }
    }
}

fn local(user: &str) -> Mailbox {
    let address = lettre::Address::new(user, "localhost").expect("a plain word is a user");
    Mailbox::new(None, address)
}

/// Reads `smtps://user:pass@host:465`, `smtp://…` (STARTTLS) or, on this machine only,
/// `smtp://127.0.0.1:25?tls=none`.
fn smtp_server(written: &str) -> Result<SmtpServer, String> {
    const FORM: &str = "write smtps://USER:PASSWORD@HOST:465 or smtp://USER:PASSWORD@HOST:587";
    let uri: Uri = written.parse().map_err(|_| format!("not a URL; {FORM}"))?;
    let authority = uri.authority().ok_or_else(|| format!("no host; {FORM}"))?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    if host.is_empty() {
        return Err(format!("no host; {FORM}"));
    }
    let (security, port) = match (uri.scheme_str(), uri.query()) {
        (Some("smtps"), None) => (Security::Implicit, 465),
        (Some("smtp"), None | Some("tls=required")) => (Security::StartTls, 587),
        (Some("smtp"), Some("tls=none")) if is_loopback(&host) => (Security::None, 25),
        (Some("smtp"), Some("tls=none")) => {
            return Err("tls=none is for a server on this machine only; use smtps://".to_owned());
        }
        _ => return Err(format!("unknown scheme or setting; {FORM}")),
    };
    let credentials = match authority.as_str().rsplit_once('@') {
        None => None,
        Some((login, _)) => {
            let (user, password) = login.split_once(':').ok_or("a user without a password")?;
            Some((decoded(user)?, decoded(password)?))
        }
    };
    if security == Security::None && credentials.is_some() {
        return Err("a password is not sent in the clear; use smtps://".to_owned());
    }
    Ok(SmtpServer { host, port: authority.port_u16().unwrap_or(port), security, credentials })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Text with its %XX undone.
fn decoded(text: &str) -> Result<String, String> {
    let bad =
        || "a % in user or password is followed by two hex digits; write %25 for %".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().ok_or_else(bad)?, rest.next().ok_or_else(bad)?];
        let hex = std::str::from_utf8(&digits).map_err(|_| bad())?;
        let [byte] = bytes_of_hex(hex).ok_or_else(bad)?;
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| "user and password must be UTF-8".to_owned())
}

/// A URL that may be called: http or https, without a login in it, not a link-local address, which
/// on cloud machines answers with the machine's own credentials.
fn webhook_url(written: &str) -> Result<Uri, String> {
    let refused = |what: &str| Err(format!("{what}; write https://HOST/PATH"));
    let Ok(url) = written.parse::<Uri>() else { return refused("not a URL") };
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return refused("not an http or https URL");
    }
    let Some(authority) = url.authority() else { return refused("no host") };
    if authority.as_str().contains('@') {
        return refused("a login in the URL is not sent; the signature proves who calls");
    }
    let host = authority.host().trim_matches(['[', ']']);
    let is_metadata = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_link_local() || address.is_unspecified(),
        Ok(IpAddr::V6(address)) => address.is_unicast_link_local() || address.is_unspecified(),
        Err(_) => host.is_empty(),
    };
    if is_metadata { refused("a link-local address is never called") } else { Ok(url) }
}
