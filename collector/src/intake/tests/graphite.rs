//! Tests of the Graphite listener: lines through a socket, and what happens when they come too fast,
//! too long or for nobody.

use std::fmt::Write as _;

use rrd::Labels;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::sockets::{Listening, booked};
use super::support::*;
use crate::accounting::Reason;
use crate::graphite::Templates;
use crate::intake::{GraphiteSettings, Rate, Rates};

async fn listen(server: &Server, settings: GraphiteSettings) -> Listening {
    let intake = server.intake.clone();
    Listening::start(|listener, ended| intake.graphite(listener, settings, ended)).await
}

fn secs() -> i64 {
    NOW.as_millis() / 1000
}

fn has(server: &Server, job: &str, instance: &str, pairs: &[(&str, &str)]) -> bool {
    let Some(found) = server.parts().registry.named(job, instance) else { return false };
    let key = Labels::from_pairs(pairs.iter().copied()).unwrap().to_key();
    server.parts().store.resolve(found.id, &key).is_some()
}

#[tokio::test]
async fn lines_become_series_of_the_host_in_their_path() {
    let server = Server::start();
    let templates = Templates::parse(&["servers.* .host.measurement* job=metal"]).unwrap();
    let listening = listen(&server, GraphiteSettings { relay: None, templates }).await;
    let mut stream = listening.connect().await;
    let now = secs();
    let text = format!(
        "servers.web-1.load.one 1.5 {now}\ncollectd.web-2.cpu-0.cpu-idle nan {now}\nnonsense\n\
         disk;host=web-3;mount=/ 5 {now}\nlate.half.li"
    );
    // In pieces, as a network has them.
    for piece in text.as_bytes().chunks(7) {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.shutdown().await.unwrap();
    booked(&server, |total| total.received == 5 && total.in_flight() == 0).await;
    listening.stop().await;
    assert!(has(&server, "metal", "web-1", &[("__name__", "load_one")]));
    let idle = [("__name__", "collectd_cpu"), ("cpu", "0"), ("type", "idle")];
    assert!(has(&server, "graphite", "web-2", &idle));
    assert!(has(&server, "graphite", "web-3", &[("__name__", "disk"), ("mount", "/")]));
    let total = server.parts().accounting.total();
    assert_eq!(total.refused[&Reason::Malformed], 2, "nonsense, and half a line: {total:?}");
}

#[tokio::test]
async fn a_listener_stands_for_its_relay_until_that_is_revoked() {
    let server = Server::start();
    let secret = server.token(json!({"kind": "relay", "labels": {"site": "lab"}})).await;
    let relay = server.parts().registry.tokens()[0].id;
    assert!(secret.contains(&relay.to_string()));
    let settings = GraphiteSettings { relay: Some(relay), ..GraphiteSettings::default() };
    let listening = listen(&server, settings).await;
    let mut stream = listening.connect().await;
    stream.write_all(format!("a;host=h 1 {}\n", secs()).as_bytes()).await.unwrap();
    booked(&server, |total| total.stored == 1).await;
    let site = server.parts().registry.instances()[0].labels.get("site").map(str::to_owned);
    assert_eq!(site.as_deref(), Some("lab"));
    let path = format!("/v1/tokens/{relay}");
    assert_eq!(server.json("DELETE", &path, ADMIN, json!({})).await.status, 204);
    stream.write_all(format!("a;host=h 2 {}\n", secs() + 60).as_bytes()).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "it is closed");
    let total = booked(&server, |total| total.received == 2).await;
    assert_eq!(total.refused[&Reason::Withdrawn], 1);
}

#[tokio::test]
async fn a_listener_whose_relay_waits_for_a_person_takes_nothing() {
    let server = Server::start();
    server.token(json!({"kind": "relay", "auto_approve": false})).await;
    let relay = server.parts().registry.tokens()[0].id;
    let settings = GraphiteSettings { relay: Some(relay), ..GraphiteSettings::default() };
    let listening = listen(&server, settings).await;
    let mut stream = listening.connect().await;
    stream.write_all(format!("a;host=h 1 {}\n", secs()).as_bytes()).await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "it is closed");
    assert_eq!(server.parts().accounting.total().stored, 0);
    let approve = format!("/v1/tokens/{relay}/approve");
    assert_eq!(server.json("POST", &approve, ADMIN, json!({})).await.status, 204);
    let mut stream = listening.connect().await;
    stream.write_all(format!("a;host=h 1 {}\n", secs()).as_bytes()).await.unwrap();
    booked(&server, |total| total.stored == 1).await;
}

#[tokio::test]
async fn a_full_disk_costs_the_new_series_alone() {
    let server = Server::start();
    let listening = listen(&server, GraphiteSettings::default()).await;
    let mut stream = listening.connect().await;
    stream.write_all(format!("a;host=h 1 {}\n", secs()).as_bytes()).await.unwrap();
    booked(&server, |total| total.stored == 1).await;
    server.fill_disk();
    stream.write_all(format!("b;host=i 1 {}\n", secs()).as_bytes()).await.unwrap();
    booked(&server, |total| total.refused_total() == 1).await;
    stream.write_all(format!("a;host=h 2 {}\n", secs() + 60).as_bytes()).await.unwrap();
    let total = booked(&server, |total| total.stored == 2).await;
    assert_eq!((total.refused[&Reason::DiskFull], total.in_flight()), (1, 0));
}

#[tokio::test]
async fn a_sender_above_its_rate_is_held_back_until_its_time_comes() {
    let server = Server::start();
    let few = Rate { samples: 10, bytes: 0 };
    server.intake.limit_rates(Rates { instance: few, relay: few });
    let listening = listen(&server, GraphiteSettings::default()).await;
    let mut stream = listening.connect().await;
    let mut lines = String::new();
    for number in 0..250 {
        writeln!(lines, "a;host=h 1 {}", secs() - number).unwrap();
    }
    stream.write_all(lines.as_bytes()).await.unwrap();
    booked(&server, |total| total.received == 250).await;
    stream.write_all(format!("a;host=h 1 {}\n", secs() + 1).as_bytes()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(server.parts().accounting.total().received, 250, "it did not wait");
    server.clock.advance(std::time::Duration::from_secs(6));
    let total = booked(&server, |total| total.received == 251).await;
    assert_eq!(total.refused_total(), 0);
}

/// Frees what the worker has applied, as a round does.
pub(super) fn free(server: &Server) {
    let journal = &server.parts().journal;
    let (seq, epoch) = (journal.stats().applied, journal.epoch());
    journal.trim(journal::Record { seq, epoch, excepted: Vec::new() }).unwrap();
}

#[tokio::test]
async fn a_sender_is_held_back_while_the_journal_is_full_and_loses_nothing() {
    const LINES: u64 = 600_000;
    let mut server = Server::start();
    // The clock stands, so that a rate would stop it for ever.
    let any = Rate { samples: 0, bytes: 0 };
    server.intake.limit_rates(Rates { instance: any, relay: any });
    let listening = listen(&server, GraphiteSettings::default()).await;
    let mut stream = listening.connect().await;
    stream.write_all(format!("a;host=h 0 {}\n", secs()).as_bytes()).await.unwrap();
    booked(&server, |total| total.stored == 1).await;
    server.stall();
    let start = secs();
    let sent = tokio::spawn(async move {
        let mut text = Vec::new();
        for number in 0..LINES {
            // The same minutes over and over: what counts here is that each line arrives.
            let at = start + i64::try_from(number % 500).unwrap();
            text.extend_from_slice(format!("a;host=h {number} {at}\n").as_bytes());
            if text.len() > 60_000 {
                stream.write_all(&text).await.unwrap();
                text.clear();
            }
        }
        stream.write_all(&text).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let full = || server.parts().journal.stats().fill > 0.9;
    while !full() {
        assert!(!sent.is_finished(), "all lines fitted: more are needed");
        tokio::task::yield_now().await;
    }
    assert!(!sent.is_finished(), "the sender was not held back");
    server.resume();
    booked(&server, |total| {
        free(&server);
        total.received == LINES + 1 && total.in_flight() == 0
    })
    .await;
    sent.await.unwrap();
    assert_eq!(server.parts().accounting.total().refused_total(), 0);
}

#[tokio::test]
async fn a_line_without_an_end_ends_the_connection_in_bounded_room() {
    let server = Server::start();
    let listening = listen(&server, GraphiteSettings::default()).await;
    let mut stream = listening.connect().await;
    let endless = vec![b'a'; 1 << 16];
    let mut sent = 0;
    while stream.write_all(&endless).await.is_ok() {
        sent += endless.len();
        assert!(sent < 64 << 20, "it still reads");
    }
    let total = booked(&server, |total| total.received == 1).await;
    assert_eq!(total.refused[&Reason::Malformed], 1);
    let mut next = listening.connect().await;
    let long = format!("{} 1 1\na;host=h 1 {}\n", "b".repeat(1 << 19), secs());
    next.write_all(long.as_bytes()).await.unwrap();
    let total = booked(&server, |total| total.stored == 1).await;
    assert_eq!(total.refused[&Reason::Malformed], 2);
}

#[tokio::test]
async fn lines_that_were_read_are_stored_when_the_server_stops() {
    let server = Server::start();
    let listening = listen(&server, GraphiteSettings::default()).await;
    let mut stream = listening.connect().await;
    let mut lines = String::new();
    for number in 0..1_000 {
        writeln!(lines, "m{number};host=h 1 {}", secs()).unwrap();
    }
    stream.write_all(lines.as_bytes()).await.unwrap();
    booked(&server, |total| total.received > 0).await;
    listening.stop().await;
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.in_flight()), (total.stored, 0));
}
