//! Kill -9 of the real program, in a steady push and in recovery: every acknowledged sample is there
//! afterwards, and the archives are those of a server that was never killed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fixtures::dice::{Dice, told};
use journal::{Journal, Recovery};
use rrd::{Batch, GrantFrame, ManualClock, OsDisk, Sample, SampleFrame, Store, Timestamp};

use crate::http;
use crate::server::{Server, config, eventually, folder, roundel};
use crate::steady::{POLICY, Sender, now_secs};

/// Agents that push at the same time.
const SENDERS: usize = 200;
/// So few that all have their archives after a kill or two.
const FEW_SENDERS: usize = 4;
/// How many times the server is killed.
const KILLS: usize = 50;
/// A start after a kill takes this long at most, in the middle of all starts.
const READY: Duration = Duration::from_secs(2);

fn start(dir: &Path) -> Server {
    Server::start(dir, &["--policy", POLICY])
}

/// What every series holds, row by row, without what differs between two servers: ids, batches and
/// the times in which readings came.
fn rows(data: &Path) -> BTreeMap<String, String> {
    let upto = journal::checkpoint(&OsDisk, &data.join("journal")).unwrap().seq;
    let (store, damage) = Store::open(Arc::new(OsDisk), &data.join("archives"), upto).unwrap();
    assert_eq!(damage, []);
    let mut dump = String::new();
    store.canonical_dump(&mut dump).unwrap();
    assert_eq!(store.damage(), []);
    let mut instances = BTreeMap::new();
    let mut instance = String::new();
    for line in dump.lines() {
        match line.split_once(' ').unwrap() {
            ("instance", rest) => rest.split_once(' ').unwrap().1.clone_into(&mut instance),
            ("batch" | "open", _) => {}
            _ => writeln!(instances.entry(instance.clone()).or_insert_with(String::new), "{line}")
                .unwrap(),
        }
    }
    instances
}

/// The sum of the counters whose names begin so.
async fn counted(url: &str, name: &str) -> f64 {
    let text = http::get(&format!("{url}/metrics")).await.text();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Received = stored + duplicate + late + refused, once everything is applied.
async fn check_balance(url: &str) {
    eventually("the accounts to balance", Duration::from_secs(20), async || {
        let received = counted(url, "roundel_samples_received_total").await;
        let mut known = 0.0;
        for what in ["stored", "duplicate", "late", "refused"] {
            known += counted(url, &format!("roundel_samples_{what}_total")).await;
        }
        (received > 0.0 && (received - known).abs() < 0.5).then_some(())
    })
    .await;
}

/// Pushes from all senders while the server is killed so many times; how long each start took.
async fn push_under_kills(
    senders: &mut Vec<Sender>,
    kills: usize,
    dice: &mut Dice,
    start: impl Fn() -> Server,
) -> Vec<Duration> {
    let mut starts = Vec::new();
    for _ in 0..kills {
        let begun = now();
        let server = start();
        starts.push(begun.elapsed());
        let url = server.url.clone();
        // Mostly early, when a start's traces are fresh; up to two seconds.
        let pause = Duration::from_millis(dice.below(44) * dice.below(44));
        let pushes: Vec<_> = senders
            .drain(..)
            .map(|mut sender| {
                let url = url.clone();
                tokio::spawn(async move {
                    sender.push_until_gone(&url).await;
                    sender
                })
            })
            .collect();
        tokio::time::sleep(pause).await;
        server.kill();
        for push in pushes {
            senders.push(push.await.unwrap());
        }
    }
    starts
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_kills_lose_nothing_that_was_acknowledged_before_its_sync() {
    let seed = told().unwrap_or_else(now_secs);
    eprintln!("ROUNDEL_SEED={seed}");
    let dir = folder();
    let settings = config(dir.path(), "durability = \"relaxed\"\n");
    let start = || {
        let arguments = ["--policy", POLICY, "--config", settings.to_str().unwrap()];
        Server::start(dir.path(), &arguments)
    };
    let mut senders: Vec<Sender> = (0..FEW_SENDERS).map(Sender::new).collect();
    push_under_kills(&mut senders, 10, &mut Dice::new(seed), start).await;
    let acknowledged: usize = senders.iter().map(Sender::acknowledged).sum();
    assert!(acknowledged > 1000, "the push was no push: {acknowledged}");
    let server = start();
    for sender in &senders {
        sender.check(&server.url).await;
    }
    let answer = http::remote_write(&server.url, &senders[0].request()).await.unwrap();
    assert!(answer.status.is_success());
    assert_eq!(answer.headers["roundel-durability"], "relaxed");
    check_balance(&server.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_in_a_steady_push_lose_nothing_and_leave_no_trace() {
    let seed = told().unwrap_or_else(now_secs);
    eprintln!("ROUNDEL_SEED={seed}");
    let dir = folder();
    let mut senders: Vec<Sender> = (0..SENDERS).map(Sender::new).collect();
    let mut dice = Dice::new(seed);
    let mut starts = push_under_kills(&mut senders, KILLS, &mut dice, || start(dir.path())).await;
    starts.sort();
    assert!(starts[KILLS / 2] <= READY, "half of the starts took {:?}", starts[KILLS / 2]);
    let acknowledged: usize = senders.iter().map(Sender::acknowledged).sum();
    assert!(acknowledged > 1000, "the push was no push: {acknowledged}");

    let server = start(dir.path());
    for sender in &mut senders {
        sender.check(&server.url).await;
        // What was under way at the last kill is sent again, as any sender does.
        assert!(sender.push(&server.url).await);
        sender.check(&server.url).await;
    }
    check_balance(&server.url).await;
    assert!(server.stop().success());

    let calm_dir = folder();
    let calm = start(calm_dir.path());
    let again = senders.into_iter().map(|sender| tokio::spawn(sender.send_again(calm.url.clone())));
    for sent in again.collect::<Vec<_>>() {
        sent.await.unwrap();
    }
    check_balance(&calm.url).await;
    assert!(calm.stop().success());
    let (found, expected) = (rows(&dir.path().join("data")), rows(&calm_dir.path().join("data")));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (instance, rows) in &expected {
        assert!(&found[instance] == rows, "ROUNDEL_SEED={seed}: the rows of {instance} differ");
    }
}

/// Appends frames of samples until the journal holds so many bytes of them, as if a server had been
/// killed before its first round.
fn fill_journal(data: &Path, bytes: usize) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(now_secs().try_into().unwrap())));
    let shape = journal::Config::default();
    let opened = Journal::open(Arc::new(OsDisk), &data.join("journal"), shape, clock).unwrap();
    let (journal, Recovery { frames, checkpoint, .. }) = opened;
    assert_eq!(checkpoint.seq, 0, "a round has been written already");
    let frames: Vec<_> = frames.map(Result::unwrap).collect();
    let grant = frames.iter().find(|frame| frame.kind == rrd::FRAME_GRANT).unwrap();
    let grant = GrantFrame::decode(&grant.body).unwrap();
    let first = i64::try_from(now_secs()).unwrap() - 40_000;
    let (mut written, mut second) = (0, first);
    while written < bytes {
        let seconds = second..second + 500;
        second = seconds.end;
        let samples = seconds.flat_map(|at| {
            let at = Timestamp::from_secs(at);
            let value = f64::from(u32::try_from(at.as_millis() / 1000 % 1000).unwrap());
            grant.series.iter().map(move |series| Sample { column: series.column, at, value })
        });
        let samples: Vec<_> = samples.collect();
        let frame =
            SampleFrame { instance: grant.instance, batch: Batch::default(), samples }.encode();
        written += frame.len();
        let seq = journal.append(rrd::FRAME_SAMPLES, &frame).unwrap();
        journal.wait_durable(seq).unwrap();
        while journal.stats().unread_bytes > 0 {
            journal.next(Duration::ZERO);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_in_the_replay_of_a_hundred_mebibytes_change_nothing() {
    const NESTED: u32 = 5;
    let seed = told().unwrap_or_else(now_secs);
    eprintln!("ROUNDEL_SEED={seed}");
    let mut dice = Dice::new(seed);
    let dir = folder();
    let settings = dir.path().join("roundel.toml");
    std::fs::write(&settings, "journal_size = \"144MiB\"\n").unwrap();
    let arguments =
        ["--no-local-agent", "--policy", POLICY, "--config", settings.to_str().unwrap()];
    let server = Server::spawn(dir.path(), &arguments);
    assert!(Sender::new(0).push(&server.url).await);
    server.kill();
    fill_journal(&dir.path().join("data"), 100 << 20);
    let calm_dir = folder();
    let copy =
        Command::new("cp").arg("-r").arg(dir.path().join("data")).arg(calm_dir.path()).status();
    assert!(copy.unwrap().success());

    let begun = now();
    let calm = Server::spawn(calm_dir.path(), &arguments);
    let took = begun.elapsed();
    eprintln!("replayed 100 MiB in {took:?}");
    assert!(calm.stop().success());
    for nested in 1..=NESTED {
        let mut child = roundel()
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(dir.path().join("data"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The first ones early, the last one near the end of the replay.
        let part = took * nested / (NESTED + 1);
        tokio::time::sleep(
            part.mul_f64(0.5 + f64::from(u32::try_from(dice.below(50)).unwrap()) / 100.0),
        )
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let server = Server::spawn(dir.path(), &arguments);
    assert!(server.stop().success());
    let (found, expected) = (rows(&dir.path().join("data")), rows(&calm_dir.path().join("data")));
    assert!(expected.values().any(|rows| rows.lines().count() > 20 * 3600), "an hour of rows");
    assert!(found == expected, "ROUNDEL_SEED={seed}: the rows differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_start_keep_everything() {
    let dir = folder();
    let server = start(dir.path());
    let mut sender = Sender::new(0);
    for _ in 0..30 {
        assert!(sender.push(&server.url).await);
    }
    let url = server.url.clone();
    sender.check(&url).await;
    let before = sender.stored(&url).await;
    assert!(server.stop().success());
    let server = start(dir.path());
    assert_eq!(sender.stored(&server.url).await, before);
}

#[expect(clippy::disallowed_methods, reason = "a test drives the real program in real time")]
fn now() -> Instant {
    Instant::now()
}
