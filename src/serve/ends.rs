//! How a server ends: the word to stop, tasks that hear of it, and the thread of the worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::warn;

use crate::worker::Worker;

/// What may still be under way when the server is told to stop.
const FAREWELL: Duration = Duration::from_secs(10);

/// Waits for what is under way, and not for ever.
pub(super) async fn end(mut tasks: JoinSet<()>) {
    let rest = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, rest).await.is_err() {
        warn!("something did not end in time; going without it");
    }
}

/// The worker in a thread of its own.
pub(super) struct WorkerThread {
    halt: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl WorkerThread {
    /// Starts `worker`, which looks at `halt`.
    pub(super) fn start(worker: Worker, halt: Arc<AtomicBool>) -> Result<Self> {
        let (alive, ended) = oneshot::channel::<()>();
        let run = move || {
            let _dropped_when_it_ends = alive;
            worker.run();
        };
        let thread = std::thread::Builder::new().name("worker".to_owned()).spawn(run)?;
        Ok(Self { halt, thread, ended })
    }

    /// Ends when the worker does, which it should not before it is told.
    pub(super) async fn ended(&mut self) {
        // Nothing is ever sent: that the sender is dropped is the message.
        let _dropped = (&mut self.ended).await;
    }

    /// Tells the worker to stop and waits for its last round.
    pub(super) async fn end(self) -> Result<()> {
        self.halt.store(true, Ordering::Release);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_| {
            anyhow::anyhow!("the worker panicked; the journal holds what it did not apply")
        })
    }
}

/// Ends when the server is told to stop.
pub(super) async fn ended(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone has stopped too.
    let _stopped = stopped.wait_for(|stop| *stop).await;
}

/// Ends at SIGTERM or Ctrl-C. Both are caught from the call on, not from the first poll.
pub(crate) fn told_to_stop() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
