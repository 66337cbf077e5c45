//! Admission: what a request may cost before anything in it is looked at.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::denial::Denial;
use crate::limits::{BODY_READ_SECS, IN_FLIGHT_LIMIT, JSON_BODY_LIMIT};

/// How long a request waits for room; longer, and the sender's own queue is the better place.
const ROOM_WAIT: Duration = Duration::from_millis(500);

/// Bytes of requests under way, in KiB, so that a semaphore can count them.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

/// Bytes a request holds until it is answered.
#[derive(Debug)]
pub(super) struct Held(OwnedSemaphorePermit);

impl Room {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(IN_FLIGHT_LIMIT >> 10)))
    }

    /// Room for `bytes`, or 503 when there is none in time.
    async fn take(&self, bytes: usize) -> Result<Held, Denial> {
        let taken = timeout(ROOM_WAIT, self.0.clone().acquire_many_owned(kib(bytes))).await;
        match taken {
            Ok(Ok(permit)) => Ok(Held(permit)),
            _ => Err(full()),
        }
    }

    /// Room for `bytes` more, now or not at all: who holds some must not wait for others that do
    /// the same.
    pub(super) fn add(&self, held: &mut Held, bytes: usize) -> Result<(), Denial> {
        let more = self.0.clone().try_acquire_many_owned(kib(bytes)).map_err(|_| full())?;
        held.0.merge(more);
        Ok(())
    }

    /// The body of a request of at most `limit` bytes, and the room it takes.
    pub(super) async fn body(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
    ) -> Result<(Held, Bytes), Denial> {
        let claimed =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if claimed.is_some_and(|claimed: usize| claimed > limit) {
            return Err(Denial::large(limit));
        }
        let held = self.take(claimed.unwrap_or(limit)).await?;
        let whole = Limited::new(body, limit).collect();
        match timeout(Duration::from_secs(BODY_READ_SECS), whole).await {
            Ok(Ok(body)) => Ok((held, body.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Denial::large(limit)),
            Ok(Err(_)) => Err(Denial::bad("the body ended early; send it whole")),
            Err(_) => Err(Denial::later("slow", "the body did not arrive in time; send it again")),
        }
    }

    /// The JSON body of a request; an empty one reads as `{}`.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<T, Denial> {
        let (_held, body) = self.body(headers, body, JSON_BODY_LIMIT).await?;
        let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
        serde_json::from_slice(body)
            .map_err(|error| Denial::bad(format!("the body is not the JSON expected: {error}")))
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

fn full() -> Denial {
    Denial::later("busy", "too many bytes are being worked on; send it again later")
}
