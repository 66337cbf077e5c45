//! Probes: does a service answer, how fast, and what? Asked from here, by the operator's file alone.
//!
//! The series have the names that Prometheus' `blackbox_exporter` gives them. The same code runs in the
//! server, where a target is an instance of the job `probe`, and in agents, where it is a label.

mod settings;

pub(crate) mod certificate;
mod dns;
mod dns_message;
mod http;
mod icmp;
mod reach;
mod report;
mod tcp;
mod tls;

mod run;
mod watch;

#[cfg(test)]
mod tests;

use std::time::Duration;

use rustls::crypto::CryptoProvider;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls;

pub(crate) use report::{Report, Value};
pub(crate) use settings::parse_table;
pub use watch::run;

/// Probes under way at one time: some hundred targets that are all down still have their turns.
const AT_ONCE: usize = 32;

/// Room for probes of this process.
pub(crate) static ROOM: Semaphore = Semaphore::const_new(AT_ONCE);

/// One target, and what is asked of it.
pub(crate) struct Probe {
    /// What the target is called: unique in its file.
    pub(crate) name: String,
    /// More labels of its series.
    pub(crate) labels: Vec<(String, String)>,
    /// Time between two probes.
    pub(crate) every: Duration,
    timeout: Duration,
    what: What,
}

enum What {
    Http(http::Http),
    Tcp(tcp::Tcp),
    Dns(dns::Dns),
    Icmp(icmp::Icmp),
}

/// Why a probe did not succeed.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// The target did not answer, or not as it should.
    Failed(String),
    /// This machine does not let us ask; nothing is known of the target.
    Impossible(String),
}

impl Trouble {
    fn failed(why: impl std::fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }
}

impl Probe {
    /// Probes once. What was found before a failure or the end of the time is kept.
    pub(crate) async fn run(&self) -> Report {
        let begin = Instant::now();
        let mut report = Report::default();
        let asked = async {
            match &self.what {
                What::Http(http) => http.ask(&mut report).await,
                What::Tcp(tcp) => tcp.ask(&mut report).await,
                What::Dns(dns) => dns.ask(&mut report).await,
                What::Icmp(icmp) => icmp.ask(&mut report).await,
            }
        };
        let outcome = match timeout(self.timeout, asked).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err(Trouble::Failed(format!("no answer in {} s", self.timeout.as_secs_f64())))
            }
        };
        match outcome {
            Err(Trouble::Impossible(why)) => Report::impossible(why),
            outcome => {
                report.end(begin.elapsed(), outcome.err());
                report
            }
        }
    }
}

fn provider() -> std::sync::Arc<CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::ring::default_provider())
}
