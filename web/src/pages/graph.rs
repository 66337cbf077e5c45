//! `GET /g/{id}/{graph}.svg`: one graph as an image of its own.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rrd::Span;
use serde::Deserialize;

use super::aside;
use super::shell::{zone_named, zone_of};
use crate::api::request::parse_moment;
use crate::graph::{Frame, Size, Theme, draw};
use crate::panel::{fitting, graph_of, series_of};
use crate::period::{Asked, Period, Window};
use crate::views::Web;

/// The usual size of an image.
const USUAL: Size = Size { width: 720, height: 260 };

/// What the address asks for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wish {
    /// `hour`, `day`, `week`, `month` or `year`.
    pub(crate) period: Option<String>,
    /// Milliseconds since 1970, or RFC 3339.
    pub(crate) from: Option<String>,
    /// The same; now, when left out.
    pub(crate) to: Option<String>,
    tz: Option<String>,
    w: Option<u32>,
    h: Option<u32>,
    theme: Option<String>,
}

impl Wish {
    /// The time asked for. Errors with a sentence.
    pub(crate) fn asked(&self, now: rrd::Timestamp) -> Result<Asked, &'static str> {
        let moment = |text: &str| match text.parse::<i64>() {
            Ok(millis) => Some(rrd::Timestamp::from_millis(millis)),
            Err(_) => parse_moment(text),
        };
        if let Some(from) = &self.from {
            let sane = |at: &rrd::Timestamp| at.as_millis().unsigned_abs() < FURTHEST_MS;
            let from = moment(from).filter(sane).ok_or("from: cannot be read as a moment")?;
            let to = match &self.to {
                Some(to) => moment(to).filter(sane).ok_or("to: cannot be read as a moment")?,
                None => now,
            };
            return Span::new(from, to).map(Asked::Between).ok_or("to: is before from");
        }
        match &self.period {
            None => Ok(Asked::Period(Period::default())),
            Some(name) => Period::named(name)
                .map(Asked::Period)
                .ok_or("period: is one of hour, day, week, month, year"),
        }
    }
}

/// Moments further from 1970 than the year 5138 are a slip of the pen.
const FURTHEST_MS: u64 = 100_000_000_000_000;

/// `GET /g/{id}/{graph}.svg?period|from|to|tz|w|h|theme`
pub(crate) async fn show(
    State(web): State<Web>,
    Path((id, file)): Path<(String, String)>,
    Query(wish): Query<Wish>,
    headers: HeaderMap,
) -> Response {
    let missing = |what: &str| (StatusCode::NOT_FOUND, format!("no such {what}\n")).into_response();
    let Some(key) = file.strip_suffix(".svg").map(str::to_owned) else {
        return missing("format; ask for .svg");
    };
    let Some(instance) = web.fleet.instance(&id) else { return missing("instance") };
    let now = web.clock.wall();
    let asked = match wish.asked(now) {
        Ok(asked) => asked,
        Err(problem) => return (StatusCode::BAD_REQUEST, problem).into_response(),
    };
    let zone = wish.tz.as_deref().and_then(zone_named).unwrap_or_else(|| zone_of(&web, &headers));
    let work = move || {
        let series = series_of(&*web.read, &instance.selector);
        let template = fitting(&series).into_iter().find(|template| template.key == key)?;
        let window = Window::of(asked, &series, now);
        let graph = graph_of(&*web.read, template, &instance.selector, &window, &zone);
        Some(
            graph.map(|graph| (draw(&graph, wish.size(), Frame::Standalone(wish.theme())), window)),
        )
    };
    match aside(work).await {
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(None) => missing("graph"),
        Some(Some(Err(error))) => {
            (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()).into_response()
        }
        Some(Some(Ok((svg, window)))) => {
            let max_age = format!("private, max-age={}", window.step.as_millis().div_ceil(1000));
            (
                [
                    (header::CONTENT_TYPE, "image/svg+xml".to_owned()),
                    (header::CACHE_CONTROL, max_age),
                ],
                svg,
            )
                .into_response()
        }
    }
}

impl Wish {
    fn size(&self) -> Size {
        let size =
            Size { width: self.w.unwrap_or(USUAL.width), height: self.h.unwrap_or(USUAL.height) };
        size.within_limits()
    }

    fn theme(&self) -> Theme {
        match self.theme.as_deref() {
            Some("light") => Theme::Light,
            Some("dark") => Theme::Dark,
            _ => Theme::Auto,
        }
    }
}
