//! `/api/v1/query` and `/api/v1/query_range`: PromQL over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use query::{Answer, Error, Expr, Limits, Options, Patience, Range, Read, Value};
use rrd::Timestamp;

use super::document::{Beside, Document, resolutions};
use super::request::{BadParam, Params, bad};
use super::turn::{LONGEST_WAIT, at_once, in_turn};
use super::{CUT, json, problem};
use crate::views::Web;

/// `query`, `time`, `timeout`, `limit`, `stats`
pub(crate) async fn instant(State(web): State<Web>, params: Params) -> Response {
    let asked = || -> Result<_, BadParam> {
        let at = params.moment("time")?.unwrap_or_else(|| web.clock.wall());
        Asked::of(&params, When::At(at))
    };
    answered(&web, asked()).await
}

/// `query`, `start`, `end`, `step`, `timeout`, `limit`, `stats`, and `resolution=step` for coarse
/// rows
pub(crate) async fn range(State(web): State<Web>, params: Params) -> Response {
    let asked = || -> Result<_, BadParam> {
        let (start, end) = (params.need_moment("start")?, params.need_moment("end")?);
        if end < start {
            return Err(bad("end", "end timestamp must not be before start time"));
        }
        let range = Range { start, end, step: params.step()? };
        check_points(range)?;
        let coarse = match params.get("resolution") {
            None | Some("finest") => false,
            Some("step") => true,
            Some(_) => return Err(bad("resolution", "either `step` or `finest`")),
        };
        Asked::of(&params, When::Over(range, Options { coarse }))
    };
    answered(&web, asked()).await
}

/// `query`, `start`, `end`: there are no exemplars here, but a data source asks for them.
pub(crate) async fn exemplars(params: Params) -> Response {
    let check = || -> Result<(), BadParam> {
        let (start, end) = (params.moment("start")?, params.moment("end")?);
        if start.zip(end).is_some_and(|(start, end)| end < start) {
            return Err(BadParam("end timestamp must not be before start timestamp".to_owned()));
        }
        let text = params.query()?;
        Expr::parse(text).map(drop).map_err(|error| bad("query", &error.to_string()))
    };
    check().map_or_else(Response::from, |()| json::success("[]"))
}

/// `query`, written as a person would write it
pub(crate) async fn format(params: Params) -> Response {
    syntax(&params, |text| query::prettified(text).map(|text| json::quoted(&text)))
}

/// `query`, as a tree
pub(crate) async fn parse(params: Params) -> Response {
    syntax(&params, query::tree)
}

fn syntax(params: &Params, data: impl FnOnce(&str) -> Result<String, Error>) -> Response {
    match params.query() {
        Ok(text) => data(text).map_or_else(|error| refused(&error), |data| json::success(&data)),
        Err(bad) => bad.into(),
    }
}

/// What panels of one instance ask with, and more.
const SHORT_TEXT: usize = 256;

/// One query as it was asked.
struct Asked {
    text: String,
    when: When,
    wait: Duration,
    limit: usize,
    wants_stats: bool,
    warnings: Vec<String>,
}

enum When {
    At(Timestamp),
    Over(Range, Options),
}

impl Asked {
    fn of(params: &Params, when: When) -> Result<Self, BadParam> {
        let wait = params.duration("timeout")?.map_or(LONGEST_WAIT, |wait| wait.min(LONGEST_WAIT));
        let mut warnings = Vec::new();
        if params.duration("lookback_delta")?.is_some() {
            let note = "lookback_delta is not used: a series is seen for its heartbeat after its \
                last reading";
            warnings.push(note.to_owned());
        }
        Ok(Self {
            text: params.query()?.to_owned(),
            when,
            wait,
            limit: params.limit("limit")?.unwrap_or(usize::MAX),
            wants_stats: params.get("stats").is_some(),
            warnings,
        })
    }

    fn evaluate(&self, expr: &Expr, read: &dyn Read, limits: &Limits) -> Result<Answer, Error> {
        match self.when {
            When::At(at) => expr.instant(read, at, limits),
            When::Over(range, options) => expr.range_with(read, range, limits, options),
        }
    }

    /// True where it is read in some ten microseconds: long texts and patterns may take more.
    fn is_short(&self) -> bool {
        self.text.len() <= SHORT_TEXT && !self.text.contains('~') && !self.wait.is_zero()
    }

    /// The answer, if it is a small one.
    fn evaluate_small(&self, web: &Web) -> Option<(Answer, Timings)> {
        let began = web.clock.monotonic();
        let expr = Expr::parse(&self.text).ok()?;
        let prepared = web.clock.monotonic();
        let evaluate = |read: &dyn Read, limits: &Limits| self.evaluate(&expr, read, limits);
        let answer = expr.if_small(&*web.read, evaluate)?.ok()?;
        Some((answer, Timings { began, queued: began, prepared, done: web.clock.monotonic() }))
    }

    /// The answer cut to its limit, and what is said beside it.
    fn finish(mut self, mut answer: Answer, timings: &Timings) -> Document {
        self.warnings.append(&mut answer.warnings);
        let is_cut = match &mut answer.value {
            Value::Vector(points) => cut(points, self.limit),
            Value::Matrix(lines) => cut(lines, self.limit),
            Value::Scalar { .. } | Value::Text(_) => false,
        };
        if is_cut {
            self.warnings.push(CUT.to_owned());
        }
        let stats = self.wants_stats.then(|| timings.stats(&answer));
        let at = match self.when {
            When::At(at) => at,
            When::Over(range, _) => range.start,
        };
        Document::of_answer(answer, &Beside { at, warnings: self.warnings, stats })
    }
}

fn cut<T>(items: &mut Vec<T>, limit: usize) -> bool {
    let is_longer = items.len() > limit;
    items.truncate(limit);
    is_longer
}

/// Refused before anything is read, in Prometheus' words.
fn check_points(range: Range) -> Result<(), BadParam> {
    let gaps = range.end.millis_since(range.start) / range.step.as_millis().cast_signed();
    if usize::try_from(gaps).is_ok_and(|gaps| gaps < query::POINTS_PER_LINE) {
        return Ok(());
    }
    let message = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing \
        the query resolution (?step=XX)";
    Err(BadParam(message.to_owned()))
}

/// Evaluates at once or in turn, and writes the answer.
async fn answered(web: &Web, asked: Result<Asked, BadParam>) -> Response {
    let asked = match asked {
        Ok(asked) => asked,
        Err(bad) => return bad.into(),
    };
    if asked.is_short()
        && let Some((answer, timings)) = at_once(web, || asked.evaluate_small(web))
    {
        return asked.finish(answer, &timings).respond();
    }
    let (read, clock, wait) = (Arc::clone(&web.read), Arc::clone(&web.clock), asked.wait);
    let began = clock.monotonic();
    let work = move |patience: &Patience| -> Result<Document, Error> {
        let queued = clock.monotonic();
        let expr = Expr::parse(&asked.text)?;
        let prepared = clock.monotonic();
        let limits = Limits { patience: patience.clone(), ..Limits::default() };
        let answer = asked.evaluate(&expr, &*read, &limits)?;
        let timings = Timings { began, queued, prepared, done: clock.monotonic() };
        Ok(asked.finish(answer, &timings))
    };
    match in_turn(web, wait, work).await {
        Ok(Ok(document)) => document.respond(),
        Ok(Err(error)) => refused(&error),
        Err(refused) => refused,
    }
}

/// Moments of one evaluation.
struct Timings {
    began: Duration,
    queued: Duration,
    prepared: Duration,
    done: Duration,
}

impl Timings {
    /// `stats` as Prometheus gives them, and the row steps that answered.
    fn stats(&self, answer: &Answer) -> String {
        let seconds = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
        let mut out = String::from("{\"timings\":{");
        for (name, from, to) in [
            ("evalTotalTime", self.queued, self.done),
            ("resultSortTime", self.done, self.done),
            ("queryPreparationTime", self.queued, self.prepared),
            ("innerEvalTime", self.prepared, self.done),
            ("execQueueTime", self.began, self.queued),
            ("execTotalTime", self.began, self.done),
        ] {
            if !out.ends_with('{') {
                out.push(',');
            }
            json::text(&mut out, name);
            out.push(':');
            json::number(&mut out, seconds(from, to));
        }
        out.push_str("},\"resolutions\":");
        resolutions(&mut out, &answer.resolutions);
        out.push('}');
        out
    }
}

fn refused(error: &Error) -> Response {
    match error {
        Error::Parse { .. } | Error::Unsupported { .. } => bad("query", &error.to_string()).into(),
        Error::Execution(message) if message.starts_with("invalid expression type") => {
            problem(StatusCode::BAD_REQUEST, "bad_data", message)
        }
        Error::Limit(_) | Error::Execution(_) => {
            problem(StatusCode::UNPROCESSABLE_ENTITY, "execution", &error.to_string())
        }
        Error::Cancelled => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "canceled", &error.to_string())
        }
    }
}
