//! What an agent asks its collector: each question becomes an exchange, which ends with an answer.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::PoisonError;

use http::Method;
use rrd::Timestamp;
use tracing::{info, warn};

use super::Agent;
use crate::agent::client::Post;
use crate::agent::descriptors::Polled;
use crate::agent::key::Key;
use crate::agent::session::{Reply, Unreachable};
use crate::native::{DESCRIPTOR_PATH, PUSH_CONTENT_TYPE, PUSH_PATH, Push};

/// Bytes of the answer to a goodbye.
const GOODBYE_BYTES: usize = 64 << 10;

/// A question under way.
pub(super) type Exchange = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What came of it.
pub(super) enum Answer {
    Enrol(Result<Reply, Unreachable>),
    Push(Result<Reply, Unreachable>),
    Renew(Result<Reply, Unreachable>),
    Poll(Result<Polled, Unreachable>),
}

/// The answer to the question under way; never one when there is none.
pub(super) async fn answered(exchange: &mut Option<Exchange>) -> Answer {
    match exchange {
        Some(exchange) => exchange.await,
        None => pending().await,
    }
}

impl Agent {
    pub(super) fn enrol(&self) -> Option<Exchange> {
        let enrolment = self.session.enrolment();
        let (method, path) = enrolment.question();
        let bearer = self.token.clone().filter(|_| enrolment.shows_token());
        if bearer.is_none() && self.key.is_none() {
            return None;
        }
        let mut request = self.request.clone();
        let (client, mut cloud) = (self.client.clone(), self.cloud.clone());
        let (key, now) = (self.key.clone(), self.session.server_ms(self.clock.wall()));
        Some(Box::pin(async move {
            // The answer is there within a second, or never; looks go on meanwhile.
            let found = cloud.wait_for(Option::is_some).await.map(|found| found.clone());
            if let Ok(Some(Some((identity, mut imds)))) = found {
                let own = std::mem::take(&mut request.labels);
                // What the machine's own configuration says wins.
                request.labels = identity.labels().into_iter().chain(own).collect();
                let key = key.as_ref().map(Key::public);
                if method == Method::POST {
                    request.document = imds.document(identity.cloud, key.as_ref()).await;
                }
            }
            let asks = serde_json::to_vec(&request).expect("texts and numbers always are JSON");
            let body = if method == Method::POST { asks } else { Vec::new() };
            let now = Timestamp::from_millis(now);
            let proof = key.map(|key| key.proof((method.as_str(), &path), &body, now));
            let (proof, content_type) = (proof.unwrap_or_default(), "application/json");
            let post = Post { method, path: path.into(), bearer, proof, content_type, body };
            Answer::Enrol(client.post(post).await)
        }))
    }

    /// Headers by which the collector knows this machine; none without a key.
    fn proof(&self, request: (&str, &str), body: &[u8]) -> Vec<(&'static str, String)> {
        let now = Timestamp::from_millis(self.session.server_ms(self.clock.wall()));
        self.key.as_ref().map(|key| key.proof(request, body, now)).unwrap_or_default()
    }

    pub(super) fn renew(&self) -> Option<Exchange> {
        let credential = self.session.credential()?.clone();
        let path = format!("/v1/instances/{:032x}/renew", credential.instance);
        let post = Post {
            method: Method::POST,
            proof: self.proof(("POST", &path), b""),
            path: path.into(),
            bearer: Some(credential.secret),
            content_type: "application/json",
            body: Vec::new(),
        };
        let client = self.client.clone();
        Some(Box::pin(async move { Answer::Renew(client.post(post).await) }))
    }

    pub(super) fn push(&self, push: &Push) -> Option<Exchange> {
        let post = Post {
            method: Method::POST,
            path: PUSH_PATH.into(),
            bearer: Some(self.session.credential()?.secret.clone()),
            proof: Vec::new(),
            content_type: PUSH_CONTENT_TYPE,
            body: push.encode(),
        };
        let client = self.client.clone();
        Some(Box::pin(async move { Answer::Push(client.post(post).await) }))
    }

    pub(super) fn poll(&self, tag: Option<String>) -> Option<Exchange> {
        let bearer = self.session.credential()?.secret.clone();
        let client = self.client.clone();
        Some(Box::pin(async move { Answer::Poll(client.poll(DESCRIPTOR_PATH, bearer, tag).await) }))
    }

    /// Why it goes, so that silence is not taken for a loss. A machine that its cloud ends is gone then,
    /// and nobody needs to be woken.
    pub(super) fn goodbye(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (word, reason) = match (ending, self.goodbye) {
            (Some(reason), _) => ("withdraw", serde_json::json!({ "reason": reason })),
            (None, Some(reason)) => ("goodbye", serde_json::json!({ "reason": reason })),
            (None, None) => return None,
        };
        let credential = self.session.credential()?.clone();
        let client = self.client.clone();
        let path = format!("/v1/instances/{:032x}/{word}", credential.instance);
        let body = reason.to_string().into_bytes();
        Some(async move {
            let asked = client.ask((Method::POST, &path), &credential.secret, body, GOODBYE_BYTES);
            match asked.await {
                Ok(reply) if reply.status < 300 => info!(%reason, "said goodbye"),
                Ok(reply) => warn!(status = reply.status, "the collector did not take the goodbye"),
                Err(Unreachable(why)) => warn!(why, "the goodbye did not reach the collector"),
            }
        })
    }
}
