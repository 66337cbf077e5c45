//! One keep-alive connection to a server, as a dashboard or a sender holds it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A sender that is told to wait comes again after this.
const PAUSE: Duration = Duration::from_millis(50);
/// Ten minutes of waiting: the server is stuck.
const MOST_PAUSES: u32 = 12_000;

/// A connection, and what its server wants to see.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    authorization: Option<String>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, token: Option<&str>) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| address.to_string())?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the server or with us; a request under way hears of it.
        tokio::spawn(connection);
        Ok(Self { sender, authorization: token.map(|token| format!("Bearer {token}")) })
    }

    /// The body of a 200.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes> {
        let request = self.request("GET", path).body(Full::default())?;
        let (status, body) = self.send(request).await?;
        if status != StatusCode::OK {
            bail!("{path} answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    /// Sends a request in JSON, which must be answered with 200.
    pub(crate) async fn post(&mut self, path: &str, body: String) -> Result<()> {
        let request = self.request("POST", path).header("content-type", "application/json");
        let (status, body) = self.send(request.body(Full::new(Bytes::from(body)))?).await?;
        if status != StatusCode::OK {
            bail!("{path} answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }

    /// A body of remote write, again and again while the server has no room for it.
    pub(crate) async fn write(&mut self, body: &Bytes) -> Result<()> {
        for _ in 0..MOST_PAUSES {
            let request = self
                .request("POST", "/api/v1/write")
                .header("content-type", "application/x-protobuf")
                .header("content-encoding", "snappy")
                .header("x-prometheus-remote-write-version", "0.1.0")
                .body(Full::new(body.clone()))?;
            let (status, answer) = self.send(request).await?;
            match status {
                StatusCode::OK | StatusCode::NO_CONTENT => return Ok(()),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    tokio::time::sleep(PAUSE).await;
                }
                _ => bail!("a write answered {status}: {}", String::from_utf8_lossy(&answer)),
            }
        }
        bail!("a server takes no more")
    }

    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(path).header("host", "bench");
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}
