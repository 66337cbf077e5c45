//! A turn: work that may take long, run where it blocks nobody, bounded in time and in number.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use query::Patience;
use tokio::sync::{Semaphore, oneshot};

use super::{problem, threads};
use crate::views::Web;

/// Queries evaluated at once: they share the machine with intake, which comes first.
pub(super) const AT_ONCE: usize = 4;
/// The longest a query may take, its wait for a turn included, whatever it asks for.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// Ends the patience when the handler ends, be it with an answer or because its client went.
struct Leaving(Patience);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Runs `work` where it blocks nobody, when it is its turn. Errors with the answer for work that
/// came too late or broke off, and for a server that recovers.
pub(crate) async fn in_turn<T: Send + 'static>(
    web: &Web,
    wait: Duration,
    work: impl FnOnce(&Patience) -> T + Send + 'static,
) -> Result<T, Response> {
    if !web.health.recovered() {
        let message = "the archives are being brought up to date; try again in a moment";
        return Err(problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message));
    }
    if wait.is_zero() {
        return Err(timed_out());
    }
    let patience = Patience::begin();
    let _leaving = Leaving(patience.clone());
    let run = async {
        // A turn is held by the work itself: one that timed out still counts until it ends.
        let turn = TURNS.acquire().await.ok()?;
        let (give, done) = oneshot::channel();
        threads::run(move || {
            let done = work(&patience);
            drop(turn);
            // Where nobody waits any more, it is dropped here, and not where requests are answered.
            let _nobody_waits = give.send(done);
        });
        done.await.ok()
    };
    match tokio::time::timeout(wait, run).await {
        Ok(Some(done)) => Ok(done),
        Ok(None) => Err(problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the evaluation broke off; the log of the server says why",
        )),
        Err(_) => Err(timed_out()),
    }
}

/// Runs work that takes no longer than to wake another thread for it, where it is asked for, if it is
/// nobody else's turn: while queries have much to do intake comes first, and all of them wait in line.
/// `None` where it is to be done in turn.
pub(super) fn at_once<T>(web: &Web, work: impl FnOnce() -> Option<T>) -> Option<T> {
    if !web.health.recovered() || TURNS.available_permits() < AT_ONCE {
        return None;
    }
    let _turn = TURNS.try_acquire().ok()?;
    // Should it break, it does so again in turn, which is answered.
    catch_unwind(AssertUnwindSafe(work)).ok().flatten()
}

fn timed_out() -> Response {
    problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "timeout",
        "query timed out in expression evaluation; ask for less, or for a longer timeout",
    )
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;
    use crate::rig::Rig;

    /// Work that ends only when nobody waits for it, and says when it begins and ends.
    async fn endless(web: Web, say: mpsc::UnboundedSender<&'static str>, wait: Duration) {
        let work = move |patience: &Patience| {
            say.send("begun").unwrap();
            while !patience.has_ended() {
                std::thread::yield_now();
            }
            say.send("ended").unwrap();
        };
        assert!(in_turn(&web, wait, work).await.is_err(), "it has no answer");
    }

    #[tokio::test]
    async fn work_ends_when_its_client_goes() {
        let (say, mut said) = mpsc::unbounded_channel();
        let web = Rig::with("a", "").web.clone();
        let router = Router::new().route("/", get(move || endless(web, say, LONGEST_WAIT)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert_eq!(said.recv().await, Some("begun"));
        drop(client);
        assert_eq!(said.recv().await, Some("ended"));
    }

    #[tokio::test]
    async fn work_ends_when_its_time_is_over() {
        let (say, mut said) = mpsc::unbounded_channel();
        endless(Rig::with("a", "").web.clone(), say, Duration::from_millis(50)).await;
        assert_eq!((said.recv().await, said.recv().await), (Some("begun"), Some("ended")));
    }
}
