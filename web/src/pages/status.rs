//! Status: how the program itself is doing.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use rrd::Timestamp;

use super::answer;
use super::shell::{Shell, level_class};
use crate::views::{Fact, FactGroup, FactValue, Level, Web};
use crate::words;

#[derive(Template)]
#[template(path = "status.html")]
struct Page {
    shell: Shell,
    summary: String,
    groups: Vec<Group>,
}

struct Group {
    title: String,
    facts: Vec<Row>,
}

struct Row {
    name: String,
    value: String,
    note: String,
    class: &'static str,
    /// Percent, for the bar.
    share: Option<u8>,
}

/// `GET /status`
pub(crate) async fn show(State(web): State<Web>, headers: HeaderMap) -> Response {
    let shell = Shell::of(&web, &headers, "/status");
    let now = web.clock.wall();
    let groups = web.health.facts();
    let worst = groups.iter().flat_map(|group| &group.facts).map(|fact| fact.level).max();
    let summary = match (web.health.ready(), worst.unwrap_or(Level::Ok)) {
        (false, _) => "Recovering: samples are taken, but queries may miss the newest.",
        (true, Level::Ok) => "All is as it should be.",
        (true, _) => "Something below needs a look.",
    };
    let page = Page {
        summary: summary.to_owned(),
        groups: groups.into_iter().map(|group| Group::of(group, now)).collect(),
        shell,
    };
    answer(StatusCode::OK, &page)
}

impl Group {
    fn of(group: FactGroup, now: Timestamp) -> Self {
        let facts = group.facts.into_iter().map(|fact| Row::of(fact, now)).collect();
        Self { title: group.title, facts }
    }
}

impl Row {
    fn of(fact: Fact, now: Timestamp) -> Self {
        Self {
            value: written(&fact.value, now),
            share: share(&fact.value),
            class: level_class(fact.level),
            name: fact.name,
            note: fact.note,
        }
    }
}

fn written(value: &FactValue, now: Timestamp) -> String {
    match value {
        FactValue::Count(count) => words::count(*count),
        FactValue::Bytes(bytes) => words::bytes(*bytes),
        FactValue::Share(share) => format!("{:.1} %", share * 100.0),
        FactValue::Millis(millis) => words::length(*millis),
        FactValue::Moment(at) => words::ago(*at, now),
        FactValue::Text(text) => text.clone(),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=100")]
fn share(value: &FactValue) -> Option<u8> {
    match value {
        FactValue::Share(share) => Some((share.clamp(0.0, 1.0) * 100.0).round() as u8),
        _ => None,
    }
}
