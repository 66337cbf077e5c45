//! Zabbix' own sender, told to try again until it succeeds, through two kills.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::docs::{block, filled, relay, seconds};
use crate::http;
use crate::peers::{free_port, libraries, program};
use crate::server::{Server, config, eventually, folder};
use crate::steady::now_secs;

const PATIENCE: Duration = Duration::from_mins(1);
/// Values that are sent, one for each second, a few at a time.
const VALUES: u64 = 120;
const AT_ONCE: u64 = 4;

struct Sender {
    program: PathBuf,
    port: String,
    start_at: u64,
    sent: Arc<AtomicU64>,
}

impl Sender {
    /// Sends all values; those of a failure again.
    fn run(self) {
        for first in (0..VALUES).step_by(usize::try_from(AT_ONCE).unwrap()) {
            let lines: String = (first..first + AT_ONCE)
                .map(|number| self.start_at + number)
                .map(|at| format!("web-1 \"steady[a,\\\"b c\\\"]\" {at} {}\n", at % 1000))
                .collect();
            while !self.send(&lines).status.success() {
                std::thread::yield_now();
            }
            self.sent.store(first + AT_ONCE, Ordering::SeqCst);
        }
    }

    fn send(&self, lines: &str) -> Output {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["-z", "127.0.0.1", "-p", &self.port, "-T", "-i"]).arg(file.path());
        command.env("LD_LIBRARY_PATH", libraries()).output().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zabbix_sender_reads_our_answers_and_loses_nothing_through_two_kills() {
    let Some(sender) = program("zabbix_sender", "zabbix_sender") else { return };
    let dir = folder();
    let port = free_port().to_string();
    let first = Server::start(dir.path(), &[]);
    let relay = relay(&first, "zabbix").await;
    first.stop();
    let fill = |text: &str| filled(text, "http://127.0.0.1:1", &relay).replace("10051", &port);
    let file = config(dir.path(), &fill(&block("Zabbix", "toml", 0)));
    let arguments = ["--policy", "1s:1h", "--config", file.to_str().unwrap()];
    let mut server = Server::start(dir.path(), &arguments);

    let path = sender.parent().unwrap().display().to_string();
    let mut shell = Command::new("sh");
    shell.arg("-euc").arg(fill(&block("Zabbix", "sh", 0)));
    shell.env("PATH", format!("{path}:/usr/bin:/bin")).env("LD_LIBRARY_PATH", libraries());
    let query = "backup_size{job=\"zabbix\",instance=\"web-1\",param1=\"daily\"}";
    // A row is seen when a later reading has closed it.
    let found = eventually(query, PATIENCE, async || {
        let told = shell.output().unwrap();
        let said = String::from_utf8_lossy(&told.stdout);
        let taken = said.contains("processed: 1; failed: 0; total: 1");
        assert!(told.status.success() && taken, "{told:?}");
        http::query(&server.url, query, None).await.pop()
    });
    assert_eq!(found.await["value"][1], "1024");

    let start_at = now_secs() - VALUES - 10;
    let sent = Arc::new(AtomicU64::new(0));
    let run =
        Sender { program: sender.clone(), port: port.clone(), start_at, sent: Arc::clone(&sent) };
    let thread = std::thread::spawn(|| run.run());
    for part in [VALUES / 3, 2 * VALUES / 3] {
        let reached = async || (sent.load(Ordering::SeqCst) >= part).then_some(());
        eventually("a part of the values", PATIENCE, reached).await;
        server.kill();
        server = Server::start(dir.path(), &arguments);
    }
    tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap();
    let query = "steady{instance=\"web-1\",param1=\"a\",param2=\"b c\"}";
    let found = eventually("all values", PATIENCE, async || {
        let found = seconds(&server.url, query, (start_at, start_at + VALUES - 1)).await;
        (found.len() as u64 >= VALUES).then_some(found)
    })
    .await;
    for (at, value) in found {
        assert_eq!(value.to_bits(), f64::from((at % 1000) as u32).to_bits(), "at {at}");
    }

    let one = Sender { program: sender, port, start_at, sent };
    let told = one.send(&format!("web-1 version {start_at} \"6.0 LTS\"\n"));
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(said.contains("processed: 0; failed: 1; total: 1"), "{told:?}");
}
