//! What metrics are, and which program answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use query::Patience;
use rrd::{Kind, Labels};

use super::document::Document;
use super::json;
use super::meta::every_series;
use super::request::{BadParam, Params};
use super::turn::{LONGEST_WAIT, in_turn};
use crate::views::Web;

/// The Prometheus whose API this is: data sources choose by this number what they may ask for.
const SPOKEN: &str = "2.42.0";
/// Families answered at most: more names than a person or a completion list goes through.
const MOST_FAMILIES: usize = 100_000;

/// Which program answers; Grafana asks before it shows the data source as good.
pub(crate) async fn build_info() -> Response {
    let own = json::quoted(concat!("roundel-", env!("CARGO_PKG_VERSION")));
    json::success(&format!(
        "{{\"version\":\"{SPOKEN}\",\"revision\":{own},\"branch\":\"\",\"buildUser\":\"\",\
         \"buildDate\":\"\",\"goVersion\":\"\"}}"
    ))
}

/// `metric`, `limit`; `limit_per_metric` is taken and met, since each family has one entry.
pub(crate) async fn metadata(State(web): State<Web>, params: Params) -> Response {
    let asked = || -> Result<_, BadParam> {
        params.limit("limit_per_metric")?;
        let limit = params.limit("limit")?.unwrap_or(MOST_FAMILIES).min(MOST_FAMILIES);
        Ok((params.get("metric").map(str::to_owned), limit))
    };
    let (metric, limit) = match asked() {
        Ok(asked) => asked,
        Err(bad) => return bad.into(),
    };
    let read = Arc::clone(&web.read);
    let work = move |patience: &Patience| {
        let mut families = Families::default();
        for series in read.select(&every_series()) {
            if patience.has_ended() {
                break;
            }
            families.learn(&series.labels, series.kind);
        }
        let mut types = families.types();
        types.retain(|name, _| metric.as_ref().is_none_or(|metric| metric == name));
        Document::of_members(types.into_iter().take(limit).map(member).collect())
    };
    match in_turn(&web, LONGEST_WAIT, work).await {
        Ok(document) => document.respond(),
        Err(refused) => refused,
    }
}

/// `"up":[{"type":"gauge","help":"","unit":""}]`
fn member((name, kind): (String, &str)) -> String {
    let mut out = json::quoted(&name);
    out.push_str(":[{\"type\":");
    json::text(&mut out, kind);
    out.push_str(",\"help\":\"\",\"unit\":\"\"}]");
    out
}

/// Metrics by name, those of histograms by the name of all of them.
#[derive(Default)]
struct Families {
    kinds: BTreeMap<String, Kind>,
    histograms: BTreeSet<String>,
}

impl Families {
    fn learn(&mut self, labels: &Labels, kind: Kind) {
        let Some(metric) = labels.metric() else { return };
        if self.kinds.contains_key(metric) {
            return;
        }
        self.kinds.insert(metric.to_owned(), kind);
        if let (Some(family), Some(_)) = (metric.strip_suffix("_bucket"), labels.get("le")) {
            self.histograms.insert(family.to_owned());
        }
    }

    /// Prometheus' word for the type of each family.
    fn types(self) -> BTreeMap<String, &'static str> {
        let Self { kinds, histograms } = self;
        let is_part = |metric: &str| {
            ["_bucket", "_sum", "_count"].iter().any(|suffix| {
                metric.strip_suffix(suffix).is_some_and(|family| histograms.contains(family))
            })
        };
        let own = kinds.into_iter().filter(|(metric, _)| !is_part(metric));
        let mut types: BTreeMap<_, _> = own.map(|(metric, kind)| (metric, word(kind))).collect();
        types.extend(histograms.into_iter().map(|family| (family, "histogram")));
        types
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Gauge => "gauge",
        Kind::Unknown => "unknown",
        Kind::Counter
        | Kind::Derive
        | Kind::Absolute
        | Kind::Total
        | Kind::DDerive
        | Kind::DCounter => "counter",
    }
}
