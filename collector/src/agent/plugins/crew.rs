//! A crew: jobs that are run again and again, a few at a time, and what each found last.
//!
//! A look takes what was found last and waits for nobody. What a job found is said again at each look until
//! its next run, and no longer than two runs: a plugin that is no longer heard of has no state.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::finding::Finding;
use crate::agent::reading::Readings;
use crate::agent::source::{Answer, Look, Source};

/// Plugins that run at one time, of all kinds: they are programs, and this machine has other work.
const AT_ONCE: usize = 4;

/// How long the first look waits for a first answer of everybody.
const FIRST_ANSWERS: Duration = Duration::from_mins(1);

static ROOM: Semaphore = Semaphore::const_new(AT_ONCE);

/// Something that is done again and again.
pub(super) trait Job: Send + 'static {
    /// What it is called: unique in its crew.
    fn name(&self) -> &str;

    /// Time between two runs.
    fn every(&self) -> Duration;

    /// The room that its runs take a part of.
    fn room(&self) -> &'static Semaphore {
        &ROOM
    }

    /// Does it once.
    fn run(&mut self) -> impl Future<Output = Vec<Finding>> + Send;
}

/// The running jobs. Dropped, they end, and with them the programs they wait for.
pub(super) struct Crew {
    board: Arc<Board>,
    _tasks: JoinSet<()>,
}

/// What each job found last.
struct Board {
    posted: Mutex<BTreeMap<String, Posted>>,
    /// Jobs that have not answered yet.
    awaited: watch::Sender<usize>,
}

struct Posted {
    findings: Vec<Finding>,
    good_until: Instant,
}

impl Crew {
    /// Starts these jobs. The first runs are made at once, the later ones spread over the time between.
    pub(super) fn start(jobs: Vec<impl Job>) -> Self {
        let (awaited, _) = watch::channel(jobs.len());
        let board = Arc::new(Board { posted: Mutex::default(), awaited });
        let mut tasks = JoinSet::new();
        for job in jobs {
            tasks.spawn(work(job, Arc::clone(&board)));
        }
        Self { board, _tasks: tasks }
    }
}

impl Source for Crew {
    fn read<'a>(&'a mut self, _: Look, out: &'a mut Readings) -> Answer<'a> {
        Box::pin(async move {
            let mut awaited = self.board.awaited.subscribe();
            // The board, which we hold, keeps the sender.
            let _all = awaited.wait_for(|jobs| *jobs == 0).await;
            self.board.read(Instant::now(), out);
            Ok(())
        })
    }

    fn timeout(&self) -> Duration {
        FIRST_ANSWERS
    }
}

async fn work(mut job: impl Job, board: Arc<Board>) {
    let (begin, every) = (Instant::now(), job.every());
    let mut is_first = true;
    let mut due = begin + splay(job.name(), every);
    loop {
        let room = job.room().acquire().await.expect("nobody closes it");
        let findings = job.run().await;
        drop(room);
        let now = Instant::now();
        board.post(job.name(), Posted { findings, good_until: now + 2 * every });
        if std::mem::take(&mut is_first) {
            board.awaited.send_modify(|jobs| *jobs -= 1);
        }
        // A run that took longer than the time between leaves runs out, and keeps its turn.
        while due <= now {
            due += every;
        }
        sleep_until(due).await;
    }
}

/// When in the time between two runs a job has its turn.
fn splay(name: &str, every: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(hasher.finish() % every_ms)
}

impl Board {
    fn post(&self, name: &str, posted: Posted) {
        let mut all = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), posted);
    }

    fn read(&self, now: Instant, out: &mut Readings) {
        let all = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        for posted in all.values().filter(|posted| now <= posted.good_until) {
            for finding in &posted.findings {
                finding.tell(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rrd::{Step, Timestamp};

    use super::*;

    /// Counts its runs, and hangs at the last one.
    struct Counted {
        name: String,
        runs: f64,
        last: f64,
        running: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    impl Counted {
        fn upto(name: &str, last: f64) -> Self {
            let (running, most) = Default::default();
            Self { name: name.to_owned(), runs: 0.0, last, running, most }
        }
    }

    impl Job for Counted {
        fn name(&self) -> &str {
            &self.name
        }

        fn every(&self) -> Duration {
            Duration::from_mins(1)
        }

        async fn run(&mut self) -> Vec<Finding> {
            self.runs += 1.0;
            if self.runs > self.last {
                pending::<()>().await;
            }
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(running, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            vec![Finding::gauge("runs", &[("job", &self.name)], self.runs)]
        }
    }

    async fn seen(crew: &mut Crew, job: &str) -> Option<f64> {
        let look = Look { at: Timestamp::from_secs(0), step: Step::from_secs(10).unwrap() };
        let mut out = Readings::default();
        crew.read(look, &mut out).await.unwrap();
        out.value("runs", &[("job", job)])
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_look_waits_for_the_first_answer_and_the_later_ones_for_nobody() {
        let mut crew = Crew::start(vec![Counted::upto("a", 2.0)]);
        let begin = Instant::now();
        assert_eq!(seen(&mut crew, "a").await, Some(1.0));
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
        tokio::time::sleep(Duration::from_mins(2)).await;
        let then = Instant::now();
        assert_eq!(seen(&mut crew, "a").await, Some(2.0), "while the third run hangs");
        assert_eq!(then.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_found_again_is_not_said_for_ever() {
        let mut crew = Crew::start(vec![Counted::upto("a", 1.0)]);
        assert_eq!(seen(&mut crew, "a").await, Some(1.0));
        tokio::time::sleep(Duration::from_secs(119)).await;
        assert_eq!(seen(&mut crew, "a").await, Some(1.0));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(seen(&mut crew, "a").await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn few_jobs_run_at_one_time() {
        let (running, most) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let job = |number: u8| Counted {
            running: Arc::clone(&running),
            most: Arc::clone(&most),
            ..Counted::upto(&format!("job {number}"), 9.0)
        };
        let mut crew = Crew::start((0..20).map(job).collect());
        assert_eq!(seen(&mut crew, "job 19").await, Some(1.0));
        assert!((1..=AT_ONCE).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    }

    #[test]
    fn turns_are_spread_over_the_time_between() {
        let every = Duration::from_mins(1);
        let turns: Vec<u64> = (0..100)
            .map(|number| splay(&format!("check {number}"), every).as_secs() / 15)
            .collect();
        for quarter in 0..4 {
            let count = turns.iter().filter(|turn| **turn == quarter).count();
            assert!((10..=45).contains(&count), "{turns:?}");
        }
    }
}
