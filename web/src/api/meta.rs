//! What there is to ask about: series, label names and values, and which program answers.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::response::Response;
use rrd::{MatchOp, Matcher, NAME, Timestamp};

use super::json;
use super::request::{BadParam, Params, bad, selector};
use crate::views::Web;

/// Answers are cut here, with a warning: a browser's completion list needs no more.
const MOST_ITEMS: usize = 100_000;

/// `match[]` (at least one), `start`, `end`, `limit`
pub(crate) async fn series(State(web): State<Web>, params: Params) -> Response {
    if params.get("match[]").is_none() {
        return bad("match[]", "no match[] parameter provided").into();
    }
    answer(&params, &web, |labels, found| {
        let mut text = String::new();
        json::labels(&mut text, labels);
        found.insert(text);
    })
}

/// `match[]`, `start`, `end`, `limit`
pub(crate) async fn labels(State(web): State<Web>, params: Params) -> Response {
    answer(&params, &web, |labels, found| {
        found.extend(labels.iter().map(|(name, _)| quoted(name)));
    })
}

/// `match[]`, `start`, `end`, `limit`
pub(crate) async fn label_values(
    State(web): State<Web>,
    Path(name): Path<String>,
    params: Params,
) -> Response {
    answer(&params, &web, |labels, found| {
        found.extend(labels.get(&name).map(quoted));
    })
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

/// Collects JSON items of the series that the parameters choose, sorted, each once.
fn answer(
    params: &Params,
    web: &Web,
    mut collect: impl FnMut(&rrd::Labels, &mut BTreeSet<String>),
) -> Response {
    let asked = || -> Result<_, BadParam> {
        let sets: Result<Vec<_>, _> = params.all("match[]").map(selector).collect();
        Ok((sets?, params.moment("start")?, params.moment("end")?, limit(params)?))
    };
    let (mut sets, start, end, limit) = match asked() {
        Ok(asked) => asked,
        Err(bad) => return bad.into(),
    };
    if sets.is_empty() {
        // Every series has a name.
        sets.extend(Matcher::new(NAME, MatchOp::NotEqual, "").map(|named| vec![named]));
    }
    let mut found = BTreeSet::new();
    for series in sets.iter().flat_map(|set| web.read.select(set)) {
        let alive = series.birth <= end.unwrap_or(Timestamp::MAX)
            && series.newest >= start.unwrap_or(Timestamp::MIN);
        if alive {
            collect(&series.labels, &mut found);
        }
        if found.len() > limit {
            break;
        }
    }
    let cut = found.len() > limit;
    let items: Vec<String> = found.into_iter().take(limit).collect();
    let mut data = String::new();
    json::list(&mut data, &items, |out, item| out.push_str(item));
    let warning = "results truncated due to limit".to_owned();
    json::success(&data, if cut { std::slice::from_ref(&warning) } else { &[] })
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
