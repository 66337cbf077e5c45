//! What there is to ask about: series, label names and label values.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use query::Patience;
use rrd::{Labels, MatchOp, Matcher, NAME, Timestamp};

use super::document::Document;
use super::request::{BadParam, Params, bad};
use super::turn::{LONGEST_WAIT, in_turn};
use super::{CUT, json};
use crate::views::Web;

/// Answers are cut here, with a warning: a browser's completion list needs no more.
const MOST_ITEMS: usize = 100_000;
/// Selectors of one request: each is a search over all series.
const MOST_SELECTORS: usize = 16;

/// `match[]` (at least one), `start`, `end`, `limit`
pub(crate) async fn series(State(web): State<Web>, params: Params) -> Response {
    if params.get("match[]").is_none() {
        return BadParam("no match[] parameter provided".to_owned()).into();
    }
    let written = |labels: Labels| {
        let mut out = String::new();
        json::labels(&mut out, &labels);
        out
    };
    answer(&web, params, |labels, found| found.add(labels.clone()), written).await
}

/// `match[]`, `start`, `end`, `limit`
pub(crate) async fn labels(State(web): State<Web>, params: Params) -> Response {
    let collect = |labels: &Labels, found: &mut Found<String>| {
        for (name, _) in labels.iter() {
            found.add_text(name);
        }
    };
    answer(&web, params, collect, |name| json::quoted(&name)).await
}

/// `match[]`, `start`, `end`, `limit`
pub(crate) async fn label_values(
    State(web): State<Web>,
    Path(name): Path<String>,
    params: Params,
) -> Response {
    if !is_label_name(&name) {
        return BadParam(format!("invalid label name: {name:?}")).into();
    }
    let collect = move |labels: &Labels, found: &mut Found<String>| {
        if let Some(value) = labels.get(&name) {
            found.add_text(value);
        }
    };
    answer(&web, params, collect, |value| json::quoted(&value)).await
}

/// A name as PromQL writes it: letters, digits and underscores, no digit first.
fn is_label_name(name: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    name.chars().all(fits) && name.chars().next().is_some_and(|first| !first.is_ascii_digit())
}

/// What a request asks about.
struct Asked {
    sets: Vec<Vec<Matcher>>,
    start: Timestamp,
    end: Timestamp,
    limit: usize,
}

/// The first items in order, each once; one more than asked for shows that there are more.
struct Found<T> {
    items: BTreeSet<T>,
    limit: usize,
}

impl<T: Ord> Found<T> {
    fn add(&mut self, item: T) {
        if self.items.insert(item) && self.items.len() > self.limit.saturating_add(1) {
            self.items.pop_last();
        }
    }
}

impl Found<String> {
    /// Copies the text only when it is new.
    fn add_text(&mut self, text: &str) {
        if !self.items.contains(text) {
            self.add(text.to_owned());
        }
    }
}

/// Collects from the series that the parameters choose, and answers what was found.
async fn answer<T: Ord + Send + 'static>(
    web: &Web,
    params: Params,
    collect: impl Fn(&Labels, &mut Found<T>) + Send + 'static,
    written: impl Fn(T) -> String + Send + 'static,
) -> Response {
    let read = Arc::clone(&web.read);
    let work = move |patience: &Patience| -> Result<Document, BadParam> {
        let asked = asked(&params)?;
        let mut found = Found { items: BTreeSet::new(), limit: asked.limit };
        each_series(&*read, &asked, patience, |labels| collect(labels, &mut found));
        let is_cut = found.items.len() > asked.limit;
        let items = found.items.into_iter().take(asked.limit).map(written).collect();
        let warnings = if is_cut { vec![CUT.to_owned()] } else { Vec::new() };
        Ok(Document::of_items(items, &warnings))
    };
    match in_turn(web, LONGEST_WAIT, work).await {
        Ok(Ok(document)) => document.respond(),
        Ok(Err(bad)) => bad.into(),
        Err(refused) => refused,
    }
}

fn asked(params: &Params) -> Result<Asked, BadParam> {
    if params.all("match[]").count() > MOST_SELECTORS {
        return Err(bad("match[]", &format!("at most {MOST_SELECTORS} are taken at once")));
    }
    let sets: Result<Vec<_>, _> = params.all("match[]").map(matchers).collect();
    let (start, end) = (params.moment("start")?, params.moment("end")?);
    Ok(Asked {
        sets: sets?,
        start: start.unwrap_or(Timestamp::MIN),
        end: end.unwrap_or(Timestamp::MAX),
        limit: params.limit("limit")?.unwrap_or(MOST_ITEMS).min(MOST_ITEMS),
    })
}

/// The matchers of a selector; one of them must ask for something.
fn matchers(text: &str) -> Result<Vec<Matcher>, BadParam> {
    let matchers = query::matchers(text).map_err(|error| bad("match[]", &error.to_string()))?;
    if matchers.iter().all(|matcher| matcher.matches(&Labels::default())) {
        return Err(bad("match[]", "match[] must contain at least one non-empty matcher"));
    }
    Ok(matchers)
}

/// Shows `look` the labels of every series asked for, until nobody waits.
fn each_series(
    read: &dyn query::Read,
    asked: &Asked,
    patience: &Patience,
    mut look: impl FnMut(&Labels),
) {
    let all = [every_series()];
    let sets = if asked.sets.is_empty() { &all[..] } else { &asked.sets };
    for series in sets.iter().flat_map(|set| read.select(set)) {
        if patience.has_ended() {
            return;
        }
        if series.birth <= asked.end && series.newest >= asked.start {
            look(&series.labels);
        }
    }
}

/// The matchers that every series satisfies: each has a name.
pub(super) fn every_series() -> Vec<Matcher> {
    Matcher::new(NAME, MatchOp::NotEqual, "").into_iter().collect()
}
