//! Mail: one envelope per recipient, threaded by incident, to files or through SMTP.

use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use lettre::address::Envelope;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use rrd::Timestamp;

use crate::letter::Letter;
use crate::notify::{Attempt, Channel, DELIVERY_TIMEOUT, Failure};
use crate::transition::{IncidentId, Transition, TransitionId};

/// The pending result of handing one mail on.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// A mail ready to go.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Sender and the one recipient.
    pub envelope: Envelope,
    /// Headers and body as they go over the wire.
    pub bytes: Vec<u8>,
    /// What it tells.
    pub transition: TransitionId,
    /// When that was judged.
    pub at: jiff::Timestamp,
}

/// Hands mail on.
pub trait Mailer: Send + Sync {
    /// Hands `mail` on; done means somebody else answers for it now.
    fn send<'a>(&'a self, mail: &'a Mail) -> Sending<'a>;
}

/// The channel of one mailbox.
pub struct Mailbag {
    /// Who writes.
    pub from: Mailbox,
    /// Who is told.
    pub to: Mailbox,
    /// Start of links, when the server knows its own.
    pub base_url: Option<String>,
    /// How it goes out.
    pub mailer: Arc<dyn Mailer>,
}

impl Channel for Mailbag {
    fn deliver<'a>(&'a self, transition: &'a Transition, _now: Timestamp) -> Attempt<'a> {
        Box::pin(async move {
            let mail = self.compose(transition).map_err(|error| Failure::Never { error })?;
            self.mailer.send(&mail).await
        })
    }
}

impl Mailbag {
    /// The mail about `transition`: the same bytes at every attempt.
    pub fn compose(&self, transition: &Transition) -> Result<Mail, String> {
        let letter = Letter::about(transition, self.base_url.as_deref());
        let domain = self.from.email.domain();
        let thread = root_id(transition.incident, domain);
        let own = message_id(transition.id, domain);
        let at = jiff::Timestamp::from_millisecond(transition.at.as_millis())
            .map_err(|_| "the transition's moment has no date".to_owned())?;
        let body = MultiPart::alternative()
            // Random by default; fixed so that a mail sent twice is the same mail.
            .boundary(format!("roundel-{}", transition.id))
            .singlepart(SinglePart::plain(letter.text))
            .singlepart(SinglePart::html(letter.html));
        let message = Message::builder()
            .from(self.from.clone())
            .to(self.to.clone())
            .subject(letter.subject)
            .date(at.into())
            .message_id(Some(own))
            .in_reply_to(thread.clone())
            .references(thread)
            .header(AutoSubmitted)
            .header(Priority::of(transition))
            .multipart(body)
            .map_err(|error| format!("the mail cannot be written: {error}"))?;
        let bytes = message.formatted();
        Ok(Mail { envelope: message.envelope().clone(), bytes, transition: transition.id, at })
    }
}

fn message_id(id: TransitionId, domain: &str) -> String {
    format!("<{id}@{domain}>")
}

fn root_id(id: IncidentId, domain: &str) -> String {
    format!("<{id}@{domain}>")
}

/// `Auto-Submitted: auto-generated` (RFC 3834): no holiday notices, please.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// `Importance`: high while something is critical.
#[derive(Clone)]
struct Priority(&'static str);

impl Priority {
    fn of(transition: &Transition) -> Self {
        Self(if transition.to == crate::State::Critical { "high" } else { "normal" })
    }
}

impl Header for Priority {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Importance")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(if text == "high" { "high" } else { "normal" }))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.to_owned())
    }
}

/// Most mail files in the folder, about 10 MB; the oldest go first. Who wants all has a mail server.
pub const FILES_MOST: usize = 1_000;

/// Writes each mail as a file into a folder: the default, until a server is configured.
pub struct FileMailer {
    folder: PathBuf,
}

impl FileMailer {
    /// A mailer into `folder`, which is made when the first mail comes.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The file of a mail: the same for every attempt, so that a repeat replaces it; its name begins
    /// with its moment, so that a listing is in order of time.
    fn path(&self, mail: &Mail) -> PathBuf {
        let to = mail.envelope.to().first().map(ToString::to_string).unwrap_or_default();
        let safe = |c: char| if c.is_ascii_alphanumeric() || "@.-".contains(c) { c } else { '_' };
        let to: String = to.chars().map(safe).take(60).collect();
        let at = mail.at.strftime("%Y-%m-%dT%H-%M-%SZ");
        self.folder.join(format!("{at}-{}-{to}.eml", mail.transition))
    }
}

impl Mailer for FileMailer {
    fn send<'a>(&'a self, mail: &'a Mail) -> Sending<'a> {
        let (path, bytes) = (self.path(mail), mail.bytes.clone());
        Box::pin(async move {
            let shown = path.display().to_string();
            let written = tokio::task::spawn_blocking(move || write_whole(&path, &bytes)).await;
            let error = match written {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => format!("{shown}: {error}"),
                Err(error) => format!("{shown}: {error}"),
            };
            Err(Failure::Later { error, wish: None })
        })
    }
}

/// Writes `bytes` to `path` so that it is there whole or not at all, also after power loss, and
/// removes the oldest mails beyond [`FILES_MOST`].
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let draft = path.with_extension("tmp");
    let mut file = std::fs::File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    remove_oldest(folder)?;
    std::fs::File::open(folder)?.sync_all()
}

fn remove_oldest(folder: &Path) -> std::io::Result<()> {
    let entries = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut mails: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    mails.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
    mails.sort();
    let surplus = mails.len().saturating_sub(FILES_MOST);
    mails.iter().take(surplus).try_for_each(std::fs::remove_file)
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS from the first byte (`smtps://`).
    Implicit,
    /// STARTTLS or nothing (`smtp://`).
    StartTls,
    /// In the clear: only to this machine, and only when asked for (`smtp://…?tls=none`).
    None,
}

/// Where and how mail is handed to a server.
#[derive(Clone, PartialEq, Eq)]
pub struct SmtpServer {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Protection.
    pub security: Security,
    /// User and password; `None` when the server wants none.
    pub credentials: Option<(String, String)>,
}

/// Passwords are never shown.
impl std::fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.credentials.as_ref().map(|(user, _)| user);
        write!(f, "SmtpServer({}:{}, {:?}, user {user:?})", self.host, self.port, self.security)
    }
}

/// Hands mail to a server, one connection each.
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

impl SmtpMailer {
    /// A mailer to `server`, which names itself `ehlo` there (the domain of the sender).
    pub fn new(server: &SmtpServer, ehlo: &str) -> Result<Self, String> {
        let tls = || TlsParameters::new(server.host.clone()).map_err(|error| error.to_string());
        let tls = match server.security {
            Security::Implicit => Tls::Wrapper(tls()?),
            Security::StartTls => Tls::Required(tls()?),
            Security::None => Tls::None,
        };
        let mut builder =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.host.clone())
                .port(server.port)
                .tls(tls)
                .hello_name(ClientId::Domain(ehlo.to_owned()))
                .timeout(Some(DELIVERY_TIMEOUT));
        if let Some((user, password)) = &server.credentials {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        Ok(Self { transport: builder.build() })
    }
}

impl Mailer for SmtpMailer {
    fn send<'a>(&'a self, mail: &'a Mail) -> Sending<'a> {
        Box::pin(async move {
            match self.transport.send_raw(&mail.envelope, &mail.bytes).await {
                Ok(_) => Ok(()),
                Err(error) => Err(judged(&error)),
            }
        })
    }
}

/// 5yz is the end for this recipient; but a login that is refused (53z) is a setting of ours, which
/// somebody will mend, and everything else may pass.
fn judged(error: &lettre::transport::smtp::Error) -> Failure {
    let code = error.status().map(|code| code.to_string());
    let is_login = code.as_ref().is_some_and(|code| code.starts_with("53"));
    let text = one_error_line(error);
    if error.is_permanent() && !is_login {
        Failure::Never { error: text }
    } else {
        Failure::Later { error: text, wish: None }
    }
}

/// An error and its causes on one line.
pub(crate) fn one_error_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !line.contains(&said) {
            line = format!("{line}: {said}");
        }
        cause = inner.source();
    }
    crate::letter::one_line(&line)
}
