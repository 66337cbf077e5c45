//! The books as JSON: what became of every sample, in total and by instance.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde::Serialize;

use super::{Denial, Intake};
use crate::accounting::Counts;

#[derive(Debug, Serialize)]
pub(super) struct Books {
    total: Line,
    /// By the instance's id; samples that named no instance are under "none".
    instances: BTreeMap<String, Line>,
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
    Ok(Json(Books { total: line(&books.total()), instances }))
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
