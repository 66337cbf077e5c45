//! Bodies that are small and want to be large: refused at once, and the server does not grow.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use ::http::Request;
use fixtures::bombs::{Bomb, bombs};

use crate::http;
use crate::server::{ADMIN, Server, folder};

/// How much the server may grow by one of them.
const GROWTH_LIMIT_KIB: u64 = 16 << 10;
/// Far above what a release build takes on an idle machine (below 50 ms), far below what unpacking or
/// building what is claimed would take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most memory that a process had at once since [`forget_peak`].
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn forget_peak(pid: u32) {
    let file = format!("/proc/{pid}/clear_refs");
    std::fs::File::options().write(true).open(Path::new(&file)).unwrap().write_all(b"5").unwrap();
}

async fn send(url: &str, bomb: &Bomb) -> (u16, String) {
    let request = Request::post(format!("{url}{}", bomb.path))
        .header("authorization", format!("Bearer {ADMIN}"))
        .header("content-type", bomb.content_type)
        .header("content-encoding", bomb.encoding);
    let answer = http::send(request.body(bomb.body.clone().into()).unwrap()).await.unwrap();
    (answer.status.as_u16(), answer.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_refused_at_once_and_take_no_memory() {
    let dir = folder();
    let server = Server::start(dir.path(), &[]);
    let pid = server.pid();
    // What is loaded with the first requests of a kind is not a bomb's doing.
    let bombs = bombs();
    for bomb in bombs.iter().filter(|bomb| bomb.body.len() < 100) {
        send(&server.url, bomb).await;
    }
    forget_peak(pid);
    let begun_with = peak_kib(pid);
    for bomb in bombs {
        forget_peak(pid);
        let before = peak_kib(pid);
        #[expect(clippy::disallowed_methods, reason = "how long an answer takes is the claim")]
        let begun = Instant::now();
        let (status, text) = send(&server.url, &bomb).await;
        let taken = begun.elapsed();
        let growth = peak_kib(pid).saturating_sub(before);
        let kept = peak_kib(pid).saturating_sub(begun_with);
        let Bomb { name, body, .. } = bomb;
        let cost = format!("{name}, {} bytes: {status} in {taken:?}, {growth} KiB", body.len());
        // In OTLP a success may say that all of it was refused.
        let stored = text.split(" samples stored").next().unwrap_or_default();
        let stored = stored.rsplit(|c: char| !c.is_ascii_digit()).next();
        let is_refused = (400..500).contains(&status) || stored == Some("0");
        assert!(is_refused, "{cost}: {text}");
        assert!(taken < PATIENCE && growth < GROWTH_LIMIT_KIB, "{cost}");
        // What the allocator keeps for the next request, of each thread and for about a second, is not
        // let grow from bomb to bomb.
        assert!(kept < 4 * GROWTH_LIMIT_KIB, "{cost}, {kept} KiB since the start");
        say(&format!("{cost}: {}", text.chars().take(120).collect::<String>()));
    }
}

#[expect(clippy::print_stderr, reason = "the figures are for whoever reads the test's output")]
fn say(line: &str) {
    eprintln!("{line}");
}
