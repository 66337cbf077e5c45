//! Fetching a page: one GET with a bound on its time and its bytes.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::exposition::{Format, PAGE_LIMIT};

/// A connection idle for longer than the usual step and a half is not worth its descriptor.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// A page of more bytes is large: then some wait, or all targets together could fill the memory.
const LARGE_BYTES: usize = 1 << 20;
/// Large pages held at once.
const LARGE_AT_ONCE: usize = 4;

const NAME: &str = concat!("roundel/", env!("CARGO_PKG_VERSION"));

/// Fetches pages and keeps connections for the next time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fetcher {
    http: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    large: Arc<Semaphore>,
}

/// The right to hold a large page.
type Large = OwnedSemaphorePermit;

/// A page as it came.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) body: Bytes,
    pub(crate) format: Format,
    /// Held as long as the page is.
    _large: Option<Large>,
}

impl Fetcher {
    /// A fetcher without a connection.
    pub(crate) fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let tls = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .build(tls);
        Self { http, large: Arc::new(Semaphore::new(LARGE_AT_ONCE)) }
    }

    /// The page at `uri`, or why there is none, for a person.
    pub(crate) async fn page(&self, uri: &Uri, limit: Duration) -> Result<Fetched, String> {
        match tokio::time::timeout(limit, self.exchange(uri, limit)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer in {} s", limit.as_secs_f64())),
        }
    }

    async fn exchange(&self, uri: &Uri, limit: Duration) -> Result<Fetched, String> {
        let request = Request::get(uri)
            .header(ACCEPT, Format::ACCEPT)
            .header(USER_AGENT, NAME)
            .header("x-prometheus-scrape-timeout-seconds", limit.as_secs_f64().to_string())
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let answer = self.http.request(request).await.map_err(|error| cause(&error))?;
        let (head, body) = answer.into_parts();
        if !head.status.is_success() {
            let hint = if head.status.is_redirection() {
                "; give the address that it leads to"
            } else {
                ""
            };
            return Err(format!("the answer is {}{hint}", head.status));
        }
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let format = Format::of(content_type);
        let (body, large) = self.body(Limited::new(body, PAGE_LIMIT)).await?;
        Ok(Fetched { body, format, _large: large })
    }

    async fn body<B>(&self, mut body: Limited<B>) -> Result<(Bytes, Option<Large>), String>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
    {
        let mut whole = BytesMut::new();
        let mut large = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    format!("the page has more than {PAGE_LIMIT} bytes; split the exporter")
                } else {
                    format!("the page broke off: {error}")
                }
            })?;
            whole.extend_from_slice(&frame.into_data().unwrap_or_default());
            if whole.len() > LARGE_BYTES && large.is_none() {
                large = self.large.clone().acquire_owned().await.ok();
            }
        }
        Ok((whole.freeze(), large))
    }
}

/// The innermost cause says what a person needs: "connection refused", a name, a certificate.
fn cause(error: &legacy::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!("no connection: {cause}")
}
