//! The books as JSON: what became of every sample, in total, by instance and by the way it came.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use http::HeaderMap;
use serde::Serialize;

use super::{Denial, Intake};
use crate::accounting::{Counts, Reason, Way};
use crate::foreign::guesses::Doubt;
use crate::listen::ClientName;
use crate::registry::Registry;

/// One sample in so many is worth a word.
const OFTEN: u64 = 10;

#[derive(Debug, Serialize)]
pub(super) struct Books {
    total: Line,
    /// By the instance's id; samples that named no instance are under "none".
    instances: BTreeMap<String, Line>,
    senders: Vec<SenderLine>,
    /// Requests by the name in the client's certificate, where there was one.
    certificates: BTreeMap<String, u64>,
    /// Series kept as one kind and said to be another, with the command that puts it right.
    kinds: Vec<String>,
}

/// What came by one way, and what its sender could do better.
#[derive(Debug, Serialize)]
struct SenderLine {
    /// The token's id, or "admin".
    token: String,
    /// What its holder is called.
    name: String,
    protocol: &'static str,
    #[serde(flatten)]
    line: Line,
    advice: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Line {
    received: u64,
    stored: u64,
    duplicate: u64,
    late: u64,
    stale_generation: u64,
    refused: BTreeMap<&'static str, u64>,
    in_flight: i64,
    exemplars: u64,
}

pub(super) async fn accounting(
    State(intake): State<Intake>,
    headers: HeaderMap,
) -> Result<Json<Books>, Denial> {
    intake.0.admin(&headers)?;
    let books = &intake.0.parts.accounting;
    let name = |id: Option<rrd::InstanceId>| id.map_or("none".to_owned(), |id| id.to_string());
    let instances =
        books.instances().iter().map(|(id, counts)| (name(*id), line(counts))).collect();
    let registry = &intake.0.parts.registry;
    let senders = books.ways().iter().map(|(way, counts)| sender(registry, *way, counts)).collect();
    let kinds = intake.0.guesses.doubts().iter().map(Doubt::told).collect();
    let named = books.certificates().into_iter();
    let certificates = named.map(|(name, count)| (name.as_ref().to_owned(), count)).collect();
    Ok(Json(Books { total: line(&books.total()), instances, senders, certificates, kinds }))
}

/// Counts a request whose client has shown a certificate.
pub(super) async fn count_certificate(State(intake): State<Intake>, request: Request) -> Request {
    if let Some(ClientName(name)) = request.extensions().get() {
        intake.0.parts.accounting.certificate(name);
    }
    request
}

fn sender(registry: &Registry, way: Way, counts: &Counts) -> SenderLine {
    let token = way.token.and_then(|id| registry.token(id));
    SenderLine {
        token: way.token.map_or("admin".to_owned(), |id| id.to_string()),
        name: token.map(|token| token.name.clone()).unwrap_or_default(),
        protocol: way.protocol,
        line: line(counts),
        advice: advice(counts),
    }
}

/// What a sender does wrong and how to put it right, by the counters.
fn advice(counts: &Counts) -> Vec<String> {
    let refused = |reason| counts.refused.get(&reason).copied().unwrap_or_default();
    let often = |count: u64| count > 0 && count.saturating_mul(OFTEN) >= counts.received;
    [
        (refused(Reason::Future) > 0, "its clock is ahead of ours: set it by NTP"),
        (
            refused(Reason::TooOld) > 0,
            "it sends samples older than every archive: set its clock, or keep longer",
        ),
        (
            often(counts.duplicate),
            "it sends samples twice: for two replicas of one Prometheus name the label that tells \
             them apart in drop_labels; then all but one of them may rest",
        ),
        (
            often(counts.late),
            "its samples come out of order: send the series of one target over one queue or shard",
        ),
        (
            refused(Reason::SeriesLimit) > 0,
            "an instance has more series than its grant: drop labels that change, or raise the grant",
        ),
        (
            refused(Reason::DuplicateLabel) + refused(Reason::BadLabel) + refused(Reason::NoName) > 0,
            "it sends series without a name, or labels twice or not in UTF-8: see its exporter",
        ),
        (
            refused(Reason::NativeHistogram) > 0,
            "it sends native histograms, which are not kept: let it scrape classic ones",
        ),
        (counts.exemplars > 0, "it sends exemplars, which are not kept: leave send_exemplars out"),
    ]
    .into_iter()
    .filter(|(is_so, _)| *is_so)
    .map(|(_, text)| text.to_owned())
    .collect()
}

fn line(counts: &Counts) -> Line {
    Line {
        received: counts.received,
        stored: counts.stored,
        duplicate: counts.duplicate,
        late: counts.late,
        stale_generation: counts.stale_generation,
        refused: counts.refused.iter().map(|(reason, count)| (reason.word(), *count)).collect(),
        in_flight: i64::try_from(counts.in_flight()).unwrap_or(i64::MAX),
        exemplars: counts.exemplars,
    }
}
