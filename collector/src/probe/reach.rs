//! The way to a target: its addresses, and a connection to the first that takes one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

use super::{Report, Trouble};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// How long one of several addresses is waited for: one that swallows all it is sent leaves time for the next.
const ONE_OF_SEVERAL: Duration = Duration::from_secs(3);

/// A host and the addresses of it that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) family: Option<Family>,
}

/// A version of the internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl Host {
    /// Its addresses; the time is that of phase `resolve` of `metric`.
    pub(super) async fn addresses(
        &self,
        port: u16,
        (metric, report): (&'static str, &mut Report),
    ) -> Result<Vec<SocketAddr>, Trouble> {
        let begin = Instant::now();
        let name = self.name.trim_matches(['[', ']']);
        let found = lookup_host((name, port)).await;
        report.took(metric, "resolve", begin.elapsed());
        report.set("probe_dns_lookup_time_seconds", begin.elapsed().as_secs_f64());
        let found = found.map_err(|error| Trouble::Failed(format!("no address: {error}")))?;
        let is_wanted = |address: &SocketAddr| {
            self.family.is_none_or(|family| Family::of(&address.ip()) == family)
        };
        let addresses: Vec<SocketAddr> = found.filter(is_wanted).take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            return Err(Trouble::failed("it has no address of this version"));
        }
        Ok(addresses)
    }

    /// A connection; the times are those of phases `resolve` and `connect` of `metric`.
    pub(super) async fn connect(
        &self,
        port: u16,
        (metric, report): (&'static str, &mut Report),
    ) -> Result<TcpStream, Trouble> {
        let addresses = self.addresses(port, (metric, report)).await?;
        let begin = Instant::now();
        let mut last = Trouble::failed("it has no address");
        for (address, others) in addresses.iter().zip((0..addresses.len()).rev()) {
            let connecting = TcpStream::connect(address);
            let connected = match others {
                0 => connecting.await,
                _ => timeout(ONE_OF_SEVERAL, connecting)
                    .await
                    .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())),
            };
            match connected {
                Ok(stream) => {
                    report.took(metric, "connect", begin.elapsed());
                    tell_family(&address.ip(), report);
                    return Ok(stream);
                }
                Err(error) => last = Trouble::Failed(format!("no connection: {error}")),
            }
        }
        Err(last)
    }
}

/// Says which version of the internet protocol was spoken.
pub(super) fn tell_family(address: &IpAddr, report: &mut Report) {
    let version = if address.is_ipv4() { 4.0 } else { 6.0 };
    report.set("probe_ip_protocol", version);
}

/// `HOST:PORT`, with brackets around an address of version 6.
pub(super) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_good = bare.is_some() || (!host.is_empty() && !host.contains(':'));
    is_good.then(|| (bare.unwrap_or(host).to_owned(), port))
}
