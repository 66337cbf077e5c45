//! The shell: what every page has around its content.

use axum::http::{HeaderMap, header};
use jiff::tz::TimeZone;
use rrd::Labels;

use crate::assets::{LIVE, LOGO, STYLE};
use crate::guard::cookies;
use crate::sessions::cookie;
use crate::views::{AlertView, InstanceRef, InstanceState, Level, Web};
use crate::words;

/// What every page has around its content.
pub(super) struct Shell {
    pub(super) style: &'static str,
    pub(super) script: &'static str,
    pub(super) logo: &'static str,
    pub(super) version: &'static str,
    pub(super) zone_name: String,
    pub(super) zone: TimeZone,
    current: &'static str,
    open_alerts: usize,
    worst: Level,
}

/// One entry of the navigation.
pub(super) struct Link {
    pub(super) href: &'static str,
    pub(super) text: &'static str,
    pub(super) current: bool,
    pub(super) count: usize,
    pub(super) class: &'static str,
}

impl Shell {
    /// The shell around the page at `current`.
    pub(super) fn of(web: &Web, headers: &HeaderMap, current: &'static str) -> Self {
        let open = web.alerts.open();
        let firing = || open.iter().filter(|alert| !alert.pending);
        let zone = zone_of(web, headers);
        Self {
            style: &STYLE.path,
            script: &LIVE.path,
            logo: &LOGO.path,
            version: env!("CARGO_PKG_VERSION"),
            zone_name: zone.iana_name().unwrap_or("the server's zone").to_owned(),
            zone,
            current,
            open_alerts: firing().count(),
            worst: firing().map(|alert| alert.level).max().unwrap_or(Level::Ok),
        }
    }

    pub(super) fn links(&self) -> [Link; 4] {
        [("/", "Fleet"), ("/alerts", "Alerts"), ("/enrol", "Add"), ("/status", "Status")].map(
            |(href, text)| Link {
                href,
                text,
                current: href == self.current,
                count: if href == "/alerts" { self.open_alerts } else { 0 },
                class: level_class(self.worst),
            },
        )
    }
}

/// Zone names are shorter than this.
const LONGEST_ZONE: usize = 64;

/// The viewer's zone, as its browser told, or the server's.
pub(super) fn zone_of(web: &Web, headers: &HeaderMap) -> TimeZone {
    let all = cookies(headers);
    let told = cookie(&all, "roundel-zone").next().map(|name| name.replace("%2F", "/"));
    told.and_then(|name| zone_named(&name)).unwrap_or_else(|| web.zone.clone())
}

/// The zone of this IANA name.
pub(super) fn zone_named(name: &str) -> Option<TimeZone> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    let sane = !name.is_empty() && name.len() <= LONGEST_ZONE && name.chars().all(plain);
    sane.then(|| TimeZone::get(name).ok()).flatten()
}

/// The server as the browser sees it: `http://collector:4270`.
pub(super) fn server_url(web: &Web, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    let scheme = web.public_url.split_once("://").map_or("http", |(scheme, _)| scheme);
    match host.filter(|host| !host.is_empty() && host.len() <= 255 && host.chars().all(plain)) {
        Some(host) => format!("{scheme}://{host}"),
        None => web.public_url.to_string(),
    }
}

/// Its class in the style sheet; the word for it stands beside it always.
pub(super) const fn level_class(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Unknown => "unknown",
        Level::Warning => "warning",
        Level::Critical => "critical",
    }
}

/// Its name.
pub(super) const fn level_name(level: Level) -> &'static str {
    match level {
        Level::Ok => "OK",
        Level::Unknown => "Unknown",
        Level::Warning => "Warning",
        Level::Critical => "Critical",
    }
}

/// Name and class of an instance's state.
pub(super) const fn state_words(state: InstanceState) -> (&'static str, &'static str) {
    match state {
        InstanceState::Up => ("Up", "ok"),
        InstanceState::Lost => ("Lost", "silent"),
        InstanceState::Silent => ("Silent", "silent"),
        InstanceState::Quarantined => ("Quarantined", "waiting"),
        InstanceState::Maintenance => ("Maintenance", "waiting"),
        InstanceState::Waiting => ("Waiting", "waiting"),
        InstanceState::Withdrawn => ("Withdrawn", "withdrawn"),
        InstanceState::Terminated => ("Terminated", "withdrawn"),
        InstanceState::Revoked => ("Revoked", "withdrawn"),
        InstanceState::Archived => ("Archived", "withdrawn"),
    }
}

/// Labels as pairs, without those that only repeat the name.
pub(super) fn tags(labels: &Labels, hidden: &[&str]) -> Vec<(String, String)> {
    labels
        .iter()
        .filter(|(name, _)| !hidden.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// An open alert as the pages show it.
pub(super) struct AlertRow {
    pub(super) level: &'static str,
    pub(super) class: &'static str,
    pub(super) rule: String,
    pub(super) summary: String,
    pub(super) instance: Option<InstanceRef>,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: String,
    pub(super) threshold: String,
    pub(super) since: String,
    pub(super) since_iso: String,
}

impl AlertRow {
    pub(super) fn of(alert: AlertView, now: rrd::Timestamp) -> Self {
        Self {
            level: if alert.pending { "Pending" } else { level_name(alert.level) },
            class: if alert.pending { "pending" } else { level_class(alert.level) },
            labels: tags(&alert.labels, &["__name__", "instance", "job"]),
            since: words::ago(alert.since, now),
            since_iso: words::iso(alert.since),
            rule: alert.rule,
            summary: alert.summary,
            instance: alert.instance,
            value: alert.value,
            threshold: alert.threshold,
        }
    }
}
