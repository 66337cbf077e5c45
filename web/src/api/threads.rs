//! Threads that evaluate queries, behind those that take samples in.
//!
//! They are as many as there are turns and live as long as the process. What they start in turn to help
//! them runs as they do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;

use tracing::warn;

use super::turn::AT_ONCE;

/// Beside a thread that has work, such ones get about a quarter of a processor: a write to the intake
/// hardly waits for queries. Not less, for they share locks with the worker and must come to let go.
const NICENESS: i32 = 5;

type Work = Box<dyn FnOnce() + Send>;

static QUEUE: LazyLock<Sender<Work>> = LazyLock::new(start);

/// Has a thread do the work; it is dropped where the system has no thread to give.
pub(super) fn run(work: impl FnOnce() + Send + 'static) {
    if QUEUE.send(Box::new(work)).is_err() {
        warn!("the system has no thread for queries");
    }
}

fn start() -> Sender<Work> {
    let (queue, works) = mpsc::channel();
    let works = Arc::new(Mutex::new(works));
    for _ in 0..AT_ONCE {
        let works = Arc::clone(&works);
        let started = thread::Builder::new().name("query".to_owned()).spawn(move || serve(&works));
        if let Err(reason) = started {
            warn!(%reason, "fewer queries are evaluated at once");
        }
    }
    queue
}

fn serve(works: &Mutex<Receiver<Work>>) {
    if let Err(reason) = rustix::process::nice(NICENESS) {
        warn!(%reason, "queries are evaluated like any other work");
    }
    loop {
        // Held while it waits: the others wait for the lock instead.
        let next = works.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        // Said where it happened; whoever waits sees that nothing comes.
        drop(catch_unwind(AssertUnwindSafe(work)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_outlives_work_that_breaks_and_gives_way_to_others() {
        for _ in 0..2 * AT_ONCE {
            run(|| panic!("broken work"));
        }
        let (say, said) = mpsc::channel();
        run(move || say.send(rustix::process::nice(0)).unwrap());
        assert_eq!(said.recv().unwrap(), Ok(NICENESS));
    }
}
