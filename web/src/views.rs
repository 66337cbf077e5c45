//! What the pages look at: small views of the other parts, which the program implements.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use jiff::tz::TimeZone;
use rrd::{Clock, Labels, Timestamp};

use crate::graph::Severity;
use crate::sessions::Sessions;

/// All that the web part is given. Cheap to clone.
#[derive(Clone)]
pub struct Web {
    /// The archives, for graphs and queries.
    pub read: Arc<dyn query::Read>,
    /// Tells handlers the time.
    pub clock: Arc<dyn Clock>,
    /// Instances, as the registry knows them.
    pub fleet: Arc<dyn FleetView>,
    /// Alerts, as the engine knows them.
    pub alerts: Arc<dyn AlertsView>,
    /// Mints tokens.
    pub enrolment: Arc<dyn EnrolmentView>,
    /// The program's own state.
    pub health: Arc<dyn HealthView>,
    /// Who is signed in. The program issues the first one-time token from it.
    pub sessions: Arc<Sessions>,
    /// The bearer token with every scope (`ROUNDEL_ADMIN_TOKEN`), if there is one.
    pub admin_token: Option<Arc<str>>,
    /// Where this server is reached (`http://127.0.0.1:4270`), for commands on the pages when the
    /// browser did not say.
    pub public_url: Arc<str>,
    /// The zone of time axes until the browser tells its own.
    pub zone: TimeZone,
}

/// Instances, as the registry knows them.
pub trait FleetView: Send + Sync {
    /// All of them, withdrawn ones included, in any order.
    fn instances(&self) -> Vec<InstanceView>;

    /// The one with this id (32 hex digits).
    fn instance(&self, id: &str) -> Option<InstanceView> {
        self.instances().into_iter().find(|instance| instance.id == id)
    }
}

/// One instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceView {
    /// 32 hex digits.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The labels by which a query finds exactly its series: `instance` and `job`.
    pub selector: Labels,
    /// All its labels.
    pub labels: Labels,
    /// Whether it is heard from.
    pub state: InstanceState,
    /// Why it is in this state, as a sentence.
    pub evidence: String,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// When its last batch came; `None` before the first.
    pub last_seen: Option<Timestamp>,
    /// How it sends, in two words: `roundel agent`, `remote write`.
    pub source: String,
    /// Series it has been granted.
    pub series_count: u64,
    /// What its archive takes on disk, for ever.
    pub file_bytes: u64,
    /// Its retention policy, in the written form.
    pub policy: String,
}

/// Whether an instance is heard from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstanceState {
    /// Silent for long, and nothing says that it is gone.
    Lost,
    /// Nothing came for longer than a heartbeat.
    Silent,
    /// It is not believed: what it sends is kept, and nothing is judged by it.
    Quarantined,
    /// It said that it would be back.
    Maintenance,
    /// Enrolled; nothing came yet.
    Waiting,
    /// It reports.
    Up,
    /// Said to be gone: its archive is kept, nothing is expected from it.
    Withdrawn,
    /// Gone, by the word of its cloud.
    Terminated,
    /// Put out for good.
    Revoked,
    /// Gone for a while.
    Archived,
}

impl InstanceState {
    /// True when nothing is expected from it.
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Withdrawn | Self::Terminated | Self::Revoked | Self::Archived)
    }
}

/// Alerts, as the engine knows them.
pub trait AlertsView: Send + Sync {
    /// Those pending or firing.
    fn open(&self) -> Vec<AlertView>;

    /// The newest `limit` transitions, newest first.
    fn history(&self, limit: usize) -> Vec<TransitionView>;

    /// What became of the notices.
    fn deliveries(&self) -> DeliveriesView;

    /// The rules in order of file and place, each with its alerts.
    fn rules(&self) -> Vec<RuleView> {
        Vec::new()
    }
}

/// A rule and its open alerts, as programs ask for them.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleView {
    /// Its name.
    pub name: String,
    /// The file it stands in.
    pub file: String,
    /// Its query.
    pub query: String,
    /// From one evaluation to the next, in milliseconds.
    pub every_ms: u64,
    /// How long its milder breach must last, in milliseconds.
    pub for_ms: u64,
    /// Laid over the labels of its alerts.
    pub labels: Labels,
    /// Its sentence, with places to fill in.
    pub summary: String,
    /// Why its newest evaluation failed, if it did.
    pub problem: Option<String>,
    /// Its newest evaluation.
    pub evaluated: Option<Timestamp>,
    /// Those open.
    pub alerts: Vec<RuleAlert>,
}

/// An open alert of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleAlert {
    /// Labels of the series, the rule's laid over them.
    pub labels: Labels,
    /// Where it stands.
    pub level: Level,
    /// When it was opened.
    pub opened: Timestamp,
    /// The value last judged; `None` when its data are missing.
    pub value: Option<f64>,
    /// The rule's sentence about it, perhaps empty.
    pub summary: String,
    /// The value last judged, written with its unit.
    pub reading: String,
    /// The limit it passed, written with its unit.
    pub threshold: String,
}

/// An alert that is not OK.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertView {
    /// The rule's name.
    pub rule: String,
    /// What it says, for a person.
    pub summary: String,
    /// The labels of the series it is about.
    pub labels: Labels,
    /// The instance it is about, if it is about one.
    pub instance: Option<InstanceRef>,
    /// Where it stands.
    pub level: Level,
    /// Over the threshold, but not for long enough yet.
    pub pending: bool,
    /// The value last judged, written with its unit.
    pub value: String,
    /// The limit it passed, written with its unit: `> 90 %`.
    pub threshold: String,
    /// When it came to stand there.
    pub since: Timestamp,
}

/// An instance's id and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRef {
    /// 32 hex digits.
    pub id: String,
    /// What people call it.
    pub name: String,
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// Its data are missing: nobody knows.
    Unknown,
    /// Someone should look.
    Warning,
    /// Someone must act.
    Critical,
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Warning => Self::Warning,
            Severity::Critical => Self::Critical,
        }
    }
}

/// One change of an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct TransitionView {
    /// When it was decided.
    pub at: Timestamp,
    /// The rule's name.
    pub rule: String,
    /// The labels of the series.
    pub labels: Labels,
    /// The instance it is about, if it is about one.
    pub instance: Option<InstanceRef>,
    /// Where it stood.
    pub from: Level,
    /// Where it stands since.
    pub to: Level,
    /// The value that decided, written with its unit.
    pub value: String,
    /// The limit it was held against.
    pub threshold: String,
}

/// What became of the notices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeliveriesView {
    /// One line per channel: mail, each webhook.
    pub channels: Vec<ChannelView>,
    /// Notices that were given up, newest first; a bounded list.
    pub dead: Vec<DeadLetterView>,
}

/// One way to a person or a program.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelView {
    /// `mail`, or the webhook's name.
    pub name: String,
    /// Where notices go: a folder, a host, a URL without its secrets.
    pub target: String,
    /// Delivered since the start of the log.
    pub delivered: u64,
    /// Not delivered yet.
    pub waiting: u64,
    /// Given up.
    pub dead: u64,
    /// The last error, if the last attempt failed.
    pub last_error: Option<String>,
}

/// A notice that was given up.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetterView {
    /// When it was given up.
    pub at: Timestamp,
    /// On which channel.
    pub channel: String,
    /// What it was about.
    pub subject: String,
    /// Why.
    pub reason: String,
}

/// A promise of an answer.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Mints tokens.
pub trait EnrolmentView: Send + Sync {
    /// A new token, once it is durable. The error is a sentence for the page.
    fn mint(&self, kind: TokenKind, note: String) -> Pending<Result<Minted, String>>;

    /// Tokens that are still good, newest first; a bounded list.
    fn tokens(&self) -> Vec<TokenView>;
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Enrols one of our agents.
    Join,
    /// Sends Prometheus remote write for any number of instances.
    Relay,
}

/// A new token; shown once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    /// The secret.
    pub token: String,
    /// When it stops being good, if it does.
    pub expires_at: Option<Timestamp>,
}

/// A token without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenView {
    /// What it is good for.
    pub kind: TokenKind,
    /// What the person who minted it wrote.
    pub note: String,
    /// When it was minted.
    pub minted_at: Timestamp,
    /// When it stops being good, if it does.
    pub expires_at: Option<Timestamp>,
    /// How many instances came by it.
    pub used: u64,
}

/// The program's own state.
pub trait HealthView: Send + Sync {
    /// True once recovery is done and the worker runs: what is stored can be read.
    fn recovered(&self) -> bool;

    /// True where samples are taken, too: false from the moment on at which the journal cannot be written.
    fn ready(&self) -> bool;

    /// Groups of facts, in the order of the page.
    fn facts(&self) -> Vec<FactGroup>;

    /// The program's own counters as Prometheus text, appended to `out`.
    fn metrics(&self, out: &mut String);
}

/// Facts that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct FactGroup {
    /// The heading.
    pub title: String,
    /// What stands under it.
    pub facts: Vec<Fact>,
}

/// One fact about the program.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// What it is.
    pub name: String,
    /// How much of it.
    pub value: FactValue,
    /// Whether it is as it should be.
    pub level: Level,
    /// What it means, or what to do; may be empty.
    pub note: String,
}

/// A fact's value; the page writes it out.
#[derive(Clone, Debug, PartialEq)]
pub enum FactValue {
    /// A number of things.
    Count(u64),
    /// Bytes.
    Bytes(u64),
    /// A share, 0 to 1; drawn as a bar too.
    Share(f64),
    /// A length of time in milliseconds.
    Millis(u64),
    /// A moment.
    Moment(Timestamp),
    /// Words.
    Text(String),
}
