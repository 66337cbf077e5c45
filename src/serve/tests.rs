//! A server whose worker fails.

use std::time::Duration;

use clap::Parser as _;
use rrd::Timestamp;

use super::*;
use crate::args::Arguments;

/// A clock that the worker cannot read.
struct Trap(SystemClock);

impl Clock for Trap {
    fn wall(&self) -> Timestamp {
        self.0.wall()
    }

    fn monotonic(&self) -> Duration {
        assert_ne!(std::thread::current().name(), Some("worker"), "the worker steps on it");
        self.0.monotonic()
    }
}

#[test]
fn a_server_whose_worker_panics_takes_nothing_more_and_ends_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let arguments = ["roundel", "--data", data, "--no-local-agent"];
    let config = Config::check(&Arguments::parse_from(arguments).serve).unwrap();
    let config = Config { journal_bytes: 16 << 20, ..config };
    let folders = Folders { data: config.data.clone() };
    let clock: Arc<dyn Clock> = Arc::new(Trap(SystemClock::start()));
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let recovered = recover(&config, &folders, &disk, &clock, Vec::new()).unwrap();
    let journal = recovered.journal.clone();
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let server = Server {
        config,
        folders,
        clock,
        channels: Channels::default(),
        address: listener.local_addr().unwrap(),
        base_url: String::new(),
        mail_folder: folder.path().join("mail"),
        tls: None,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let outcome = runtime.block_on(async {
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, server.serve(listener, recovered)).await
    });
    let error = outcome.expect("it ends by itself").unwrap_err().to_string();
    assert!(error.starts_with("the worker panicked"), "{error}");
    assert!(matches!(journal.append(1, b"x"), Err(journal::Refused::Failed(_))));
}
