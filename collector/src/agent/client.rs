//! The agent's HTTP client: one connection to one collector, with a bound on every wait and answer.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy;

use super::descriptors::Polled;
use super::error::AgentError;
use super::secret::Secret;
use super::session::{Reply, Unreachable};
use super::trust::Trust;
use crate::https;
use crate::native::SERVER_TIME;

/// A collector in the same region answers in milliseconds; this leaves room for lost packets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A whole exchange: longer than a collector's slowest disk, shorter than two steps.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of an answer: it holds at most twenty refused series.
const ANSWER_BYTES_MAX: usize = 256 << 10;

const AGENT_NAME: &str = concat!("roundel-agent/", env!("CARGO_PKG_VERSION"));

/// Speaks to the collector at one address.
#[derive(Clone)]
pub(super) struct Client {
    base: String,
    http: https::Client<Full<Bytes>>,
}

/// One request: where, as whom, what.
pub(super) struct Post {
    pub(super) method: Method,
    pub(super) path: Cow<'static, str>,
    pub(super) bearer: Option<Secret>,
    /// Headers that prove whose request it is.
    pub(super) proof: Vec<(&'static str, String)>,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Client {
    /// A client for the collector at `url`, which may have a path in front of ours and is known by more or
    /// less than the public authorities.
    pub(super) fn trusting(url: &str, trust: &Trust) -> Result<Self, AgentError> {
        let base = checked(url)?;
        Ok(Self { base, http: https::client(trust.config()?, Some(CONNECT_TIMEOUT)) })
    }

    /// True when what is sent can be read on its way to another machine.
    pub(super) fn is_in_the_clear(&self) -> bool {
        let uri = self.base.parse::<Uri>().unwrap_or_default();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_local = host.parse().map_or(host == "localhost", |ip: IpAddr| ip.is_loopback());
        uri.scheme_str() == Some("http") && !is_local
    }

    /// Sends one request and reads the whole answer.
    pub(super) async fn post(self, post: Post) -> Result<Reply, Unreachable> {
        let exchange = self.exchange(post);
        match tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Unreachable(format!("no answer in {} s", EXCHANGE_TIMEOUT.as_secs()))),
        }
    }

    /// Asks for what is at `path`, unless it is still what `tag` names.
    pub(super) async fn poll(
        self,
        path: &'static str,
        bearer: Secret,
        tag: Option<String>,
    ) -> Result<Polled, Unreachable> {
        let mut request = Request::builder()
            .uri(format!("{}{path}", self.base))
            .header(AUTHORIZATION, authorization(&bearer)?)
            .header(USER_AGENT, AGENT_NAME);
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let request = request.body(Full::new(Bytes::new()));
        let request = request.map_err(|error| Unreachable(error.to_string()))?;
        let exchange = async {
            let (head, reply) = self.answer(request, ANSWER_BYTES_MAX).await?;
            let text = |name: &str| head.get(name).and_then(|value| value.to_str().ok());
            let server_ms = text(SERVER_TIME).and_then(|millis| millis.parse().ok());
            Ok(Polled { reply, tag: text(ETAG.as_str()).map(str::to_owned), server_ms })
        };
        let late = || Unreachable(format!("no answer in {} s", EXCHANGE_TIMEOUT.as_secs()));
        tokio::time::timeout(EXCHANGE_TIMEOUT, exchange).await.map_err(|_| late())?
    }

    /// Sends a request to `path` behind our address and reads an answer of at most so many bytes.
    pub(super) async fn ask(
        &self,
        (method, path): (Method, &str),
        bearer: &Secret,
        body: Vec<u8>,
        answer_bytes_max: usize,
    ) -> Result<Reply, Unreachable> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(AUTHORIZATION, authorization(bearer)?)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT_NAME)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Unreachable(error.to_string()))?;
        self.sent(request, answer_bytes_max).await
    }

    async fn exchange(&self, post: Post) -> Result<Reply, Unreachable> {
        self.sent(self.request(post)?, ANSWER_BYTES_MAX).await
    }

    async fn sent(
        &self,
        request: Request<Full<Bytes>>,
        answer_bytes_max: usize,
    ) -> Result<Reply, Unreachable> {
        self.answer(request, answer_bytes_max).await.map(|(_, reply)| reply)
    }

    async fn answer(
        &self,
        request: Request<Full<Bytes>>,
        answer_bytes_max: usize,
    ) -> Result<(HeaderMap, Reply), Unreachable> {
        let response = self.http.request(request).await.map_err(|error| unreachable(&error))?;
        let (head, body) = response.into_parts();
        let retry_after = retry_after(&head.headers);
        let body = Limited::new(body, answer_bytes_max).collect().await;
        let body = body.map_err(|error| Unreachable(format!("the answer broke off: {error}")))?;
        let status = head.status.as_u16();
        Ok((head.headers, Reply { status, retry_after, body: body.to_bytes().to_vec() }))
    }

    fn request(&self, post: Post) -> Result<Request<Full<Bytes>>, Unreachable> {
        let mut request = Request::builder()
            .method(post.method)
            .uri(format!("{}{}", self.base, post.path))
            .header(CONTENT_TYPE, post.content_type)
            .header(USER_AGENT, AGENT_NAME);
        if let Some(bearer) = &post.bearer {
            request = request.header(AUTHORIZATION, authorization(bearer)?);
        }
        for (name, value) in post.proof {
            request = request.header(name, value);
        }
        request
            .body(Full::new(Bytes::from(post.body)))
            .map_err(|error| Unreachable(error.to_string()))
    }
}

fn authorization(bearer: &Secret) -> Result<HeaderValue, Unreachable> {
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", bearer.reveal()))
        .map_err(|_| Unreachable("the token holds characters no header takes".to_owned()))?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

fn checked(url: &str) -> Result<String, AgentError> {
    let bad = |problem: &str| AgentError::Url { url: url.to_owned(), problem: problem.to_owned() };
    let uri: Uri =
        url.trim().parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("it does not begin with http:// or https://"));
    }
    match uri.authority() {
        None => return Err(bad("it names no host")),
        Some(authority) if authority.as_str().contains('@') => {
            return Err(bad("it holds a user name; the token goes elsewhere"));
        }
        Some(_) => {}
    }
    if uri.query().is_some() {
        return Err(bad("it holds a question mark"));
    }
    Ok(url.trim().trim_end_matches('/').to_owned())
}

/// The seconds of a `Retry-After`. Its other form, a date, is left to the backoff.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The innermost cause says what a person needs: "connection refused", a name, a certificate.
fn unreachable(error: &legacy::Error) -> Unreachable {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Unreachable(format!("no connection: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_or_without_a_path_and_a_closing_slash() {
        for (given, base) in [
            ("http://127.0.0.1:4270", "http://127.0.0.1:4270"),
            ("https://metrics.example/", "https://metrics.example"),
            (" https://metrics.example/roundel/ ", "https://metrics.example/roundel"),
        ] {
            assert_eq!(checked(given).unwrap(), base);
        }
    }

    #[test]
    fn a_wrong_address_is_refused_with_the_right_form() {
        for bad in ["", "metrics:4270", "ftp://x", "http://", "http://me:pw@x", "http://x/?a=b"] {
            let error = checked(bad).unwrap_err().to_string();
            assert!(
                error.ends_with("give it as http://HOST:PORT or https://HOST"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let header = |value: &'static str| {
            HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))])
        };
        assert_eq!(retry_after(&header("7")), Some(Duration::from_secs(7)));
        for other in ["-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", ""] {
            assert_eq!(retry_after(&header(other)), None, "{other}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn only_another_machine_can_be_overheard() {
        for (url, clear) in [
            ("http://127.0.0.1:1", false),
            ("http://[::1]:1", false),
            ("https://metrics.example", false),
            ("http://localhost:4270", false),
            ("http://10.0.0.7:4270", true),
            ("http://localhost.example:4270", true),
        ] {
            assert_eq!(
                Client::trusting(url, &Trust::default()).unwrap().is_in_the_clear(),
                clear,
                "{url}"
            );
        }
    }
}
