//! Fetching a page: one GET with a bound on its time and its bytes.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Body;
use hyper_rustls::ConfigBuilderExt as _;
use hyper_util::client::legacy;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::rustls::ClientConfig;

use super::access::Access;
use crate::exposition::{Format, PAGE_LIMIT};
use crate::https;

/// A page of more bytes is large: then some wait, or all targets together could fill the memory.
const LARGE_BYTES: usize = 1 << 20;
/// Sets of authorities that targets have of their own.
const PRIVATE_LIMIT: usize = 64;
/// Large pages held at once.
const LARGE_AT_ONCE: usize = 4;

const NAME: &str = concat!("roundel/", env!("CARGO_PKG_VERSION"));

/// Fetches pages and keeps connections for the next time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fetcher {
    http: Client,
    /// Clients for targets with authorities of their own, by the hash of these.
    private: Arc<Mutex<HashMap<[u8; 32], Client>>>,
    large: Arc<Semaphore>,
}

type Client = https::Client<Empty<Bytes>>;

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
        let tls = ClientConfig::builder().with_webpki_roots().with_no_client_auth();
        let (http, large) = (https::client(tls, None), Arc::new(Semaphore::new(LARGE_AT_ONCE)));
        Self { http, private: Arc::default(), large }
    }

    /// The page at `uri`, shown what its target wants to see, or why there is none, for a person.
    pub(crate) async fn opened(
        &self,
        uri: &Uri,
        access: &Access,
        limit: Duration,
    ) -> Result<Fetched, String> {
        match tokio::time::timeout(limit, self.exchange(uri, access, limit)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer in {} s", limit.as_secs_f64())),
        }
    }

    async fn exchange(
        &self,
        uri: &Uri,
        access: &Access,
        limit: Duration,
    ) -> Result<Fetched, String> {
        // Small files, which a slow disk must not let wait whom else this thread serves.
        let (shown, authorities) = if *access == Access::default() {
            (None, None)
        } else {
            let access = access.clone();
            let read = move || Ok::<_, String>((access.header()?, access.authorities()?));
            tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())??
        };
        let http = match authorities {
            None => self.http.clone(),
            Some(pem) => self.private(access, &pem)?,
        };
        let mut request = Request::get(uri)
            .header(ACCEPT, Format::ACCEPT)
            .header(USER_AGENT, NAME)
            .header("x-prometheus-scrape-timeout-seconds", limit.as_secs_f64().to_string())
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        if let Some(shown) = shown {
            request.headers_mut().insert(AUTHORIZATION, shown);
        }
        let answer = http.request(request).await.map_err(|error| cause(&error))?;
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

    /// The client for these authorities: one for all targets that have them.
    fn private(&self, access: &Access, pem: &[u8]) -> Result<Client, String> {
        let hash: [u8; 32] = Sha256::digest(pem).into();
        let mut known = self.private.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known.get(&hash) {
            return Ok(client.clone());
        }
        let made = https::client(access.tls(pem)?, None);
        // Files that were changed leave clients behind that nobody asks for.
        if known.len() >= PRIVATE_LIMIT {
            known.clear();
        }
        known.insert(hash, made.clone());
        Ok(made)
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

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::Redirect;
    use axum::routing::get;
    use http::HeaderMap;

    use super::*;

    /// A server of pages of every sort, and its address.
    async fn pages() -> String {
        let openmetrics = [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0")];
        let asked = async |headers: HeaderMap| {
            let text = |name: &str| headers[name].to_str().unwrap().to_owned();
            format!("{} {}", text("accept"), text("x-prometheus-scrape-timeout-seconds"))
        };
        let router = Router::new()
            .route("/text", get(asked))
            .route("/openmetrics", get(async move || (openmetrics, "# EOF\n")))
            .route("/large", get(async || vec![b'\n'; PAGE_LIMIT]))
            .route("/larger", get(async || vec![b'\n'; PAGE_LIMIT + 1]))
            .route("/moved", get(async || Redirect::to("/text")))
            .route("/slow", get(async || std::future::pending::<()>().await));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn a_page_is_fetched_within_its_bounds() {
        let (base, fetcher) = (pages().await, Fetcher::new());
        let limit = Duration::from_secs(20);
        let page = async |path: &str| {
            let uri: Uri = format!("{base}{path}").parse().unwrap();
            fetcher.opened(&uri, &Access::default(), limit).await
        };
        let text = page("/text").await.unwrap();
        assert_eq!(
            (text.format, &text.body[..]),
            (Format::Text, format!("{} 20", Format::ACCEPT).as_bytes())
        );
        assert_eq!(page("/openmetrics").await.unwrap().format, Format::OpenMetrics);
        for _ in 0..=LARGE_AT_ONCE {
            assert_eq!(page("/large").await.unwrap().body.len(), PAGE_LIMIT);
        }
        for (path, why) in [
            ("/larger", "the page has more than 10485760 bytes; split the exporter"),
            ("/moved", "the answer is 303 See Other; give the address that it leads to"),
            ("/nothing", "the answer is 404 Not Found"),
        ] {
            assert_eq!(page(path).await.unwrap_err(), why);
        }
        let slow: Uri = format!("{base}/slow").parse().unwrap();
        let refused =
            fetcher.opened(&slow, &Access::default(), Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(refused, "no answer in 0.05 s");
        let nobody: Uri = "http://127.0.0.1:1/".parse().unwrap();
        let refused = fetcher.opened(&nobody, &Access::default(), limit).await.unwrap_err();
        assert!(refused.starts_with("no connection: "), "{refused}");
    }
}
