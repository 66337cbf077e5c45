//! A journal without room: requests wait for it as they came, and are worked on once.

use std::pin::pin;
use std::time::Duration;

use journal::Record;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::support::*;
use crate::limits::WRITE_BODY_LIMIT;

const UP: [(&str, &str); 3] = [("__name__", "up"), ("job", "j"), ("instance", "a")];

/// Fills the journal until samples find no room, and the worker has read it all.
async fn fill(server: &Server) {
    let journal = &server.parts().journal;
    for len in [100_000, 4_000] {
        while let Ok(seq) = journal.append(journal::TICK, &vec![0; len]) {
            journal.applied(seq).await.unwrap();
        }
    }
}

/// What a round does once its files are written.
fn trim(server: &Server) {
    let journal = &server.parts().journal;
    let (seq, epoch) = (journal.stats().committed, journal.epoch());
    journal.trim(Record { seq, epoch, ..Record::default() }).unwrap();
}

fn write() -> Vec<u8> {
    WriteBody::default().series(&UP, &[(at(0), 1.0)]).0
}

#[tokio::test]
async fn requests_wait_for_a_full_journal_and_are_taken_when_a_round_makes_room() {
    let server = Server::start();
    let join = server.token(json!({"kind": "join"})).await;
    let agent = server.enroll(&join, "web", 1).await;
    fill(&server).await;
    let (body, push) = (write(), empty_push(agent.id));
    let mut written = pin!(server.write(ADMIN, &body));
    let mut pushed = pin!(server.push(&agent.credential, &push));
    let early = async { tokio::join!(&mut written, &mut pushed) };
    assert!(timeout(Duration::from_millis(50), early).await.is_err(), "both wait");
    assert_eq!(server.parts().accounting.total().received, 0);
    trim(&server);
    let (written, pushed) = tokio::join!(written, pushed);
    assert_eq!((written.status.as_u16(), pushed.status.as_u16()), (204, 200));
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.stored), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_stays_full_is_told_after_seconds_and_nothing_is_unpacked() {
    let server = Server::start();
    fill(&server).await;
    let begun = Instant::now();
    // It would be refused for good if anybody looked into it.
    let large = vec![0xff; 1 << 20];
    let refused = server.write_raw(ADMIN, &large).await.is(503, "busy");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(begun.elapsed().as_secs(), 4);
    trim(&server);
    server.write_raw(ADMIN, &large).await.is(400, "bad_request");
}

#[tokio::test(start_paused = true)]
async fn bodies_that_wait_for_the_journal_are_bounded() {
    let server = Server::start();
    fill(&server).await;
    let large = vec![0xff; WRITE_BODY_LIMIT];
    let write = || async {
        let begun = Instant::now();
        server.write_raw(ADMIN, &large).await.is(503, "busy");
        begun.elapsed().as_secs()
    };
    let (one, two, three, four, five) = tokio::join!(write(), write(), write(), write(), write());
    let mut waited = [one, two, three, four, five];
    waited.sort_unstable();
    assert_eq!(waited, [0, 4, 4, 4, 4], "32 MiB wait");
    assert_eq!(write().await, 4, "and none of those that went is counted");
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_has_stopped_lets_nobody_wait() {
    let server = Server::start();
    fill(&server).await;
    let begun = Instant::now();
    let body = write();
    let stop = async {
        tokio::task::yield_now().await;
        server.parts().journal.close();
    };
    let (refused, ()) = tokio::join!(server.write(ADMIN, &body), stop);
    assert_eq!(refused.status, 503);
    assert_eq!(server.write(ADMIN, &body).await.status, 503);
    assert!(begun.elapsed() < Duration::from_secs(1));
}
