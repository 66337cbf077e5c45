//! A probe of a TCP service: a connection, perhaps TLS, and what it says first.

use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use super::reach::Host;
use super::tls::Trust;
use super::{Report, Trouble};

/// Bytes of what a service says that are looked at.
const BANNER_MAX: usize = 4 << 10;
const PHASES: &str = "probe_tcp_duration_seconds";

pub(super) struct Tcp {
    pub(super) host: Host,
    pub(super) port: u16,
    /// Whom to trust, where TLS is spoken from the beginning.
    pub(super) trust: Option<Trust>,
    /// Said first.
    pub(super) send: Option<String>,
    /// What is to be heard.
    pub(super) expect: Option<Regex>,
}

impl Tcp {
    pub(super) async fn ask(&self, report: &mut Report) -> Result<(), Trouble> {
        let stream = self.host.connect(self.port, (PHASES, report)).await?;
        match &self.trust {
            None => self.talk(stream, report).await,
            Some(trust) => {
                let to = (self.host.name.as_str(), stream);
                let stream = trust.shake(to, (PHASES, &mut *report)).await?;
                self.talk(stream, report).await
            }
        }
    }

    async fn talk(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        report: &mut Report,
    ) -> Result<(), Trouble> {
        let begin = Instant::now();
        if let Some(text) = &self.send {
            stream.write_all(text.as_bytes()).await.map_err(Trouble::failed)?;
        }
        let Some(expect) = &self.expect else { return Ok(()) };
        report.set("probe_failed_due_to_regex", 1.0);
        let mut heard = Vec::new();
        let mut piece = [0; 512];
        while heard.len() < BANNER_MAX {
            let len = stream.read(&mut piece).await.map_err(Trouble::failed)?;
            heard.extend(piece.iter().take(len));
            if expect.is_match(&heard) {
                report.set("probe_failed_due_to_regex", 0.0);
                report.took(PHASES, "banner", begin.elapsed());
                return Ok(());
            }
            if len == 0 {
                break;
            }
        }
        Err(Trouble::failed("it says something else than expected"))
    }
}
