//! Alerts: what is open, what changed, and what became of the notices.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::answer;
use super::shell::{AlertRow, Shell, level_class, level_name, tags};
use crate::views::{ChannelView, InstanceRef, TransitionView, Web};
use crate::words;

/// Transitions on the page.
const HISTORY: usize = 100;
/// Open alerts on the page: beyond, nobody reads on, and the first rule to mend is on top.
const MOST_OPEN: usize = 500;

#[derive(Template)]
#[template(path = "alerts.html")]
struct Page {
    shell: Shell,
    summary: String,
    open: Vec<AlertRow>,
    channels: Vec<ChannelView>,
    dead: Vec<Letter>,
    history: Vec<Change>,
}

struct Letter {
    at: String,
    channel: String,
    subject: String,
    reason: String,
}

struct Change {
    at: String,
    at_iso: String,
    from: &'static str,
    from_class: &'static str,
    to: &'static str,
    to_class: &'static str,
    rule: String,
    instance: Option<InstanceRef>,
    labels: Vec<(String, String)>,
    value: String,
    threshold: String,
}

/// `GET /alerts`
pub(crate) async fn show(State(web): State<Web>, headers: HeaderMap) -> Response {
    let shell = Shell::of(&web, &headers, "/alerts");
    let now = web.clock.wall();
    let mut open = web.alerts.open();
    open.sort_by(|a, b| {
        a.pending.cmp(&b.pending).then(b.level.cmp(&a.level)).then(b.since.cmp(&a.since))
    });
    let pending = open.iter().filter(|alert| alert.pending).count();
    let firing = open.len() - pending;
    let deliveries = web.alerts.deliveries();
    let dead = deliveries.dead.into_iter().map(|letter| Letter {
        at: words::moment(letter.at, &shell.zone),
        channel: letter.channel,
        subject: letter.subject,
        reason: letter.reason,
    });
    let history = web.alerts.history(HISTORY);
    let page = Page {
        summary: format!("{firing} open · {pending} pending"),
        open: open.into_iter().take(MOST_OPEN).map(|alert| AlertRow::of(alert, now)).collect(),
        channels: deliveries.channels,
        dead: dead.collect(),
        history: history.into_iter().map(|change| Change::of(change, &shell)).collect(),
        shell,
    };
    answer(StatusCode::OK, &page)
}

impl Change {
    fn of(change: TransitionView, shell: &Shell) -> Self {
        Self {
            at: words::moment(change.at, &shell.zone),
            at_iso: words::iso(change.at),
            from: level_name(change.from),
            from_class: level_class(change.from),
            to: level_name(change.to),
            to_class: level_class(change.to),
            rule: change.rule,
            instance: change.instance,
            labels: tags(&change.labels, &["__name__", "instance", "job"]),
            value: change.value,
            threshold: change.threshold,
        }
    }
}
