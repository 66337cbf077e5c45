//! Listeners of senders that speak no HTTP and show no credential: connections bounded in number, and
//! whom they stand for.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::warn;

use super::admission::Held;
use super::fair::Sender;
use super::{Denial, Inner};
use crate::accounting::{Reason, Tally, Way};
use crate::auth;
use crate::foreign::Origin;
use crate::registry::TokenId;

/// Connections of one listener; more wait in its queue.
const CONNECTION_LIMIT: usize = 256;
/// Pause after a failed accept: out of descriptors, only other connections' ends help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Pause before what the journal had no room for is offered to it again: a round makes room within
/// seconds.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Tells connections that the server stops.
pub(super) type Stopped = watch::Receiver<bool>;

/// Gives each connection to `serve` until `shutdown` ends, then waits until all have ended.
pub(super) async fn run<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    serve: impl Fn(TcpStream, SocketAddr, Stopped) -> F,
) {
    let (stop, stopped) = watch::channel(false);
    let places = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("it is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let connection = serve(stream, peer, stopped.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => pause(&error).await,
        }
    }
    drop(listener);
    stop.send_replace(true);
    while connections.join_next().await.is_some() {}
}

async fn pause(error: &io::Error) {
    warn!(%error, "cannot accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Ends when the server stops.
pub(super) async fn ended(stopped: &mut Stopped) {
    // A listener that is gone has stopped too.
    let _stopped = stopped.wait_for(|stop| *stop).await;
}

impl Inner {
    /// Errors when the relay that a listener stands for may not send.
    pub(super) fn standing(&self, relay: Option<TokenId>) -> Result<(), Denial> {
        let Some(id) = relay else { return Ok(()) };
        auth::relay(&self.parts.registry, id, self.parts.clock.wall())?;
        Ok(())
    }

    /// Does `work` again and again while the journal has no room or the sender has brought more than
    /// it may, for as long as nothing else ends it. `bytes` are held meanwhile.
    pub(super) async fn until_taken<T, F: Future<Output = Result<T, Denial>>>(
        &self,
        (relay, bytes): (Option<TokenId>, usize),
        work: impl Fn(Held) -> F,
    ) -> Result<T, Denial> {
        loop {
            let taken = match self.admit(Sender::Relay(relay)) {
                Ok(()) => self.room.take(bytes).await,
                Err(denial) => Err(denial),
            };
            let taken = match taken {
                Ok(held) => work(held).await,
                Err(denial) => Err(denial),
            };
            match taken {
                Err(denial) if denial.is_passing() => tokio::time::sleep(RETRY_PAUSE).await,
                other => return other,
            }
        }
    }

    /// Enters samples into the books that were refused all together.
    pub(super) fn book_refused(&self, origin: Origin, reason: Reason, count: u64) {
        let mut tally = Tally::of(Way::from(origin));
        tally.refused(None, reason, count);
        self.parts.accounting.enter(&tally);
    }
}

impl Denial {
    /// True where only time is needed: the journal is full, too much is under way or came at once.
    fn is_passing(&self) -> bool {
        matches!(self.problem().error.as_str(), "busy" | "journal" | "rate")
    }

    /// What the books call what was refused so.
    pub(super) fn reason(&self) -> Reason {
        match self.problem().error.as_str() {
            "disk_full" => Reason::DiskFull,
            "store" => Reason::Store,
            _ if self.status().is_server_error() => Reason::Unstored,
            _ => Reason::Malformed,
        }
    }
}
