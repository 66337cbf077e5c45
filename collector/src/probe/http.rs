//! A probe of a web page: its status, its text, and how long each part of the way took.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, HOST, LOCATION, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::reach::{Family, Host};
use super::tls::Trust;
use super::{Report, Trouble};

/// Bytes of a page that are read: what is looked for stands before.
const PAGE_MAX: usize = 1 << 20;
const PHASES: &str = "probe_http_duration_seconds";
const NAME: &str = concat!("roundel-probe/", env!("CARGO_PKG_VERSION"));

pub(super) struct Http {
    pub(super) url: Uri,
    pub(super) family: Option<Family>,
    pub(super) method: Method,
    /// Sent to the host of `url` alone, also when it leads elsewhere.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) send: Option<String>,
    pub(super) trust: Trust,
    /// Statuses that are good; all of 200 to 299 when empty.
    pub(super) status: Vec<u16>,
    pub(super) body: Option<Regex>,
    pub(super) body_not: Option<Regex>,
    /// Redirects that are followed.
    pub(super) redirects: u8,
}

/// A page, and the task that reads it from the connection. Dropped, it ends.
struct Page {
    response: Response<Incoming>,
    _connection: JoinSet<()>,
}

impl Http {
    pub(super) async fn ask(&self, report: &mut Report) -> Result<(), Trouble> {
        let mut url = self.url.clone();
        for followed in 0..=self.redirects {
            let page = self.page(&url, report).await?;
            let status = page.response.status();
            report.set("probe_http_status_code", f64::from(status.as_u16()));
            report.set("probe_http_redirects", f64::from(followed));
            let is_wanted = self.status.contains(&status.as_u16());
            match page.response.headers().get(LOCATION) {
                Some(location) if status.is_redirection() && !is_wanted && self.redirects > 0 => {
                    let to = location.to_str().ok().and_then(|to| joined(&url, to));
                    url = to.ok_or(Trouble::failed("it leads to what is no web address"))?;
                }
                _ => return self.judge(page, report).await,
            }
        }
        Err(Trouble::Failed(format!("more than {} redirects", self.redirects)))
    }

    async fn page(&self, url: &Uri, report: &mut Report) -> Result<Page, Trouble> {
        let is_tls = url.scheme() == Some(&Scheme::HTTPS);
        let host = url.host().ok_or(Trouble::failed("the address has no host"))?;
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let way = Host { name: host.to_owned(), family: self.family };
        let stream = way.connect(port, (PHASES, report)).await?;
        report.set("probe_http_ssl", f64::from(u8::from(is_tls)));
        let request = self.request(url)?;
        if is_tls {
            let stream = self.trust.shake((host, stream), (PHASES, &mut *report)).await?;
            exchange(stream, request, report).await
        } else {
            exchange(stream, request, report).await
        }
    }

    fn request(&self, url: &Uri) -> Result<Request<Full<Bytes>>, Trouble> {
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let host = url.authority().map(Authority::as_str).unwrap_or_default();
        let body = self.send.clone().unwrap_or_default();
        let request = Request::builder().method(self.method.clone()).uri(path);
        let request = request.header(HOST, host).header(USER_AGENT, NAME).header(ACCEPT, "*/*");
        let mut request = request.body(Full::new(Bytes::from(body))).map_err(Trouble::failed)?;
        // What opens one door is not shown at another.
        let is_home = (url.scheme(), url.authority()) == (self.url.scheme(), self.url.authority());
        for (name, value) in self.headers.iter().filter(|_| is_home) {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        Ok(request)
    }

    async fn judge(&self, page: Page, report: &mut Report) -> Result<(), Trouble> {
        let begin = Instant::now();
        let Page { response, _connection } = page;
        let (head, mut body) = response.into_parts();
        let told = head.headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        if let Some(len) = told {
            report.set("probe_http_content_length", len);
        }
        let mut text = Vec::new();
        while text.len() < PAGE_MAX
            && let Some(frame) = body.frame().await
        {
            let frame =
                frame.map_err(|error| Trouble::Failed(format!("it breaks off: {error}")))?;
            if let Ok(data) = frame.into_data() {
                text.extend_from_slice(&data);
            }
        }
        report.took(PHASES, "transfer", begin.elapsed());
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        report.set("probe_http_uncompressed_body_length", f64::from(len));
        self.judge_text(head.status, &text, report)
    }

    fn judge_text(
        &self,
        status: StatusCode,
        text: &[u8],
        report: &mut Report,
    ) -> Result<(), Trouble> {
        let lacks = self.body.as_ref().is_some_and(|wanted| !wanted.is_match(text));
        let has = self.body_not.as_ref().is_some_and(|unwanted| unwanted.is_match(text));
        report.set("probe_failed_due_to_regex", f64::from(u8::from(lacks || has)));
        let is_good = match self.status.as_slice() {
            [] => status.is_success(),
            wanted => wanted.contains(&status.as_u16()),
        };
        if !is_good {
            return Err(Trouble::Failed(format!("it answers {status}")));
        }
        if lacks {
            return Err(Trouble::failed("the page lacks what `body` wants"));
        }
        if has {
            return Err(Trouble::failed("the page has what `body_not` forbids"));
        }
        Ok(())
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    report: &mut Report,
) -> Result<Page, Trouble> {
    let begin = Instant::now();
    let broken = |error: hyper::Error| Trouble::Failed(format!("no answer: {error}"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        // What breaks it, the other side of it says too.
        let _ended = connection.await;
    });
    let response = sender.send_request(request).await.map_err(broken)?;
    report.took(PHASES, "processing", begin.elapsed());
    let version = if response.version() == http::Version::HTTP_10 { 1.0 } else { 1.1 };
    report.set("probe_http_version", version);
    Ok(Page { response, _connection: task })
}

/// Where a page at `from` leads to with `to`.
fn joined(from: &Uri, to: &str) -> Option<Uri> {
    let to = to.split('#').next().unwrap_or_default();
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let path = from.path();
    let whole = match to {
        _ if to.starts_with("http://") || to.starts_with("https://") => to.to_owned(),
        _ if to.starts_with("//") => format!("{scheme}:{to}"),
        _ if to.starts_with('/') => format!("{scheme}://{authority}{to}"),
        _ if to.starts_with('?') => format!("{scheme}://{authority}{path}{to}"),
        // Another scheme.
        _ if to.split(['/', '?']).next().is_some_and(|first| first.contains(':')) => return None,
        _ => {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{to}")
        }
    };
    whole.parse::<Uri>().ok().filter(|uri| uri.host().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_as_browsers_do() {
        let from: Uri = "https://a.example:8443/shop/index?x=1".parse().unwrap();
        for (to, expected) in [
            ("http://b.example/", Some("http://b.example/")),
            ("//b.example/y", Some("https://b.example/y")),
            ("/login#top", Some("https://a.example:8443/login")),
            ("basket", Some("https://a.example:8443/shop/basket")),
            ("?page=2", Some("https://a.example:8443/shop/index?page=2")),
            ("javascript:alert(1)", None),
            ("ftp://b.example/", None),
            ("http://", None),
        ] {
            let found = joined(&from, to).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{to}");
        }
    }
}
