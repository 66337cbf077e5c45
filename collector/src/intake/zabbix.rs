//! The listener for Zabbix senders: one packet a connection, answered when the journal has it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::warn;

use super::admission::Held;
use super::sockets::{self, Stopped};
use super::{Denial, Inner, Intake};
use crate::foreign::{Origin, Protocol};
use crate::limits::BODY_READ_SECS;
use crate::registry::TokenId;
use crate::zabbix::{FrameError, HEADER_SIZE, Header, answer, failure, framed, sort, unpacked};

/// How long a packet waits for room in the journal; senders wait a minute for their answer.
const ROOM_WAIT: Duration = Duration::from_secs(20);
/// Bytes read before room is taken for more.
const STEP: usize = 256 << 10;

/// What a listener for Zabbix senders stands for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ZabbixSettings {
    /// The relay token under which its samples come; `None`: those of the operator.
    pub relay: Option<TokenId>,
}

impl Intake {
    /// Takes packets of Zabbix senders from `listener` until `shutdown` ends.
    pub async fn zabbix(
        self,
        listener: TcpListener,
        settings: ZabbixSettings,
        shutdown: impl Future<Output = ()>,
    ) {
        sockets::run(listener, shutdown, |stream, peer, stopped| {
            let inner = Arc::clone(&self.0);
            async move { serve(&inner, settings.relay, (stream, peer), stopped).await }
        })
        .await;
    }
}

async fn serve(
    inner: &Arc<Inner>,
    relay: Option<TokenId>,
    (mut stream, peer): (TcpStream, SocketAddr),
    mut stopped: Stopped,
) {
    let begun = now();
    let packet = tokio::select! {
        biased;
        () = sockets::ended(&mut stopped) => return,
        packet = read(inner, &mut stream) => packet,
    };
    let taken = match packet {
        Ok((held, header, packet)) => take(inner, relay, (held, header, packet)).await,
        Err(denial) => Err(denial),
    };
    let told = match taken {
        Ok((total, failed)) => answer(total, failed, begun.elapsed().as_secs_f64()),
        Err(denial) => {
            warn!(%peer, reason = ?denial.to_string(), "a packet of a Zabbix sender is refused");
            failure(&denial.to_string())
        }
    };
    let farewell = async {
        stream.write_all(&framed(&told)).await?;
        stream.shutdown().await
    };
    // Who is gone already will send the packet again.
    let _gone = timeout(Duration::from_secs(BODY_READ_SECS), farewell).await;
}

#[expect(clippy::disallowed_methods, reason = "the answer tells the sender how long it took")]
fn now() -> Instant {
    Instant::now()
}

/// A packet and the room it takes.
async fn read(inner: &Inner, stream: &mut TcpStream) -> Result<(Held, Header, Vec<u8>), Denial> {
    let whole = async {
        let early = |_| Denial::bad("the packet ended early; send it whole");
        let mut header = [0; HEADER_SIZE + 8];
        let (start, more) = header.split_at_mut(HEADER_SIZE);
        stream.read_exact(start).await.map_err(early)?;
        let start: [u8; HEADER_SIZE] = start.try_into().expect("so long");
        let header = if Header::is_large(start) {
            stream.read_exact(more).await.map_err(early)?;
            Header::read(&header)
        } else {
            Header::read(&start)
        };
        let header = header.map_err(|error| bad(&error))?;
        let mut held = inner.room.take(header.length.min(STEP)).await?;
        let mut packet = Vec::new();
        while packet.len() < header.length {
            let step = u64::try_from((header.length - packet.len()).min(STEP)).expect("small");
            if stream.take(step).read_to_end(&mut packet).await.map_err(early)? == 0 {
                return Err(Denial::bad("the packet ended early; send it whole"));
            }
            inner.room.hold(&mut held, packet.len())?;
        }
        Ok((held, header, packet))
    };
    let slow = |_| Err(Denial::later("slow", "the packet did not arrive in time; send it again"));
    timeout(Duration::from_secs(BODY_READ_SECS), whole).await.unwrap_or_else(slow)
}

fn bad(error: &FrameError) -> Denial {
    Denial::bad(error.to_string())
}

/// How many values there were, and how many of them failed.
async fn take(
    inner: &Arc<Inner>,
    relay: Option<TokenId>,
    (mut held, header, packet): (Held, Header, Vec<u8>),
) -> Result<(u64, u64), Denial> {
    inner.standing(relay)?;
    inner.room.add(&mut held, header.more())?;
    let text: Arc<[u8]> = unpacked(header, packet).map_err(|error| bad(&error))?.into();
    // From here on the text takes the room.
    drop(held);
    let origin = Origin { protocol: Protocol::Zabbix, relay };
    let store = inner.until_taken((relay, text.len()), |step| {
        let text = Arc::clone(&text);
        async move {
            let (total, counted) = tokio::sync::oneshot::channel();
            let taken = inner
                .store(origin, step, move |inner, _, sorter| {
                    let now = inner.parts.clock.wall();
                    let packet = sort(&text, now, sorter);
                    let packet = packet.map_err(|error| Denial::bad(error.to_string()))?;
                    // Who asked is gone together with the answer.
                    let _gone = total.send(packet.total);
                    Ok(packet.sorted)
                })
                .await?;
            let total = counted.await.unwrap_or_default();
            Ok((total, taken.refusals.samples()))
        }
    });
    let full =
        |_| Err(Denial::later("busy", "there was no room for it in time; send it again later"));
    timeout(ROOM_WAIT, store).await.unwrap_or_else(full)
}
