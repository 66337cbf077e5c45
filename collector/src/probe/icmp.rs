//! A probe with an echo request: does a host answer at all, and how soon?
//!
//! Without a privilege where the system has ping sockets for our group, else with a raw socket where we
//! may have one; where neither is allowed, nothing is said of the target.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::reach::{Host, tell_family};
use super::{Report, Trouble};

const PHASES: &str = "probe_icmp_duration_seconds";
/// What an echo request carries beside its number: the size of `ping`.
const PAYLOAD: [u8; 56] = *b"Roundel asks whether you are there; nothing else is here";

pub(super) struct Icmp {
    pub(super) host: Host,
}

impl Icmp {
    pub(super) async fn ask(&self, report: &mut Report) -> Result<(), Trouble> {
        let addresses = self.host.addresses(0, (PHASES, report)).await?;
        let address = addresses.first().ok_or(Trouble::failed("it has no address"))?.ip();
        tell_family(&address, report);
        let begin = Instant::now();
        let echo = Echo::to(address).await?;
        report.took(PHASES, "setup", begin.elapsed());
        let begin = Instant::now();
        echo.answered().await?;
        report.took(PHASES, "rtt", begin.elapsed());
        Ok(())
    }
}

/// A socket that speaks with one address alone.
struct Echo {
    // Of the system's calls those of UDP are the ones that a ping or a raw socket needs.
    socket: UdpSocket,
    address: IpAddr,
    is_raw: bool,
    number: [u8; 4],
}

impl Echo {
    async fn to(address: IpAddr) -> Result<Self, Trouble> {
        let (is_raw, socket) = match open(address, SocketType::DGRAM) {
            Err(error) if is_refusal(&error) => {
                let socket = open(address, SocketType::RAW).map_err(|error| {
                    if is_refusal(&error) {
                        Trouble::Impossible(NOT_ALLOWED.to_owned())
                    } else {
                        Trouble::failed(error)
                    }
                })?;
                (true, socket)
            }
            socket => (false, socket.map_err(Trouble::failed)?),
        };
        socket.connect(SocketAddr::new(address, 0)).await.map_err(Trouble::failed)?;
        let number = getrandom::u32().map_err(Trouble::failed)?.to_le_bytes();
        Ok(Self { socket, address, is_raw, number })
    }

    async fn answered(&self) -> Result<(), Trouble> {
        self.socket.send(&self.request()).await.map_err(Trouble::failed)?;
        let mut packet = [0; 512];
        loop {
            let len = self.socket.recv(&mut packet).await.map_err(Trouble::failed)?;
            if self.is_answer(packet.get(..len).unwrap_or_default()) {
                return Ok(());
            }
        }
    }

    /// The identifier is the first half of the number; a ping socket puts its own there.
    fn request(&self) -> Vec<u8> {
        let kind = if self.address.is_ipv4() { 8 } else { 128 };
        let mut packet = [&[kind, 0, 0, 0], self.number.as_slice(), PAYLOAD.as_slice()].concat();
        // Version 6 includes addresses in its sum, so that the system does it.
        if self.address.is_ipv4() {
            let [high, low] = checksum(&packet);
            packet[2] = high;
            packet[3] = low;
        }
        packet
    }

    fn is_answer(&self, packet: &[u8]) -> bool {
        let is_v4 = self.address.is_ipv4();
        // A raw socket of version 4 gives the header of the packet as well.
        let header = match packet.first() {
            Some(first) if self.is_raw && is_v4 => usize::from(first & 0x0f) * 4,
            _ => 0,
        };
        let Some(packet) = packet.get(header..) else { return false };
        let kind = if is_v4 { 0 } else { 129 };
        let number = if self.is_raw {
            packet.get(4..8) == Some(&self.number)
        } else {
            packet.get(6..8) == self.number.get(2..)
        };
        packet.first() == Some(&kind) && number && packet.get(8..) == Some(PAYLOAD.as_slice())
    }
}

const NOT_ALLOWED: &str = "this system allows no echo requests: let net.ipv4.ping_group_range include our \
     group, or give the program CAP_NET_RAW";

fn is_refusal(error: &io::Error) -> bool {
    let refusals = [Errno::ACCESS, Errno::PERM, Errno::PROTONOSUPPORT];
    refusals.iter().any(|refusal| error.raw_os_error() == Some(refusal.raw_os_error()))
}

fn open(address: IpAddr, kind: SocketType) -> io::Result<UdpSocket> {
    let (family, protocol, any) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, Some(protocol))?;
    rustix::net::bind(&socket, &SocketAddr::new(any, 0))?;
    UdpSocket::from_std(socket.into())
}

/// The internet's checksum, in the order of the wire: what makes the sum of all halves of words zero.
fn checksum(packet: &[u8]) -> [u8; 2] {
    let halves = packet.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or_default();
        u32::from(pair[0]) << 8 | u32::from(low)
    });
    let mut sum: u32 = halves.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !sum;
    [8, 0].map(|shift| u8::try_from((sum >> shift) & 0xff).expect("masked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_makes_the_sum_zero() {
        for packet in
            [&[8, 0, 0, 0, 1, 2, 3, 4][..], &[8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 9], &[0; 8]]
        {
            let mut packet = packet.to_vec();
            let [high, low] = checksum(&packet);
            packet[2] = high;
            packet[3] = low;
            assert_eq!(checksum(&packet), [0, 0], "{packet:?}");
        }
    }
}
