//! What the tests of listeners share: a listener on a port of loopback, and patience.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::support::Server;
use crate::accounting::Counts;

/// A listener of one test; dropped, it is left to the runtime's end.
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Starts what `run` makes of a listener and the future that ends it.
    pub(super) async fn start<F: Future<Output = ()> + Send + 'static>(
        run: impl FnOnce(TcpListener, Box<dyn Future<Output = ()> + Send + Unpin>) -> F,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let ended = Box::pin(async {
            let _dropped = stopped.await;
        });
        Self { address, stop, task: tokio::spawn(run(listener, Box::new(ended))) }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Stops it, as a server that ends does.
    pub(super) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// Waits until the books look so.
pub(super) async fn booked(server: &Server, wanted: impl Fn(&Counts) -> bool) -> Counts {
    for _ in 0..2_000 {
        let total = server.parts().accounting.total();
        if wanted(&total) {
            return total;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("in vain: {:?}", server.parts().accounting.total());
}
