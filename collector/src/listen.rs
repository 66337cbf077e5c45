//! The accept loop: connections bounded in number and time, and a stop that lets answers finish.

mod pace;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use pace::{Pace, Paced};

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
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(5),
            idle: Duration::from_mins(1),
            stall: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            connection_limit: 2_000,
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

/// [`run`] with another patience.
pub async fn run_with(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    patience: Patience,
) {
    let places = Arc::new(Semaphore::new(patience.connection_limit));
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
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%peer, %error, "cannot turn Nagle's algorithm off");
                }
                let connection = serve(stream, peer, router.clone(), patience);
                let connection = graceful.watch(connection);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        debug!(%peer, %error, "connection ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => pause(&error).await,
        }
    }
    drop(listener);
    if tokio::time::timeout(patience.drain, graceful.shutdown()).await.is_err() {
        warn!("some answers were not finished when the server stopped");
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

type Request = hyper::Request<Incoming>;
type Answer = Result<Response, Infallible>;

fn serve<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: T,
    peer: SocketAddr,
    router: Router,
    patience: Patience,
) -> http1::Connection<
    TokioIo<Paced<T>>,
    impl Service<Request, Response = Response, Error = Infallible, Future: Send>,
> {
    let pace = Pace::new(patience.header, patience.stall);
    let io = TokioIo::new(Paced::new(stream, pace.clone()));
    let service = service_fn(move |mut request: Request| {
        pace.answering();
        request.extensions_mut().insert(ConnectInfo(peer));
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
