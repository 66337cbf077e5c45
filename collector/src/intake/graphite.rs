//! The Graphite listener: lines are taken off a connection only as fast as the journal acknowledges
//! them, which is the only answer that the protocol has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::{info, warn};

use super::sockets::{self, Stopped};
use super::{Inner, Intake};
use crate::accounting::Reason;
use crate::foreign::{Origin, Protocol};
use crate::graphite::{LINE_LIMIT, Templates, count, sort};
use crate::refusals::Refusals;
use crate::registry::TokenId;

/// Bytes read at once; a batch is what came so far, whole lines of it.
const READ: usize = 64 << 10;
/// Time between two lines of a connection: senders report every few minutes at the latest.
const IDLE: Duration = Duration::from_mins(10);
/// Bytes without the end of a line after which a connection is none of Graphite's.
const ENDLESS: usize = 1 << 20;

/// What a batch may take to be stored when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a listener for Graphite's lines stands for.
#[derive(Clone, Debug, Default)]
pub struct GraphiteSettings {
    /// The relay token under which its samples come; `None`: those of the operator.
    pub relay: Option<TokenId>,
    /// Which parts of a path are what.
    pub templates: Templates,
}

impl Intake {
    /// Takes Graphite's lines from `listener` until `shutdown` ends.
    pub async fn graphite(
        self,
        listener: TcpListener,
        settings: GraphiteSettings,
        shutdown: impl Future<Output = ()>,
    ) {
        let settings = Arc::new(settings);
        sockets::run(listener, shutdown, |stream, peer, stopped| {
            let (inner, settings) = (Arc::clone(&self.0), Arc::clone(&settings));
            let mut connection = Connection { inner, settings, peer, refused: 0 };
            async move { connection.serve(stream, stopped).await }
        })
        .await;
    }
}

/// Ends when the server stops and a batch that was read has had its time to be stored.
async fn overdue(stopped: &mut Stopped) {
    sockets::ended(stopped).await;
    tokio::time::sleep(FAREWELL).await;
}

struct Connection {
    inner: Arc<Inner>,
    settings: Arc<GraphiteSettings>,
    peer: SocketAddr,
    /// Lines refused so far; the first is logged, the number at the end.
    refused: u64,
}

impl Connection {
    async fn serve(&mut self, mut stream: TcpStream, mut stopped: Stopped) {
        let mut lines = Assembly::default();
        loop {
            let read = tokio::select! {
                biased;
                () = sockets::ended(&mut stopped) => break,
                read = timeout(IDLE, lines.read(&mut stream)) => read,
            };
            let Ok(Ok(true)) = read else {
                if lines.is_within_one() {
                    self.refuse(Reason::Malformed, 1, "the connection ended within a line");
                }
                break;
            };
            if lines.is_endless() {
                self.refuse(Reason::Malformed, 1, "a line without an end");
                break;
            }
            if let Some(batch) = lines.whole() {
                let stored = tokio::select! {
                    biased;
                    stored = self.store(batch) => stored,
                    () = overdue(&mut stopped) => break,
                };
                if !stored {
                    break;
                }
            }
        }
        if self.refused > 1 {
            info!(peer = %self.peer, lines = self.refused, "lines of a Graphite sender were refused");
        }
    }

    /// False when nothing more of the connection will be taken.
    async fn store(&mut self, batch: Bytes) -> bool {
        let relay = self.settings.relay;
        if let Err(denial) = self.inner.standing(relay) {
            self.refuse(Reason::Withdrawn, count(&batch), &denial.to_string());
            return false;
        }
        let origin = Origin { protocol: Protocol::Graphite, relay };
        let (inner, settings) = (&self.inner, &self.settings);
        let taken = inner
            .until_taken((relay, batch.len()), |held| {
                let (batch, settings) = (batch.clone(), Arc::clone(settings));
                inner.store(origin, held, move |inner, _, sorter| {
                    let now = inner.parts.clock.wall();
                    Ok(sort(&batch, (&settings.templates, now), sorter))
                })
            })
            .await;
        match taken {
            Ok(taken) => self.tell(taken.refusals),
            Err(denial) => self.refuse(denial.reason(), count(&batch), &denial.to_string()),
        }
        true
    }

    fn refuse(&mut self, reason: Reason, lines: u64, why: &str) {
        let origin = Origin { protocol: Protocol::Graphite, relay: self.settings.relay };
        self.inner.book_refused(origin, reason, lines);
        self.log(lines, "all of a batch", why);
    }

    fn tell(&mut self, refusals: Refusals) {
        let lines = refusals.samples();
        if let Some(first) = refusals.into_shown().first() {
            self.log(lines, &first.series, &first.message);
        }
    }

    fn log(&mut self, lines: u64, what: &str, why: &str) {
        if self.refused == 0 {
            warn!(peer = %self.peer, line = ?what, reason = ?why, "a Graphite sender's line is refused");
        }
        self.refused += lines;
    }
}

/// Bytes of a connection on their way to lines.
#[derive(Default)]
struct Assembly {
    text: BytesMut,
    /// Bytes of the present line that were dropped, because it is too long.
    dropped: usize,
}

impl Assembly {
    /// Reads what there is; false at the end of the connection.
    async fn read(&mut self, stream: &mut TcpStream) -> std::io::Result<bool> {
        self.text.reserve(READ);
        Ok(stream.read_buf(&mut self.text).await? > 0)
    }

    fn is_endless(&self) -> bool {
        self.dropped > ENDLESS
    }

    fn is_within_one(&self) -> bool {
        !self.text.trim_ascii().is_empty()
    }

    /// The whole lines among what was read. Of a line that is too long a piece is left, which is
    /// refused like it.
    fn whole(&mut self) -> Option<Bytes> {
        if let Some(end) = self.text.iter().rposition(|byte| *byte == b'\n') {
            self.dropped = 0;
            return Some(self.text.split_to(end + 1).freeze());
        }
        if let Some(beyond @ 1..) = self.text.len().checked_sub(LINE_LIMIT + 1) {
            self.dropped += beyond;
            self.text.truncate(LINE_LIMIT + 1);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_one_refusal_and_takes_no_more_room() {
        let mut lines = Assembly::default();
        for _ in 0..10 {
            lines.text.extend_from_slice(&[b'a'; 10_000]);
            assert_eq!(lines.whole(), None);
            assert!(lines.text.len() <= LINE_LIMIT + 1, "{}", lines.text.len());
        }
        lines.text.extend_from_slice(b" 1 1\nb 1 1\nc");
        let batch = lines.whole().unwrap();
        assert_eq!((count(&batch), &lines.text[..], lines.dropped), (2, &b"c"[..], 0));
        let long = batch.split(|byte| *byte == b'\n').next().unwrap();
        assert!(long.len() > LINE_LIMIT);
    }

    #[test]
    fn a_line_without_an_end_is_noticed() {
        let mut lines = Assembly::default();
        while !lines.is_endless() {
            lines.text.extend_from_slice(&[b'a'; 10_000]);
            assert_eq!(lines.whole(), None);
            assert!(lines.dropped < ENDLESS + 20_000);
        }
    }
}
