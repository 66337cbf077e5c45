//! Admission: what a request may cost before anything in it is looked at.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
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

/// Room is taken in steps of this: a usual request takes one.
const ROOM_STEP: usize = 256 << 10;

/// Bytes of requests under way, in KiB, so that a semaphore can count them.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

/// Bytes a request holds until it is answered.
#[derive(Debug)]
pub(super) struct Held(OwnedSemaphorePermit);

impl Held {
    fn bytes(&self) -> usize {
        self.0.num_permits() << 10
    }
}

impl Room {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(IN_FLIGHT_LIMIT >> 10)))
    }

    /// Room for `bytes`, or 503 when there is none in time.
    pub(super) async fn take(&self, bytes: usize) -> Result<Held, Denial> {
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

    /// Makes what is held at least `bytes`, now or not at all.
    pub(super) fn hold(&self, held: &mut Held, bytes: usize) -> Result<(), Denial> {
        match bytes.checked_sub(held.bytes()) {
            None | Some(0) => Ok(()),
            Some(more) => self.add(held, more),
        }
    }

    /// The body of a request of at most `limit` bytes, and the room it takes: that of what came, not
    /// of what was announced, or a few stalled senders would keep all others out.
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
        let held = self.take(claimed.unwrap_or(limit).min(ROOM_STEP)).await?;
        let whole = self.read(held, Limited::new(body, limit), limit);
        timeout(Duration::from_secs(BODY_READ_SECS), whole).await.unwrap_or_else(|_| {
            Err(Denial::later("slow", "the body did not arrive in time; send it again"))
        })
    }

    async fn read(
        &self,
        mut held: Held,
        mut body: Limited<Body>,
        limit: usize,
    ) -> Result<(Held, Bytes), Denial> {
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    return Denial::large(limit);
                }
                Denial::bad("the body ended early; send it whole")
            })?;
            let Ok(data) = frame.into_data() else { continue };
            whole.extend_from_slice(&data);
            while held.bytes() < whole.len() {
                self.add(&mut held, ROOM_STEP)?;
            }
        }
        Ok((held, whole.freeze()))
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http::HeaderValue;
    use http_body_util::Full;

    use super::*;

    fn announcing(bytes: usize) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(bytes))])
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_senders_do_not_keep_others_out() {
        const LIMIT: usize = 8 << 20;
        let room = Room::new();
        let mut stalled = tokio::task::JoinSet::new();
        for _ in 0..2 * IN_FLIGHT_LIMIT / LIMIT {
            let (room, begun) = (room.clone(), Full::new(Bytes::from("x")));
            let body = Body::new(begun.with_trailers(pending()));
            stalled.spawn(async move { room.body(&announcing(LIMIT), body, LIMIT).await });
        }
        tokio::task::yield_now().await;
        let whole = Body::from(vec![7; LIMIT]);
        let (held, bytes) = room.body(&announcing(LIMIT), whole, LIMIT).await.unwrap();
        assert_eq!((held.bytes(), bytes.len()), (LIMIT, LIMIT));
        for answer in stalled.join_all().await {
            assert_eq!(answer.unwrap_err().problem().error, "slow");
        }
    }

    #[tokio::test]
    async fn bodies_that_came_take_their_room_until_they_are_answered() {
        let room = Room::new();
        let all = vec![0; IN_FLIGHT_LIMIT];
        let (held, _) =
            room.body(&HeaderMap::new(), Body::from(all), IN_FLIGHT_LIMIT).await.unwrap();
        let refused = room.body(&announcing(1), Body::from("x"), 10).await.unwrap_err();
        assert_eq!(refused.problem().error, "busy");
        drop(held);
        assert!(room.body(&announcing(1), Body::from("x"), 10).await.is_ok());
    }
}
