//! Admission: what a request may cost before anything in it is looked at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use xxhash_rust::xxh3::xxh3_64;

use super::denial::Denial;
use crate::limits::{BODY_READ_SECS, IN_FLIGHT_LIMIT, JSON_BODY_LIMIT};

/// How long a request waits for room; longer, and the sender's own queue is the better place.
const ROOM_WAIT: Duration = Duration::from_millis(500);

/// Room is taken in steps of this: a usual request takes one.
const ROOM_STEP: usize = 256 << 10;

/// The part of all room that one sender may hold: what is left is for all others.
const SHARE_LIMIT: usize = IN_FLIGHT_LIMIT / 4 * 3;

/// Bodies read at once of senders that nobody knows before the whole is there: a machine with a key, a
/// cloud with a signature. Such a body has at most 64 KiB, so that these hold a sixteenth of the room.
const STRANGER_LIMIT: usize = 64;

/// Bytes of requests under way, in KiB, so that a semaphore can count them.
#[derive(Clone, Debug)]
pub(super) struct Room {
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    shares: Shares,
}

/// Bytes that each sender's requests hold, by the hash of its credential as it was sent. Two of one
/// hash share a share, which harms nobody.
#[derive(Clone, Debug, Default)]
struct Shares(Arc<Mutex<HashMap<u64, usize>>>);

/// Bytes a request holds until it is answered.
#[derive(Debug)]
pub(super) struct Held {
    permit: OwnedSemaphorePermit,
    share: Share,
    body_len: usize,
}

/// What a request holds of its sender's share.
#[derive(Debug)]
struct Share {
    shares: Shares,
    sender: Option<u64>,
    bytes: usize,
}

impl Shares {
    fn of(&self, headers: &HeaderMap) -> Share {
        let sender = headers.get(AUTHORIZATION).map(|value| xxh3_64(value.as_bytes()));
        Share { shares: self.clone(), sender, bytes: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Takes `bytes` more, unless others of the same sender hold what it may.
    fn add(&mut self, bytes: usize) -> Result<(), Denial> {
        let Some(sender) = self.sender else { return Ok(()) };
        let mut shares = self.shares.lock();
        let held = shares.entry(sender).or_default();
        if *held + bytes > SHARE_LIMIT {
            return Err(full());
        }
        *held += bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(sender) = self.sender else { return };
        let mut shares = self.shares.lock();
        if let Some(held) = shares.get_mut(&sender) {
            *held -= self.bytes;
            if *held == 0 {
                shares.remove(&sender);
            }
        }
    }
}

impl Held {
    /// Bytes of the request's body as it was sent.
    pub(super) fn body_len(&self) -> usize {
        self.body_len
    }

    fn bytes(&self) -> usize {
        self.permit.num_permits() << 10
    }
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(IN_FLIGHT_LIMIT >> 10)),
            strangers: Arc::new(Semaphore::new(STRANGER_LIMIT)),
            shares: Shares::default(),
        }
    }

    /// Room for `bytes` of a sender that has no credential, or 503 when there is none in time.
    pub(super) async fn take(&self, bytes: usize) -> Result<Held, Denial> {
        let held = self.take_of(self.shares.of(&HeaderMap::new()), bytes).await?;
        Ok(Held { body_len: bytes, ..held })
    }

    async fn take_of(&self, mut share: Share, bytes: usize) -> Result<Held, Denial> {
        share.add(bytes)?;
        let taken = timeout(ROOM_WAIT, self.all.clone().acquire_many_owned(kib(bytes))).await;
        match taken {
            Ok(Ok(permit)) => Ok(Held { permit, share, body_len: 0 }),
            _ => Err(full()),
        }
    }

    /// Room for `bytes` more, now or not at all: who holds some must not wait for others that do
    /// the same.
    pub(super) fn add(&self, held: &mut Held, bytes: usize) -> Result<(), Denial> {
        held.share.add(bytes)?;
        let more = self.all.clone().try_acquire_many_owned(kib(bytes)).map_err(|_| full())?;
        held.permit.merge(more);
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
        let share = self.shares.of(headers);
        let held = self.take_of(share, claimed.unwrap_or(limit).min(ROOM_STEP)).await?;
        let room = BytesMut::with_capacity(claimed.unwrap_or(0).min(ROOM_STEP));
        let whole = self.read(held, (Limited::new(body, limit), room), limit);
        timeout(Duration::from_secs(BODY_READ_SECS), whole).await.unwrap_or_else(|_| {
            Err(Denial::later("slow", "the body did not arrive in time; send it again"))
        })
    }

    /// The body of a request that is known to be somebody's only once it is there.
    pub(super) async fn stranger_body(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
    ) -> Result<(Held, Bytes), Denial> {
        let Ok(Ok(_turn)) = timeout(ROOM_WAIT, self.strangers.acquire()).await else {
            let message =
                "too many senders that are not known yet send at once; send it again later";
            return Err(Denial::later("busy", message));
        };
        self.body(headers, body, limit).await
    }

    async fn read(
        &self,
        mut held: Held,
        (mut body, mut whole): (Limited<Body>, BytesMut),
        limit: usize,
    ) -> Result<(Held, Bytes), Denial> {
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
        held.body_len = whole.len();
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
        // A list would be read as the fields in their order, which nobody means.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(Denial::bad("the body is not the JSON expected: send an object"));
        }
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

    #[tokio::test(start_paused = true)]
    async fn senders_with_new_keys_wait_for_each_other_and_hold_little_room() {
        const LIMIT: usize = 64 << 10;
        let room = Room::new();
        let body = || Body::new(Full::new(Bytes::from("x")).with_trailers(pending()));
        let mut stalled = tokio::task::JoinSet::new();
        for _ in 0..STRANGER_LIMIT {
            let (room, body) = (room.clone(), body());
            stalled.spawn(async move { room.stranger_body(&announcing(LIMIT), body, LIMIT).await });
        }
        for _ in 0..STRANGER_LIMIT {
            tokio::task::yield_now().await;
        }
        let taken_kib = (IN_FLIGHT_LIMIT >> 10) - room.all.available_permits();
        assert_eq!(taken_kib, STRANGER_LIMIT * (LIMIT >> 10));
        let headers = HeaderMap::new();
        let refused = room.stranger_body(&headers, Body::from("x"), LIMIT).await.unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.problem().error.as_str()), (503, "busy"));
        assert!(room.body(&headers, Body::from("x"), LIMIT).await.is_ok(), "who is known goes on");
        for answer in stalled.join_all().await {
            assert_eq!(answer.unwrap_err().problem().error, "slow");
        }
        assert!(room.stranger_body(&headers, Body::from("x"), LIMIT).await.is_ok());
    }

    #[tokio::test]
    async fn one_sender_leaves_room_for_the_others() {
        const BODY: usize = 8 << 20;
        let room = Room::new();
        let from = |secret: &'static str| {
            HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(secret))])
        };
        let mut held = Vec::new();
        let refused = loop {
            match room.body(&from("Bearer flood"), Body::from(vec![0; BODY]), BODY).await {
                Ok(taken) => held.push(taken),
                Err(refused) => break refused,
            }
        };
        assert_eq!((refused.problem().error.as_str(), held.len()), ("busy", SHARE_LIMIT / BODY));
        let (other, _) = room.body(&from("Bearer agent"), Body::from("x"), 10).await.unwrap();
        drop(held);
        assert_eq!(room.shares.lock().len(), 1);
        drop(other);
        assert!(room.shares.lock().is_empty(), "nothing is remembered of who was answered");
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
