//! One instance: its facts, its open alerts and its graphs.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::tz::TimeZone;
use rrd::Timestamp;

use super::graph::Wish;
use super::shell::{AlertRow, Shell, state_words, tags};
use super::{answer, aside, broken, message};
use crate::graph::{Frame, Graph, Size, draw};
use crate::panel::{fitting, graph_of, series_of};
use crate::period::{Asked, Period, Window};
use crate::views::{InstanceState, InstanceView, Web};
use crate::words;

/// Two of these stand side by side on a laptop; wide and low shows slopes best.
const PANEL: Size = Size { width: 600, height: 190 };

#[derive(Template)]
#[template(path = "instance.html")]
struct Page {
    shell: Shell,
    name: String,
    state: &'static str,
    class: &'static str,
    labels: Vec<(String, String)>,
    tabs: Vec<Tab>,
    live: bool,
    step_ms: u64,
    alerts: Vec<AlertRow>,
    window: String,
    graphs: Vec<Panel>,
    blank: &'static str,
    facts: Vec<(&'static str, String)>,
}

struct Tab {
    href: String,
    text: &'static str,
    current: bool,
}

struct Panel {
    key: String,
    title: String,
    unit: String,
    svg: String,
    svg_href: String,
    legend: Vec<Entry>,
    note: Option<String>,
}

struct Entry {
    hue: &'static str,
    label: String,
    now: String,
    min: String,
    average: String,
    max: String,
}

/// `GET /i/{id}?period|from|to`
pub(crate) async fn show(
    State(web): State<Web>,
    Path(id): Path<String>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
) -> Response {
    let Some(instance) = web.fleet.instance(&id) else {
        let text = "No instance has this id. It may have been forgotten.";
        return message(&web, &headers, StatusCode::NOT_FOUND, "No such instance", text);
    };
    let now = web.clock.wall();
    let asked = match wish.asked(now) {
        Ok(asked) => asked,
        Err(problem) => {
            return message(&web, &headers, StatusCode::BAD_REQUEST, "Cannot read this", problem);
        }
    };
    let shell = Shell::of(&web, &headers, "/");
    let job = web.clone();
    match aside(move || page(&job, shell, &instance, asked, now)).await {
        Some(page) => answer(StatusCode::OK, &page),
        None => broken(&web, &headers),
    }
}

fn page(web: &Web, shell: Shell, instance: &InstanceView, asked: Asked, now: Timestamp) -> Page {
    let series = series_of(&*web.read, &instance.selector);
    let window = Window::of(asked, &series, now);
    let query = query_of(asked);
    let graphs = fitting(&series)
        .into_iter()
        .filter_map(|template| {
            let drawn = graph_of(&*web.read, template, &instance.selector, &window, &shell.zone);
            let address = |key: &str| format!("/g/{}/{key}.svg?{query}", instance.id);
            match drawn {
                Ok(graph) => Some(Panel::of(&graph, address(&graph.key))),
                Err(error) => {
                    tracing::warn!(instance = instance.id, %error, "a graph cannot be drawn");
                    None
                }
            }
        })
        .collect();
    let (state, class) = state_words(instance.state);
    let alerts = web.alerts.open().into_iter();
    let mine = alerts.filter(|alert| alert.instance.as_ref().is_some_and(|i| i.id == instance.id));
    Page {
        name: instance.name.clone(),
        state,
        class,
        labels: tags(&instance.labels, &["instance"]),
        tabs: tabs(instance, asked),
        live: matches!(asked, Asked::Period(_)),
        step_ms: window.step.as_millis(),
        alerts: mine.map(|alert| AlertRow::of(alert, now)).collect(),
        window: window_words(&window, asked, now, &shell.zone),
        graphs,
        blank: blank(instance, series.is_empty()),
        facts: facts(instance, now, &shell.zone),
        shell,
    }
}

impl Panel {
    fn of(graph: &Graph, svg_href: String) -> Self {
        let legend = graph.series.iter().map(|line| {
            let stats = line.stats();
            let say = |value: Option<f64>| value.map_or("–".to_owned(), |v| graph.unit.text(v));
            Entry {
                hue: line.hue.class(),
                label: line.label.clone(),
                now: say(stats.and_then(|stats| stats.now)),
                min: say(stats.map(|stats| stats.min)),
                average: say(stats.map(|stats| stats.average)),
                max: say(stats.map(|stats| stats.max)),
            }
        });
        let legend: Vec<Entry> = legend.collect();
        let note = (graph.left_out > 0).then(|| {
            let all = graph.left_out + graph.series.len();
            format!("The {} largest of {all} are shown.", graph.series.len())
        });
        Self {
            key: graph.key.clone(),
            title: graph.title.clone(),
            unit: graph.unit.symbol.clone(),
            svg: draw(graph, PANEL, Frame::Inline),
            svg_href,
            // A stack is read from its top, so its legend starts there.
            legend: if graph.stack { legend.into_iter().rev().collect() } else { legend },
            note,
        }
    }
}

fn query_of(asked: Asked) -> String {
    match asked {
        Asked::Period(period) => format!("period={}", period.name()),
        Asked::Between(span) => format!("from={}&to={}", span.start(), span.end()),
    }
}

fn tabs(instance: &InstanceView, asked: Asked) -> Vec<Tab> {
    Period::ALL
        .into_iter()
        .map(|period| Tab {
            href: format!("/i/{}?period={}", instance.id, period.name()),
            text: period.title(),
            current: asked == Asked::Period(period),
        })
        .collect()
}

/// What the graphs show: how much of the period, and averages of how long.
fn window_words(window: &Window, asked: Asked, now: Timestamp, zone: &TimeZone) -> String {
    let (start, end) = (window.span.start(), window.span.end());
    let width = u64::try_from(end.millis_since(start)).unwrap_or(0);
    let span = match asked {
        Asked::Period(_) if window.shortened => {
            format!("Last {}: there is nothing older yet", words::length(width))
        }
        Asked::Period(period) => format!("Last {}", period.name()),
        Asked::Between(_) => {
            format!("{} to {}", words::moment(start, zone), words::moment(end.min(now), zone))
        }
    };
    format!("{span} · {}", window.consolidation())
}

fn blank(instance: &InstanceView, silent: bool) -> &'static str {
    match instance.state {
        InstanceState::Waiting => "It is enrolled, and its first readings are awaited.",
        _ if silent => "No readings of it are stored.",
        _ => {
            "It reports, but nothing that a graph is made for. Ask for its series at /api/v1/query."
        }
    }
}

fn facts(instance: &InstanceView, now: Timestamp, zone: &TimeZone) -> Vec<(&'static str, String)> {
    let seen = instance.last_seen.map_or("never".to_owned(), |at| words::ago(at, now));
    vec![
        ("State", format!("{}: {}", state_words(instance.state).0, instance.evidence)),
        ("Sends by", instance.source.clone()),
        ("Last seen", seen),
        ("Enrolled", words::moment(instance.enrolled_at, zone)),
        ("Series", words::count(instance.series_count)),
        ("Disk, for ever", words::bytes(instance.file_bytes)),
        ("Kept", kept(&instance.policy)),
        ("Id", instance.id.clone()),
    ]
}

/// The archives of a policy, without its other settings.
fn kept(policy: &str) -> String {
    let archives = policy.split(';').next().unwrap_or_default();
    archives.replace(',', ", ")
}
