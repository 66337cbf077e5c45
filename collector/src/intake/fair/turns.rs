//! Turns at the processors: deficit round robin over senders, so that one that floods delays the
//! others by what it may do in one round and no more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Sender;

/// Bytes of work that a sender is given in each round: the push of an agent of ours and the usual
/// request of a Prometheus are less, so that these go in their first round.
const QUANTUM: usize = 64 << 10;

/// Turns at once for each processor: while one waits for room on the disk another may work.
const TURNS_PER_CPU: usize = 2;
/// Turns at once at least.
const TURNS_MIN: usize = 4;

/// The right to work, handed from request to request.
#[derive(Clone, Debug)]
pub(in crate::intake) struct Turns(Arc<Mutex<Queues>>);

/// A turn; dropped, it goes to who is next.
#[derive(Debug)]
pub(in crate::intake) struct Turn {
    turns: Turns,
}

#[derive(Debug)]
struct Queues {
    free: usize,
    /// Senders with work that waits, in the order of the round.
    round: VecDeque<Sender>,
    waiting: HashMap<Sender, Queue>,
}

/// The work of one sender that waits, oldest first.
#[derive(Debug, Default)]
struct Queue {
    deficit: usize,
    work: VecDeque<(usize, oneshot::Sender<Turn>)>,
}

impl Turns {
    /// As many turns at once as suits this machine.
    pub(in crate::intake) fn of_this_machine() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new((cpus * TURNS_PER_CPU).max(TURNS_MIN))
    }

    fn new(at_once: usize) -> Self {
        Self(Arc::new(Mutex::new(Queues {
            free: at_once,
            round: VecDeque::new(),
            waiting: HashMap::new(),
        })))
    }

    /// Waits for a turn for work of `sender` that costs so many bytes. Whoever stops waiting loses
    /// nothing but its place.
    pub(in crate::intake) async fn take(&self, sender: Sender, cost: usize) -> Turn {
        let given = {
            let (give, given) = oneshot::channel();
            let mut queues = self.lock();
            if !queues.waiting.contains_key(&sender) {
                queues.round.push_back(sender);
            }
            queues.waiting.entry(sender).or_default().work.push_back((cost, give));
            given
        };
        self.hand_out();
        given.await.expect("work that waits is handed a turn before it is forgotten")
    }

    /// Hands free turns to who is next.
    fn hand_out(&self) {
        loop {
            // The lock is not held while a turn is sent: one that nobody waits for any more is
            // dropped at once, and its drop comes here.
            let Some(give) = self.lock().next() else { return };
            drop(give.send(Turn { turns: self.clone() }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    /// Who is next, if a turn is free.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        if self.free == 0 {
            return None;
        }
        loop {
            let sender = *self.round.front()?;
            let queue = self.waiting.get_mut(&sender).expect("who is in the round has work");
            while queue.work.front().is_some_and(|(_, give)| give.is_closed()) {
                queue.work.pop_front();
            }
            match queue.work.front() {
                None => {
                    self.round.pop_front();
                    self.waiting.remove(&sender);
                }
                Some((cost, _)) if *cost <= queue.deficit => {
                    queue.deficit -= cost;
                    let (_, give) = queue.work.pop_front().expect("just looked at");
                    if queue.work.is_empty() {
                        // Nothing is saved up: who comes back starts anew.
                        self.round.pop_front();
                        self.waiting.remove(&sender);
                    }
                    self.free -= 1;
                    return Some(give);
                }
                Some(_) => {
                    queue.deficit += QUANTUM;
                    self.round.rotate_left(1);
                }
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.lock().free += 1;
        self.turns.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rrd::InstanceId;
    use tokio::task::JoinSet;

    use super::*;

    const RELAY: Sender = Sender::Relay(None);

    fn agent(id: u128) -> Sender {
        Sender::Instance(InstanceId(id))
    }

    /// Waits, at most for a turn of the runtime's, until so much work waits.
    async fn until_waiting(turns: &Turns, count: usize) {
        for _ in 0..10_000 {
            let waiting: usize = turns.lock().waiting.values().map(|queue| queue.work.len()).sum();
            if waiting == count {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{count} never wait");
    }

    #[tokio::test]
    async fn an_agent_waits_for_one_turn_of_a_relay_that_floods() {
        for (bytes, before) in [(QUANTUM, 1), (8 << 20, 0)] {
            let turns = Turns::new(1);
            let held = turns.take(RELAY, bytes).await;
            let served = Arc::new(AtomicUsize::new(0));
            let mut flood = JoinSet::new();
            for _ in 0..1_000 {
                let (turns, served) = (turns.clone(), served.clone());
                flood.spawn(async move {
                    let _turn = turns.take(RELAY, bytes).await;
                    served.fetch_add(1, Ordering::SeqCst);
                });
            }
            until_waiting(&turns, 1_000).await;
            let push = tokio::spawn({
                let (turns, served) = (turns.clone(), served.clone());
                async move {
                    let _turn = turns.take(agent(1), 2_000).await;
                    served.load(Ordering::SeqCst)
                }
            });
            until_waiting(&turns, 1_001).await;
            drop(held);
            let first = push.await.unwrap();
            assert!(first <= before, "{first} requests of {bytes} bytes went first");
            flood.join_all().await;
            assert_eq!(served.load(Ordering::SeqCst), 1_000, "the relay is served, too");
        }
    }

    #[tokio::test]
    async fn a_flood_of_large_requests_gets_as_many_bytes_as_one_of_small_ones() {
        const LARGE: usize = 16 * QUANTUM;
        const SMALL: usize = QUANTUM / 4;
        let turns = Turns::new(1);
        let held = turns.take(agent(9), 1).await;
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut work = JoinSet::new();
        for (id, cost, count) in [(1, LARGE, 8), (2, SMALL, 512)] {
            for _ in 0..count {
                let (turns, told) = (turns.clone(), told.clone());
                work.spawn(async move {
                    let _turn = turns.take(agent(id), cost).await;
                    told.send((id, cost)).unwrap();
                });
            }
        }
        until_waiting(&turns, 8 + 512).await;
        drop((held, told));
        work.join_all().await;
        let mut bytes = [0_usize; 2];
        // Both have work left in the first half.
        for _ in 0..260 {
            let (id, cost) = order.recv().await.unwrap();
            bytes[usize::from(id == 2)] += cost;
        }
        assert!(bytes[0].abs_diff(bytes[1]) <= LARGE, "{bytes:?}");
    }

    #[tokio::test]
    async fn work_that_is_given_up_costs_no_turn() {
        let turns = Turns::new(1);
        let held = turns.take(RELAY, 1).await;
        let given_up = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take(agent(1), 1).await) }
        });
        until_waiting(&turns, 1).await;
        given_up.abort();
        assert!(given_up.await.unwrap_err().is_cancelled());
        drop(held);
        drop(turns.take(RELAY, 1).await);
        let queues = turns.lock();
        assert_eq!((queues.free, queues.round.len(), queues.waiting.len()), (1, 0, 0));
    }
}
