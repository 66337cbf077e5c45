//! The accept loop: connections bounded in number and time, and a stop that lets answers finish.

mod addresses;
mod certificate;
mod pace;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::middleware::map_response;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt as _;
use tracing::{debug, warn};

use addresses::{Addresses, Present};
use pace::{Pace, Paced};
use tls::Handshakes;
pub use tls::{ClientName, Tls, TlsError, TlsFiles, watch_files};
pub(crate) use tls::{certificates, read};

/// How patient the loop is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From a request's first byte to the end of its headers: a slow sender holds one of few
    /// places.
    pub header: Duration,
    /// From one request to the next: agents push every 10 s and should keep their connection.
    pub idle: Duration,
    /// For a client to take more of its answer: one that asks and never reads holds a place, too.
    pub stall: Duration,
    /// For answers under way when the server stops.
    pub drain: Duration,
    /// Connections at once; more wait in the listener's queue.
    pub connection_limit: usize,
    /// Connections of one address at once; more are closed. Loopback has no such limit: whoever is
    /// behind a proxy comes from there.
    pub address_limit: usize,
    /// For a TLS handshake, waiting for others' included: it costs a millisecond and a round trip.
    pub handshake: Duration,
    /// TLS handshakes at once; more wait for one of these to end.
    pub handshake_limit: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(5),
            idle: Duration::from_mins(1),
            stall: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            connection_limit: 2_000,
            // Half of all handshakes, so that one address cannot hold all of them.
            address_limit: 256,
            handshake: Duration::from_secs(5),
            handshake_limit: 512,
        }
    }
}

/// Headers of one request; a browser with many cookies sends a quarter of it.
const HEADER_SIZE_LIMIT: usize = 16 << 10;
/// Headers of one request by number.
const HEADER_COUNT_LIMIT: usize = 100;
/// Pause after a failed accept: out of descriptors, only other connections' ends help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `shutdown` ends, then lets answers under way finish.
///
/// Handlers find the peer's address as `ConnectInfo<SocketAddr>`.
pub async fn run(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    run_with(listener, router, shutdown, Patience::default()).await;
}

/// Serves `router` with TLS on `listener` until `shutdown` ends, as [`run`] does.
///
/// Handlers find the name in a client's certificate as [`ClientName`].
pub async fn run_tls(
    listener: TcpListener,
    router: Router,
    tls: Arc<Tls>,
    shutdown: impl Future<Output = ()>,
) {
    let router = router.layer(map_response(tls::mark));
    let patience = Patience::default();
    let handshakes = Handshakes::new(tls, patience);
    Door { router, patience, handshakes: Some(handshakes) }.open(listener, shutdown).await;
}

/// [`run`] with another patience.
pub async fn run_with(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    patience: Patience,
) {
    Door { router, patience, handshakes: None }.open(listener, shutdown).await;
}

/// What every connection meets.
#[derive(Clone)]
struct Door {
    router: Router,
    patience: Patience,
    /// With TLS: how a connection begins.
    handshakes: Option<Handshakes>,
}

impl Door {
    async fn open(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(self.patience.connection_limit));
        let addresses = Addresses::new(self.patience.address_limit);
        let graceful = GracefulShutdown::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = async {
                let place =
                    places.clone().acquire_owned().await.expect("the semaphore is never closed");
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(present) = addresses.enter(peer.ip()) else {
                        debug!(%peer, "too many connections of one address; closed");
                        continue;
                    };
                    let visit = Visit { door: self.clone(), stream, peer };
                    tokio::spawn(visit.take(graceful.watcher(), (place, present)));
                }
                Err(error) => pause(&error).await,
            }
        }
        drop(listener);
        if tokio::time::timeout(self.patience.drain, graceful.shutdown()).await.is_err() {
            warn!("some answers were not finished when the server stopped");
        }
    }
}

/// One connection.
struct Visit {
    door: Door,
    stream: TcpStream,
    peer: SocketAddr,
}

impl Visit {
    /// Serves the connection to its end; only then others may have its place.
    async fn take(self, watcher: Watcher, _place: (OwnedSemaphorePermit, Present)) {
        let Self { door: Door { router, patience, handshakes }, stream, peer } = self;
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "cannot turn Nagle's algorithm off");
        }
        let ended = match handshakes {
            None => watcher.watch(serve(stream, peer, router, patience)).await,
            Some(handshakes) => match handshakes.greet(stream).await {
                Ok((stream, name)) => {
                    let peer = Peer { address: peer, name };
                    watcher.watch(serve(stream, peer, router, patience)).await
                }
                Err(error) => return debug!(%peer, %error, "the TLS handshake failed"),
            },
        };
        if let Err(error) = ended {
            debug!(%peer, %error, "connection ended early");
        }
    }
}

async fn pause(error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    );
    if !of_one_connection {
        warn!(%error, "cannot accept connections");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Who is at the other end.
#[derive(Clone)]
struct Peer {
    address: SocketAddr,
    /// What its certificate calls it.
    name: Option<ClientName>,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self { address, name: None }
    }
}

type Request = hyper::Request<Incoming>;
type Answer = Result<Response, Infallible>;

fn serve<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
    peer: impl Into<Peer>,
    router: Router,
    patience: Patience,
) -> http1::Connection<
    TokioIo<Paced<T>>,
    impl Service<Request, Response = Response, Error = Infallible, Future: Send>,
> {
    let peer = peer.into();
    let pace = Pace::new(patience.header, patience.stall);
    let io = TokioIo::new(Paced::new(stream, pace.clone()));
    let service = service_fn(move |mut request: Request| {
        pace.answering();
        request.extensions_mut().insert(ConnectInfo(peer.address));
        if let Some(name) = &peer.name {
            request.extensions_mut().insert(name.clone());
        }
        let (router, pace) = (router.clone(), pace.clone());
        async move {
            let answer: Answer = router.oneshot(request).await;
            pace.idle();
            answer
        }
    });
    // hyper's own header timeout runs between requests too, so that it is the idle timeout here.
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.idle)
        .max_headers(HEADER_COUNT_LIMIT)
        .max_buf_size(HEADER_SIZE_LIMIT)
        .serve_connection(io, service)
}

#[cfg(test)]
mod tests;
