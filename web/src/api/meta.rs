//! What there is to ask about: series, label names and values, and which program answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use rrd::{MatchOp, Matcher, NAME, Timestamp};

use super::json;
use super::query::{LONGEST_WAIT, in_turn};
use super::request::{BadParam, Params, bad};
use crate::views::Web;

/// Answers are cut here, with a warning: a browser's completion list needs no more.
const MOST_ITEMS: usize = 100_000;
/// Selectors of one request: each is a search over all series.
const MOST_SELECTORS: usize = 16;

/// `match[]` (at least one), `start`, `end`, `limit`
pub(crate) async fn series(State(web): State<Web>, params: Params) -> Response {
    if params.get("match[]").is_none() {
        return bad("match[]", "no match[] parameter provided").into();
    }
    answer(params, &web, |labels, found| {
        let mut text = String::new();
        json::labels(&mut text, labels);
        found.insert(text);
    })
    .await
}

/// `match[]`, `start`, `end`, `limit`
pub(crate) async fn labels(State(web): State<Web>, params: Params) -> Response {
    answer(params, &web, |labels, found| {
        found.extend(labels.iter().map(|(name, _)| quoted(name)));
    })
    .await
}

/// `match[]`, `start`, `end`, `limit`
pub(crate) async fn label_values(
    State(web): State<Web>,
    Path(name): Path<String>,
    params: Params,
) -> Response {
    answer(params, &web, move |labels, found| {
        found.extend(labels.get(&name).map(quoted));
    })
    .await
}

/// Which program answers; Grafana asks before it shows the data source as good.
pub(crate) async fn build_info() -> Response {
    let version = quoted(env!("CARGO_PKG_VERSION"));
    let data = format!(
        "{{\"version\":{version},\"revision\":\"\",\"branch\":\"\",\"buildUser\":\"\",\
         \"buildDate\":\"\",\"goVersion\":\"\",\"application\":\"Roundel\"}}"
    );
    json::success(&data, &[])
}

/// What a request asks about.
struct Asked {
    sets: Vec<Vec<Matcher>>,
    start: Timestamp,
    end: Timestamp,
    limit: usize,
}

/// Collects JSON items of the series that the parameters choose, sorted, each once.
async fn answer(
    params: Params,
    web: &Web,
    collect: impl Fn(&rrd::Labels, &mut BTreeSet<String>) + Send + 'static,
) -> Response {
    let read = Arc::clone(&web.read);
    let work = move || -> Result<_, BadParam> { Ok(items(&*read, &asked(&params)?, collect)) };
    let (items, cut) = match in_turn(LONGEST_WAIT, work).await {
        Ok(Ok(found)) => found,
        Ok(Err(bad)) => return bad.into(),
        Err(refused) => return refused,
    };
    let mut data = String::new();
    json::list(&mut data, &items, |out, item| out.push_str(item));
    let warning = "results truncated due to limit".to_owned();
    json::success(&data, if cut { std::slice::from_ref(&warning) } else { &[] })
}

fn asked(params: &Params) -> Result<Asked, BadParam> {
    if params.all("match[]").count() > MOST_SELECTORS {
        return Err(bad("match[]", &format!("at most {MOST_SELECTORS} are taken at once")));
    }
    let matchers = |text| query::matchers(text).map_err(|error| bad("match[]", &error.to_string()));
    let sets: Result<Vec<_>, _> = params.all("match[]").map(matchers).collect();
    Ok(Asked {
        sets: sets?,
        start: params.moment("start")?.unwrap_or(Timestamp::MIN),
        end: params.moment("end")?.unwrap_or(Timestamp::MAX),
        limit: limit(params)?,
    })
}

/// The items, and whether there are more of them.
fn items(
    read: &dyn query::Read,
    asked: &Asked,
    collect: impl Fn(&rrd::Labels, &mut BTreeSet<String>),
) -> (Vec<String>, bool) {
    // Every series has a name.
    let named = Matcher::new(NAME, MatchOp::NotEqual, "").map(|named| vec![named]);
    let all: Vec<_> = named.into_iter().collect();
    let sets = if asked.sets.is_empty() { &all } else { &asked.sets };
    let mut found = BTreeSet::new();
    for series in sets.iter().flat_map(|set| read.select(set)) {
        if series.birth <= asked.end && series.newest >= asked.start {
            collect(&series.labels, &mut found);
        }
        if found.len() > asked.limit {
            break;
        }
    }
    let cut = found.len() > asked.limit;
    (found.into_iter().take(asked.limit).collect(), cut)
}

fn limit(params: &Params) -> Result<usize, BadParam> {
    let Some(text) = params.get("limit") else { return Ok(MOST_ITEMS) };
    let asked: usize = text.parse().map_err(|_| bad("limit", "a whole number is expected"))?;
    Ok(if asked == 0 { MOST_ITEMS } else { asked.min(MOST_ITEMS) })
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    json::text(&mut out, text);
    out
}
