//! Network: traffic by interface, sockets and TCP; `/proc/net/{dev,sockstat,snmp}`.

use std::path::Path;

use super::DEVICES_MAX;
use super::scan::{fields, lines, number, text};
use crate::agent::reading::Readings;

/// Interfaces left out: loopback, and the ends of containers' cables and their bridges, which come
/// and go by the thousand and whose traffic the machine's own interface counts as well.
const LEFT_OUT: [&str; 6] = ["veth", "br-", "docker", "cali", "ifb", "dummy"];

const COLUMNS: [(usize, &str); 8] = [
    (0, "node_network_receive_bytes_total"),
    (1, "node_network_receive_packets_total"),
    (2, "node_network_receive_errs_total"),
    (3, "node_network_receive_drop_total"),
    (8, "node_network_transmit_bytes_total"),
    (9, "node_network_transmit_packets_total"),
    (10, "node_network_transmit_errs_total"),
    (11, "node_network_transmit_drop_total"),
];

/// Reads `/proc/net/dev`.
pub(super) fn dev(bytes: &[u8], out: &mut Readings) {
    // The two lines of headings hold no colon.
    let interfaces = lines(bytes).filter_map(|line| {
        let colon = line.iter().rposition(|byte| *byte == b':')?;
        let (name, rest) = line.split_at(colon);
        Some((text(name.trim_ascii())?, rest.get(1..)?))
    });
    for (device, counts) in interfaces.filter(|(name, _)| is_kept(name)).take(DEVICES_MAX) {
        let labels = [("device", device)];
        for (at, field) in fields(counts).enumerate() {
            let column = COLUMNS.iter().find(|(column, _)| *column == at);
            if let (Some((_, metric)), Some(value)) = (column, number(field)) {
                out.total(metric, &labels, value);
            }
        }
    }
}

fn is_kept(device: &str) -> bool {
    // Some container engines name an interface by the start of the container's id.
    let is_container = device.len() >= 12 && device.bytes().all(|byte| byte.is_ascii_hexdigit());
    device != "lo" && !is_container && !LEFT_OUT.iter().any(|start| device.starts_with(start))
}

/// Reads `/proc/net/sockstat`.
pub(super) fn sockstat(bytes: &[u8], out: &mut Readings) {
    let Some(line) = lines(bytes).find(|line| line.starts_with(b"TCP:")) else { return };
    let mut pairs = fields(line).skip(1);
    while let (Some(name), Some(value)) = (pairs.next(), pairs.next().and_then(number)) {
        match name {
            b"inuse" => out.gauge("node_sockstat_TCP_inuse", &[], value),
            b"tw" => out.gauge("node_sockstat_TCP_tw", &[], value),
            _ => {}
        }
    }
}

/// Reads from `/sys/class/net` which of the interfaces that were read are up.
pub(super) fn up(sys: &Path, out: &mut Readings) {
    let devices: Vec<String> = out
        .iter()
        .filter(|reading| reading.metric == COLUMNS[0].1)
        .filter_map(|reading| reading.labels().next().map(|(_, device)| device.to_owned()))
        .collect();
    for device in devices {
        let state = std::fs::read(sys.join("class/net").join(&device).join("operstate"));
        if let Ok(state) = state {
            let is_up = f64::from(u8::from(state.trim_ascii() == b"up"));
            out.gauge("node_network_up", &[("device", &device)], is_up);
        }
    }
}

/// Reads `/proc/net/netstat`: connections that found the queue of a listening socket full.
pub(super) fn netstat(bytes: &[u8], out: &mut Readings) {
    for (name, value) in named_values(bytes, b"TcpExt:") {
        if name == b"ListenDrops" {
            out.total("node_netstat_TcpExt_ListenDrops", &[], value);
        }
    }
}

/// Reads how many connections the firewall follows.
pub(super) fn conntrack_count(bytes: &[u8], out: &mut Readings) {
    if let Some(value) = number(bytes.trim_ascii()) {
        out.gauge("node_nf_conntrack_entries", &[], value);
    }
}

/// Reads how many connections the firewall can follow.
pub(super) fn conntrack_max(bytes: &[u8], out: &mut Readings) {
    if let Some(value) = number(bytes.trim_ascii()) {
        out.gauge("node_nf_conntrack_entries_limit", &[], value);
    }
}

/// The names and values of two lines with one mark: names, then values.
fn named_values<'a>(bytes: &'a [u8], mark: &'static [u8]) -> impl Iterator<Item = (&'a [u8], f64)> {
    let mut marked = lines(bytes).filter(move |line| line.starts_with(mark));
    let (names, values) = (marked.next().unwrap_or_default(), marked.next().unwrap_or_default());
    let pairs = fields(names).zip(fields(values)).skip(1);
    pairs.filter_map(|(name, value)| Some((name, number(value)?)))
}

/// Reads `/proc/net/snmp`: a line of names, then a line of values, both marked `Tcp:`.
pub(super) fn snmp(bytes: &[u8], out: &mut Readings) {
    for (name, value) in named_values(bytes, b"Tcp:") {
        match name {
            b"CurrEstab" => out.gauge("node_netstat_Tcp_CurrEstab", &[], value),
            b"RetransSegs" => out.total("node_netstat_Tcp_RetransSegs", &[], value),
            _ => {}
        }
    }
}

/// Reads `/proc/sys/fs/file-nr`: file handles in use, an unused zero, and their bound.
pub(super) fn file_nr(bytes: &[u8], out: &mut Readings) {
    let mut fields = fields(bytes).map(number);
    if let (Some(Some(allocated)), Some(_), Some(Some(maximum))) =
        (fields.next(), fields.next(), fields.next())
    {
        out.gauge("node_filefd_allocated", &[], allocated);
        out.gauge("node_filefd_maximum", &[], maximum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &[u8] = b"\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0
  eth0: 211919243    6688    1    2    0     0          0         0   506077    4261    3    4    0     0       0          0
 wan:1:10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0
vethab12: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
docker0: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
br-0af3: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
cali0b2: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
0123456789ab: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
";

    #[test]
    fn traffic_is_read_by_interface_and_containers_are_left_out() {
        let mut out = Readings::default();
        dev(DEV, &mut out);
        assert_eq!(out.len(), 16);
        for (metric, value) in [
            ("node_network_receive_bytes_total", 211_919_243.0),
            ("node_network_receive_packets_total", 6688.0),
            ("node_network_receive_errs_total", 1.0),
            ("node_network_receive_drop_total", 2.0),
            ("node_network_transmit_bytes_total", 506_077.0),
            ("node_network_transmit_packets_total", 4261.0),
            ("node_network_transmit_errs_total", 3.0),
            ("node_network_transmit_drop_total", 4.0),
        ] {
            assert_eq!(out.value(metric, &[("device", "eth0")]), Some(value), "{metric}");
        }
    }

    #[test]
    fn an_alias_keeps_its_colon_and_needs_no_blank_before_its_numbers() {
        let mut out = Readings::default();
        dev(DEV, &mut out);
        let alias = [("device", "wan:1")];
        assert_eq!(out.value("node_network_receive_bytes_total", &alias), Some(10.0));
    }

    #[test]
    fn sockets_in_use_and_in_time_wait_are_read() {
        let mut out = Readings::default();
        sockstat(b"sockets: used 17\nTCP: inuse 1 orphan 0 tw 2 alloc 1 mem 0\n", &mut out);
        assert_eq!(out.value("node_sockstat_TCP_inuse", &[]), Some(1.0));
        assert_eq!(out.value("node_sockstat_TCP_tw", &[]), Some(2.0));
    }

    #[test]
    fn tcp_values_are_found_under_their_names() {
        let mut out = Readings::default();
        let text = b"Ip: Forwarding\nIp: 2\nTcp: MaxConn CurrEstab InSegs RetransSegs\n\
            Tcp: -1 5 6711 12\nUdp: InDatagrams\nUdp: 3\n";
        snmp(text, &mut out);
        assert_eq!(out.value("node_netstat_Tcp_CurrEstab", &[]), Some(5.0));
        assert_eq!(out.value("node_netstat_Tcp_RetransSegs", &[]), Some(12.0));
    }

    #[test]
    fn full_listen_queues_and_followed_connections_are_read() {
        let mut out = Readings::default();
        netstat(
            b"TcpExt: SyncookiesSent ListenDrops\nTcpExt: 4 7\nIpExt: InOctets\nIpExt: 1\n",
            &mut out,
        );
        conntrack_count(b"12\n", &mut out);
        conntrack_max(b"262144\n", &mut out);
        assert_eq!(out.value("node_netstat_TcpExt_ListenDrops", &[]), Some(7.0));
        assert_eq!(out.value("node_nf_conntrack_entries", &[]), Some(12.0));
        assert_eq!(out.value("node_nf_conntrack_entries_limit", &[]), Some(262_144.0));
    }

    #[test]
    fn an_interface_is_up_when_the_kernel_says_so() {
        let sys = tempfile::tempdir().unwrap();
        for (device, state) in [("eth0", "up\n"), ("eth1", "down\n")] {
            let dir = sys.path().join("class/net").join(device);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("operstate"), state).unwrap();
        }
        let mut out = Readings::default();
        for device in ["eth0", "eth1", "gone"] {
            out.total(COLUMNS[0].1, &[("device", device)], 1.0);
        }
        up(sys.path(), &mut out);
        let of = |device| out.value("node_network_up", &[("device", device)]);
        assert_eq!([of("eth0"), of("eth1"), of("gone")], [Some(1.0), Some(0.0), None]);
    }

    #[test]
    fn file_handles_are_read() {
        let mut out = Readings::default();
        file_nr(b"593\t0\t2466177\n", &mut out);
        assert_eq!(out.value("node_filefd_allocated", &[]), Some(593.0));
        assert_eq!(out.value("node_filefd_maximum", &[]), Some(2_466_177.0));
    }
}
