//! The HTTP client below scrapes and the agent: plain or TLS, and few connections that are kept.

use std::time::Duration;

use bytes::Bytes;
use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::rustls::ClientConfig;

/// A connection idle for longer than the usual step and a half is not worth its descriptor, and may have
/// been forgotten by something in between.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Sends requests whose bodies are `B`. Cheap to clone.
pub(crate) type Client<B> = legacy::Client<HttpsConnector<HttpConnector>, B>;

/// A client without a connection. Whom it believes, `tls` says; without a `connect_timeout` the bound is
/// that of the whole exchange.
pub(crate) fn client<B>(tls: ClientConfig, connect_timeout: Option<Duration>) -> Client<B>
where
    B: Body<Data = Bytes> + Send,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(connect_timeout);
    tcp.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(1)
        .build(connector)
}
