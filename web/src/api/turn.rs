//! A turn: work that may take long, run where it blocks nobody, bounded in time and in number.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use query::Patience;
use tokio::sync::Semaphore;

use super::problem;
use crate::views::Web;

/// Queries evaluated at once: they share the machine with intake, which comes first.
const AT_ONCE: usize = 4;
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
/// came too late or broke off, and for a server that is not ready.
pub(crate) async fn in_turn<T: Send + 'static>(
    web: &Web,
    wait: Duration,
    work: impl FnOnce(&Patience) -> T + Send + 'static,
) -> Result<T, Response> {
    if !web.health.ready() {
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
        let task = tokio::task::spawn_blocking(move || {
            let done = work(&patience);
            drop(turn);
            done
        });
        task.await.ok()
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

fn timed_out() -> Response {
    problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "timeout",
        "query timed out in expression evaluation; ask for less, or for a longer timeout",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::rig::Rig;

    #[tokio::test]
    async fn work_is_told_when_its_client_goes() {
        let rig = Rig::with("a", "");
        let (started, begin) = tokio::sync::oneshot::channel();
        let (ended, end) = mpsc::channel();
        let web = rig.web.clone();
        let asking = tokio::spawn(async move {
            let work = move |patience: &Patience| {
                started.send(()).unwrap();
                while !patience.has_ended() {
                    std::thread::yield_now();
                }
                ended.send(()).unwrap();
            };
            in_turn(&web, LONGEST_WAIT, work).await.map_err(|refused| refused.status())
        });
        begin.await.unwrap();
        asking.abort();
        let end = tokio::task::spawn_blocking(move || end.recv_timeout(LONGEST_WAIT));
        end.await.unwrap().unwrap();
    }
}
