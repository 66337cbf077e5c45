//! The fleet: every instance with its state and three figures.

use std::collections::{BTreeSet, HashMap};

use askama::Template;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use query::{Expr, Limits, Read, Value};
use rrd::{Labels, Span, Step, Timestamp};
use serde::Deserialize;

use super::shell::{Shell, level_class, state_words, tags};
use super::{answer, aside, broken};
use crate::graph::{Hue, Unit, sparkline};
use crate::panel::rows_of;
use crate::views::{AlertView, InstanceState, InstanceView, Level, Web};
use crate::words;

/// Instances on one page: their sparklines are most of its weight.
const PAGE: usize = 200;
/// Labels in the table; the instance's own page has all.
const MOST_TAGS: usize = 4;
/// Sparklines show the last hour at one-minute points, or of a fleet that is younger than
/// [`YOUNG_MS`] the last ten minutes at ten seconds.
const SPARK_POINTS: i64 = 60;
const YOUNG_MS: i64 = 600_000;
const TEN_SECONDS: Step = Step::from_secs(10).expect("ten seconds are not zero");
const MINUTE: Step = Step::from_secs(60).expect("a minute is not zero");

/// One figure of the table: `$by` is the list of labels that tell instances apart, `$window` the
/// width of a point.
struct Figure {
    key: &'static str,
    title: &'static str,
    expr: &'static str,
    unit: &'static str,
    top: Option<f64>,
    hue: Hue,
}

const FIGURES: [Figure; 3] = [
    Figure {
        key: "cpu",
        title: "CPU",
        expr: "100 - 100 * sum by ($by) (rate(node_cpu_seconds_total{mode=\"idle\"}[$window])) \
               / sum by ($by) (rate(node_cpu_seconds_total{mode!~\"guest.*\"}[$window]))",
        unit: "%",
        top: Some(100.0),
        hue: Hue::Blue,
    },
    Figure {
        key: "memory",
        title: "Memory",
        expr: "100 - 100 * max by ($by) (avg_over_time(node_memory_MemAvailable_bytes[$window])) \
               / max by ($by) (avg_over_time(node_memory_MemTotal_bytes[$window]))",
        unit: "%",
        top: Some(100.0),
        hue: Hue::Green,
    },
    Figure {
        key: "load",
        title: "Load",
        expr: "max by ($by) (avg_over_time(node_load1[$window]))",
        unit: "",
        top: None,
        hue: Hue::Purple,
    },
];

#[derive(Template)]
#[template(path = "fleet.html")]
struct Page {
    shell: Shell,
    summary: String,
    query: String,
    columns: Vec<Column>,
    rows: Vec<Row>,
    pages: Option<Pager>,
}

struct Column {
    text: &'static str,
    href: String,
    class: &'static str,
    current: bool,
    direction: &'static str,
}

struct Row {
    id: String,
    name: String,
    state: &'static str,
    evidence: String,
    class: &'static str,
    cells: Vec<Cell>,
    seen: String,
    seen_iso: String,
    labels: Vec<(String, String)>,
    more_labels: usize,
    alerts: usize,
    alert_class: &'static str,
    alert_text: String,
}

struct Cell {
    title: &'static str,
    now: String,
    spark: String,
}

struct Pager {
    before: Option<String>,
    after: Option<String>,
    text: String,
}

/// What the address asks for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wish {
    q: Option<String>,
    sort: Option<String>,
    page: Option<usize>,
}

/// What the queries know of one instance.
#[derive(Default)]
struct Known {
    now: [Option<f64>; FIGURES.len()],
    points: [Vec<Option<f64>>; FIGURES.len()],
}

/// `GET /?q|sort|page`
pub(crate) async fn show(
    State(web): State<Web>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
) -> Response {
    let shell = Shell::of(&web, &headers, "/");
    let job = web.clone();
    match aside(move || page(&job, shell, &wish)).await {
        Some(page) => answer(StatusCode::OK, &page),
        None => broken(&web, &headers),
    }
}

fn page(web: &Web, shell: Shell, wish: &Wish) -> Page {
    let now = web.clock.wall();
    let all = web.fleet.instances();
    let open = web.alerts.open();
    let summary = summary(&all, &open);
    let wanted = wish.q.as_deref().unwrap_or_default().trim().to_lowercase();
    let mut found: Vec<InstanceView> =
        all.into_iter().filter(|instance| mentions(instance, &wanted)).collect();
    let figures = figures(&*web.read, &found, now);
    sort(&mut found, wish.sort.as_deref().unwrap_or_default(), &figures);
    let (rows, pages) = one_page(&found, wish, |instance| {
        row(instance, figures.get(&instance.selector), &open, now)
    });
    Page {
        shell,
        summary,
        query: wish.q.clone().unwrap_or_default(),
        columns: columns(wish),
        rows,
        pages,
    }
}

fn summary(all: &[InstanceView], open: &[AlertView]) -> String {
    let count = |state| all.iter().filter(|instance| instance.state == state).count();
    let mut parts = vec![format!("{} up", count(InstanceState::Up))];
    for (state, word) in [
        (InstanceState::Lost, "lost"),
        (InstanceState::Silent, "silent"),
        (InstanceState::Quarantined, "in quarantine"),
        (InstanceState::Maintenance, "in maintenance"),
        (InstanceState::Waiting, "waiting"),
        (InstanceState::Withdrawn, "withdrawn"),
        (InstanceState::Terminated, "terminated"),
        (InstanceState::Revoked, "revoked"),
        (InstanceState::Archived, "archived"),
    ] {
        let number = count(state);
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    let firing = open.iter().filter(|alert| !alert.pending).count();
    parts.push(match firing {
        0 => "no open alerts".to_owned(),
        _ => words::plural(firing, "open alert", "open alerts"),
    });
    parts.join(" · ")
}

fn mentions(instance: &InstanceView, wanted: &str) -> bool {
    let holds = |text: &str| text.to_lowercase().contains(wanted);
    wanted.is_empty()
        || holds(&instance.name)
        || instance.labels.iter().any(|(name, value)| holds(name) || holds(value))
}

/// The figures of every instance: one query each for the whole fleet, not one an instance.
fn figures(read: &dyn Read, found: &[InstanceView], now: Timestamp) -> HashMap<Labels, Known> {
    let names: BTreeSet<&str> =
        found.iter().flat_map(|one| one.selector.iter().map(|(name, _)| name)).collect();
    let by = names.into_iter().collect::<Vec<_>>().join(",");
    let born = found.iter().map(|one| one.enrolled_at).min().unwrap_or(now);
    let step = if now.millis_since(born) < YOUNG_MS { TEN_SECONDS } else { MINUTE };
    let end = now.floor(step);
    let width = step.as_millis().cast_signed() * SPARK_POINTS;
    let mut known: HashMap<Labels, Known> = HashMap::new();
    let Some(span) = Span::new(end.plus_millis(-width), end) else {
        return known;
    };
    for (at, figure) in FIGURES.iter().enumerate() {
        let text = |window: &str| figure.expr.replace("$by", &by).replace("$window", window);
        match rows_of(read, &text(&step.to_string()), span, step) {
            Ok(lines) => {
                for (labels, points) in lines {
                    known.entry(labels).or_default().points[at] = points;
                }
            }
            Err(error) => tracing::warn!(figure = figure.key, %error, "no sparklines"),
        }
        // Two minutes hold a closed row of every sender, however late its batches are.
        for (labels, value) in newest(read, &text("2m"), now) {
            known.entry(labels).or_default().now[at] = Some(value);
        }
    }
    known
}

fn newest(read: &dyn Read, text: &str, now: Timestamp) -> Vec<(Labels, f64)> {
    let answer = Expr::parse(text).and_then(|expr| expr.instant(read, now, &Limits::default()));
    match answer.map(|answer| answer.value) {
        Ok(Value::Vector(points)) => points
            .into_iter()
            .filter(|point| point.value.is_finite())
            .map(|point| (point.labels, point.value))
            .collect(),
        _ => Vec::new(),
    }
}

/// Withdrawn ones last; figures from the largest down; names in their order otherwise.
fn sort(found: &mut [InstanceView], by: &str, figures: &HashMap<Labels, Known>) {
    let figure = FIGURES.iter().position(|figure| figure.key == by);
    let value = |instance: &InstanceView| {
        let known = figure.and_then(|at| figures.get(&instance.selector)?.now[at]);
        known.unwrap_or(f64::NEG_INFINITY)
    };
    found.sort_by(|a, b| {
        let gone = |instance: &InstanceView| instance.state.is_gone();
        let chosen = match by {
            "state" => a.state.cmp(&b.state),
            "seen" => b.last_seen.cmp(&a.last_seen),
            _ => value(b).total_cmp(&value(a)),
        };
        gone(a).cmp(&gone(b)).then(chosen).then_with(|| a.name.cmp(&b.name)).then(a.id.cmp(&b.id))
    });
}

fn one_page(
    found: &[InstanceView],
    wish: &Wish,
    row: impl Fn(&InstanceView) -> Row,
) -> (Vec<Row>, Option<Pager>) {
    let total = found.len();
    let last = total.saturating_sub(1) / PAGE;
    let page = wish.page.unwrap_or(0).min(last);
    let first = page * PAGE;
    let rows: Vec<Row> = found.iter().skip(first).take(PAGE).map(row).collect();
    let href = |page: usize| format!("{}page={page}", address(wish, wish.sort.as_deref()));
    let pager = (last > 0).then(|| Pager {
        before: (page > 0).then(|| href(page - 1)),
        after: (page < last).then(|| href(page + 1)),
        text: format!("{}–{} of {total}", first + 1, first + rows.len()),
    });
    (rows, pager)
}

fn row(instance: &InstanceView, known: Option<&Known>, open: &[AlertView], now: Timestamp) -> Row {
    let (state, class) = state_words(instance.state);
    let mine: Vec<&AlertView> = open
        .iter()
        .filter(|alert| !alert.pending)
        .filter(|alert| alert.instance.as_ref().is_some_and(|about| about.id == instance.id))
        .collect();
    let worst = mine.iter().map(|alert| alert.level).max().unwrap_or(Level::Ok);
    let rules: Vec<&str> = mine.iter().map(|alert| alert.rule.as_str()).collect();
    let mut labels = tags(&instance.labels, &["instance", "job"]);
    let more_labels = labels.len().saturating_sub(MOST_TAGS);
    labels.truncate(MOST_TAGS);
    Row {
        id: instance.id.clone(),
        name: instance.name.clone(),
        state,
        evidence: instance.evidence.clone(),
        class,
        cells: (0..FIGURES.len()).map(|at| cell(at, &instance.name, known)).collect(),
        seen: instance.last_seen.map_or("never".to_owned(), |at| words::ago(at, now)),
        seen_iso: instance.last_seen.map(words::iso).unwrap_or_default(),
        labels,
        more_labels,
        alerts: mine.len(),
        alert_class: level_class(worst),
        alert_text: rules.join(", "),
    }
}

fn cell(at: usize, name: &str, known: Option<&Known>) -> Cell {
    let figure = &FIGURES[at];
    let unit = Unit::new(figure.unit, 1000);
    let now = known.and_then(|known| known.now[at]);
    let points = known.map(|known| known.points[at].as_slice()).unwrap_or_default();
    let label = format!("{} of {name}", figure.title);
    Cell {
        title: figure.title,
        now: now.map_or("–".to_owned(), |value| unit.text(value)),
        spark: sparkline(points, figure.top, figure.hue, &label),
    }
}

fn columns(wish: &Wish) -> Vec<Column> {
    let sort = wish.sort.as_deref().unwrap_or("name");
    let column = |key: &'static str, text, class, direction| Column {
        text,
        href: address(wish, Some(key)),
        class,
        current: sort == key,
        direction,
    };
    let mut columns = vec![
        column("state", "State", "state", "ascending"),
        column("name", "Name", "name", "ascending"),
    ];
    columns.extend(FIGURES.map(|figure| column(figure.key, figure.title, "metric", "descending")));
    columns.push(column("seen", "Last seen", "seen", "descending"));
    columns
}

/// The address of this page with another order, ready for one more parameter.
fn address(wish: &Wish, sort: Option<&str>) -> String {
    let mut text = String::from("/?");
    for (name, value) in [("q", wish.q.as_deref()), ("sort", sort)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(name);
            text.push('=');
            percent_into(&mut text, value);
            text.push('&');
        }
    }
    text
}

fn percent_into(out: &mut String, text: &str) {
    use std::fmt::Write;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes all");
        }
    }
}
