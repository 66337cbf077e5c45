//! What the operator gave to check the words of clouds with, and what is fetched for it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::ConfigBuilderExt as _;
use rrd::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::PublicKey;
use super::document::{self, Attestation, Attested, UNKNOWN_KEY};
use crate::native::{Cloud, CloudDocument};
use crate::{https, listen};

/// What is fetched is a few keys.
const ANSWER_LIMIT: usize = 256 << 10;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was fetched is used without being fetched again. Clouds change keys within days.
const FRESH: Duration = Duration::from_hours(1);
/// An unknown key is looked for again after this; nor is anything asked for sooner that was not there.
const AGAIN: Duration = Duration::from_mins(1);
/// Addresses whose answers are kept: a set of keys, and the certificate of each region.
const KEPT_LIMIT: usize = 32;

/// Whose signatures are believed. What is not given is not verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloudTrust {
    /// AWS' certificates for the documents of its machines (`rsa2048`), one for each region, PEM.
    pub aws: Option<PathBuf>,
    /// Google's keys (JWKS): a file, or an address that begins with `https://`.
    pub gcp: Option<String>,
    /// The authorities, and those between, of the certificates of Azure's metadata service, PEM.
    pub azure: Option<PathBuf>,
    /// Topics of SNS whose messages are taken by SNS' own signature.
    pub sns_topics: Vec<String>,
    /// The certificate that these are signed with, PEM, instead of the one that they name.
    pub sns_certificate: Option<PathBuf>,
    /// Service accounts of Google that Pub/Sub's pushes are taken from, by the token that it signs.
    pub pubsub_accounts: Vec<String>,
    /// For whom these tokens are made: the audience of the subscription.
    pub pubsub_audience: Option<String>,
}

/// Checks what clouds say, by what the operator trusts.
pub(crate) struct Clouds {
    pub(crate) trust: CloudTrust,
    http: https::Client<Empty<Bytes>>,
    // Held while something is fetched: others who want it wait for the same answer.
    kept: Mutex<HashMap<String, Kept>>,
}

/// What came of an address, and when (monotonic).
struct Kept {
    at: Duration,
    answer: Result<Bytes, String>,
}

/// The time by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) wall: Timestamp,
    pub(crate) monotonic: Duration,
}

impl CloudTrust {
    /// An audience keeps out tokens that the same account was given for somebody else.
    fn check_pubsub(&self) -> Result<(), String> {
        if self.pubsub_accounts.is_empty() {
            return Ok(());
        }
        if self.gcp.is_none() {
            return Err("pubsub_accounts: name Google's keys too, as gcp".to_owned());
        }
        match self.pubsub_audience.as_deref() {
            Some(audience) if !audience.is_empty() => Ok(()),
            _ => Err("pubsub_accounts: name the subscription's audience too, as pubsub_audience"
                .to_owned()),
        }
    }
}

impl Clouds {
    /// Errors in words when an address is none that is asked.
    pub(crate) fn trusting(trust: CloudTrust) -> Result<Self, String> {
        if let Some(url) = trust.gcp.as_deref().filter(|source| source.contains("://")) {
            let uri: Uri = url.parse().map_err(|error| format!("gcp = {url:?}: {error}"))?;
            let is_here = uri.host() == Some("127.0.0.1");
            if uri.scheme_str() != Some("https") && !is_here {
                return Err(format!("gcp = {url:?}: give a file, or an address with https://"));
            }
        }
        if let Some(bad) = trust.sns_topics.iter().find(|topic| !topic.starts_with("arn:aws")) {
            return Err(format!(
                "sns_topics: {bad:?} is no topic; write arn:aws:sns:eu-west-1:123456789012:fleet"
            ));
        }
        trust.check_pubsub()?;
        let tls = ClientConfig::builder().with_webpki_roots().with_no_client_auth();
        Ok(Self { trust, http: https::client(tls, Some(FETCH_TIMEOUT)), kept: Mutex::default() })
    }

    /// What a document is worth that came with the proof of `key`.
    pub(crate) async fn attested(
        &self,
        document: &CloudDocument,
        key: Option<&PublicKey>,
        now: Now,
    ) -> Attestation {
        match self.checked(document, key, now).await {
            Ok(attested) => Attestation::Verified(attested),
            Err(why) => Attestation::Unverified(why),
        }
    }

    async fn checked(
        &self,
        document: &CloudDocument,
        key: Option<&PublicKey>,
        now: Now,
    ) -> Result<Attested, String> {
        let text = &document.text;
        let bound = || key.ok_or("the machine has no key that its document could be made for");
        match document.cloud {
            Cloud::Aws => {
                let file = self.trust.aws.clone().ok_or_else(|| not_given("aws"))?;
                document::aws(text, &certificates(file).await?, now.wall)
            }
            Cloud::Azure => {
                let file = self.trust.azure.clone().ok_or_else(|| not_given("azure"))?;
                document::azure(text, &certificates(file).await?, (bound()?, now.wall))
            }
            Cloud::Gcp => {
                let key = bound()?;
                document::gcp(&self.google_said(text, now).await?, key)
            }
        }
    }

    /// What Google says in a token, whoever it was made for.
    pub(crate) async fn google_said(&self, token: &str, now: Now) -> Result<Value, String> {
        let keys = self.google_keys((now.monotonic, FRESH)).await?;
        match document::google(token, &keys, now.wall) {
            Err(why) if why == UNKNOWN_KEY => {
                let keys = self.google_keys((now.monotonic, AGAIN)).await?;
                document::google(token, &keys, now.wall)
            }
            outcome => outcome,
        }
    }

    async fn google_keys(&self, when: (Duration, Duration)) -> Result<Value, String> {
        let source = self.trust.gcp.as_deref().ok_or_else(|| not_given("gcp"))?;
        let bytes = match source.parse::<Uri>() {
            Ok(uri) if uri.scheme().is_some() => self.fetched(source, when).await?,
            _ => file(PathBuf::from(source)).await?.into(),
        };
        serde_json::from_slice(&bytes).map_err(|_| format!("{source}: no set of keys (JWKS)"))
    }

    /// What is at an address, not older than `age` at `now`.
    pub(crate) async fn fetched(
        &self,
        url: &str,
        (now, age): (Duration, Duration),
    ) -> Result<Bytes, String> {
        let mut kept = self.kept.lock().await;
        if let Some(known) = kept.get(url) {
            let age = if known.answer.is_ok() { age } else { AGAIN };
            if now.saturating_sub(known.at) < age {
                return known.answer.clone();
            }
        }
        if kept.len() >= KEPT_LIMIT && !kept.contains_key(url) {
            kept.retain(|_, one| now.saturating_sub(one.at) < AGAIN);
            if kept.len() >= KEPT_LIMIT {
                return Err(format!("{url}: too many addresses were asked within a minute"));
            }
        }
        let asked = tokio::time::timeout(FETCH_TIMEOUT, self.fetch(url));
        let late = |_| Err(format!("no answer in {} s", FETCH_TIMEOUT.as_secs()));
        let answer = asked.await.unwrap_or_else(late).map_err(|why| format!("{url}: {why}"));
        kept.insert(url.to_owned(), Kept { at: now, answer: answer.clone() });
        answer
    }

    async fn fetch(&self, url: &str) -> Result<Bytes, String> {
        let request = Request::get(url).body(Empty::new()).map_err(|error| error.to_string())?;
        let answer = self.http.request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        // An address that leads elsewhere is not followed: it may lead to within.
        if !head.status.is_success() {
            return Err(format!("the answer is {}", head.status));
        }
        let body = Limited::new(body, ANSWER_LIMIT).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    }
}

fn not_given(cloud: &str) -> String {
    format!("nothing to check it with is given here; name it as {cloud} under [cloud]")
}

async fn file(path: PathBuf) -> Result<Vec<u8>, String> {
    let read = tokio::task::spawn_blocking(move || listen::read(&path, false)).await;
    read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// The certificates of a file as it is now.
pub(crate) async fn certificates(path: PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = file(path.clone()).await?;
    listen::certificates(&path, &bytes).map_err(|error| error.to_string())
}

/// What is checked with nothing, until something is given.
pub(crate) type SharedClouds = std::sync::RwLock<Option<Arc<Clouds>>>;
