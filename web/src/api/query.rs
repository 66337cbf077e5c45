//! `/api/v1/query` and `/api/v1/query_range`: PromQL over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use query::{Answer, Error, Expr, Limits, Options, Range, Read};
use tokio::sync::Semaphore;

use super::request::{BadParam, Params, bad};
use super::{json, problem};
use crate::views::Web;

/// Queries evaluated at once: they share the machine with intake, which comes first.
const AT_ONCE: usize = 4;
/// The longest a query may wait for its turn, whatever it asks for.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// `query`, `time`, `timeout`
pub(crate) async fn instant(State(web): State<Web>, params: Params) -> Response {
    let asked = || -> Result<_, BadParam> {
        let at = params.moment("time")?.unwrap_or_else(|| web.clock.wall());
        Ok((params.need("query")?.to_owned(), at, wait(&params)?))
    };
    let (text, at, wait) = match asked() {
        Ok(asked) => asked,
        Err(bad) => return bad.into(),
    };
    let read = Arc::clone(&web.read);
    answered(wait, move || Expr::parse(&text)?.instant(&*read, at, &Limits::default())).await
}

/// `query`, `start`, `end`, `step`, `timeout`, and `resolution=step` for coarse rows
pub(crate) async fn range(State(web): State<Web>, params: Params) -> Response {
    let (text, range, options, wait) = match range_of(&params) {
        Ok(asked) => asked,
        Err(bad) => return bad.into(),
    };
    let read = Arc::clone(&web.read);
    let run = move || range_over(&*read, &text, range, options);
    answered(wait, run).await
}

fn range_over(
    read: &dyn Read,
    text: &str,
    range: Range,
    options: Options,
) -> Result<Answer, Error> {
    Expr::parse(text)?.range_with(read, range, &Limits::default(), options)
}

fn range_of(params: &Params) -> Result<(String, Range, Options, Duration), BadParam> {
    let moment = |name| params.moment(name)?.ok_or_else(|| bad(name, "it is missing"));
    let (start, end) = (moment("start")?, moment("end")?);
    if end < start {
        return Err(bad("end", "end timestamp must not be before start time"));
    }
    let step = params.step("step")?.ok_or_else(|| bad("step", "it is missing"))?;
    let coarse = match params.get("resolution") {
        None | Some("finest") => false,
        Some("step") => true,
        Some(_) => return Err(bad("resolution", "either `step` or `finest`")),
    };
    let text = params.need("query")?.to_owned();
    Ok((text, Range { start, end, step }, Options { coarse }, wait(params)?))
}

/// How long the query may take, its wait included.
fn wait(params: &Params) -> Result<Duration, BadParam> {
    let asked = params.step("timeout")?.map(|step| Duration::from_millis(step.as_millis()));
    Ok(asked.map_or(LONGEST_WAIT, |asked| asked.min(LONGEST_WAIT)))
}

/// Runs `evaluate` in turn, and writes its answer.
async fn answered(
    wait: Duration,
    evaluate: impl FnOnce() -> Result<Answer, Error> + Send + 'static,
) -> Response {
    let work = || evaluate().map(|answer| (json::answer(&answer), answer.warnings));
    match in_turn(wait, work).await {
        Ok(Ok((data, warnings))) => json::success(&data, &warnings),
        Ok(Err(error)) => refused(&error),
        Err(refused) => refused,
    }
}

/// Runs `work` where it blocks nobody, when it is its turn. Errors with the answer for work that
/// came too late or broke off.
pub(super) async fn in_turn<T: Send + 'static>(
    wait: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Response> {
    let run = async {
        // A turn is held by the work itself: one that timed out still counts until it ends.
        let turn = TURNS.acquire().await.ok()?;
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        task.await.ok()
    };
    match tokio::time::timeout(wait, run).await {
        Ok(Some(done)) => Ok(done),
        Ok(None) => Err(problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the evaluation broke off; the log of the server says why",
        )),
        Err(_) => Err(problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "timeout",
            "the query timed out; ask for less, or for a longer timeout",
        )),
    }
}

fn refused(error: &Error) -> Response {
    let (status, kind) = match error {
        Error::Parse { .. } | Error::Unsupported { .. } => (StatusCode::BAD_REQUEST, "bad_data"),
        // Prometheus answers a range of too many points with bad_data, too many samples with 422.
        Error::Limit(message) if message.contains("points per timeseries") => {
            (StatusCode::BAD_REQUEST, "bad_data")
        }
        Error::Limit(_) | Error::Execution(_) => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
        Error::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "canceled"),
    };
    problem(status, kind, &error.to_string())
}
