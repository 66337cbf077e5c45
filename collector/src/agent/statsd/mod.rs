//! StatsD: programs of this machine tell what happens in them, datagram by datagram; a look adds it up.

mod held;
mod line;
mod series;
mod sketch;
mod table;

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use super::reading::Readings;
use super::source::{Answer, Look, Source};
use table::Table;

/// Where programs send to when nobody says.
const LISTEN: &str = "127.0.0.1:8125";
/// How long a series that nothing is heard of is reported: an idle gauge is no news.
const EXPIRE: &str = "5m";
/// Shorter than that a series that is sent once a minute would come and go.
const EXPIRE_RANGE_MS: std::ops::RangeInclusive<u64> = 30_000..=86_400_000;
/// The longest datagram there is.
const DATAGRAM_MAX: usize = 64 << 10;
/// Everybody may write to the socket, nobody but us reads from it.
const SOCKET_MODE: u32 = 0o622;

/// The table of a source `kind = "statsd"`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    listen: String,
    socket: Option<PathBuf>,
    expire: String,
}

impl Default for Written {
    fn default() -> Self {
        Self { listen: LISTEN.to_owned(), socket: None, expire: EXPIRE.to_owned() }
    }
}

/// The source that a table describes, listening.
pub(super) fn build(_: &str, table: toml::Table) -> Result<Box<dyn Source>, String> {
    Ok(Box::new(Statsd::start(table)?))
}

/// Listens, and adds up what it hears. Dropped, it is deaf.
struct Statsd {
    heard: Arc<Mutex<Table>>,
    #[cfg(test)]
    address: SocketAddr,
    _listeners: JoinSet<()>,
}

impl Statsd {
    fn start(table: toml::Table) -> Result<Self, String> {
        let written: Written = table.try_into().map_err(|error| error.to_string())?;
        let expire = rrd::time::parse_duration_ms(&written.expire);
        let expire = expire.filter(|millis| EXPIRE_RANGE_MS.contains(millis)).ok_or_else(|| {
            format!(
                "expire = {:?} is not a time from 30s to 1d; write it as \"5m\"",
                written.expire
            )
        })?;
        let heard = Arc::new(Mutex::new(Table::keeping(Duration::from_millis(expire))));
        let mut listeners = JoinSet::new();
        let udp = udp(&written.listen)?;
        #[cfg(test)]
        let address = udp.local_addr().map_err(|error| error.to_string())?;
        listeners.spawn(hear_udp(udp, Arc::clone(&heard)));
        if let Some(path) = &written.socket {
            let socket = unix(path).map_err(|error| format!("{}: {error}", path.display()))?;
            listeners.spawn(hear_unix(socket, Arc::clone(&heard)));
        }
        Ok(Self {
            heard,
            #[cfg(test)]
            address,
            _listeners: listeners,
        })
    }
}

impl Source for Statsd {
    fn read<'a>(&'a mut self, look: Look, out: &'a mut Readings) -> Answer<'a> {
        Box::pin(async move {
            lock(&self.heard).tell((look.at, Instant::now()), out);
            Ok(())
        })
    }
}

fn udp(listen: &str) -> Result<tokio::net::UdpSocket, String> {
    let address: SocketAddr = listen
        .parse()
        .map_err(|_| format!("listen = {listen:?} is no address; write it as {LISTEN:?}"))?;
    if !address.ip().is_loopback() {
        return Err(format!(
            "listen = {listen:?}: anybody could write there without a credential; listen on {LISTEN:?}"
        ));
    }
    let refused = |error| format!("listen = {listen:?}: {error}");
    let socket = UdpSocket::bind(address).map_err(refused)?;
    socket.set_nonblocking(true).map_err(refused)?;
    tokio::net::UdpSocket::from_std(socket).map_err(refused)
}

fn unix(path: &Path) -> std::io::Result<tokio::net::UnixDatagram> {
    // What an agent before us left is in the way; anything but a socket is not ours to remove.
    if std::fs::symlink_metadata(path).is_ok_and(|held| held.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let socket = UnixDatagram::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.set_nonblocking(true)?;
    tokio::net::UnixDatagram::from_std(socket)
}

async fn hear_udp(socket: tokio::net::UdpSocket, heard: Arc<Mutex<Table>>) {
    let mut datagram = vec![0; DATAGRAM_MAX];
    loop {
        match socket.recv(&mut datagram).await {
            Ok(len) => take(&heard, datagram.get(..len).unwrap_or_default()),
            Err(error) => return warn!(%error, "statsd listens no longer on its port"),
        }
    }
}

async fn hear_unix(socket: tokio::net::UnixDatagram, heard: Arc<Mutex<Table>>) {
    let mut datagram = vec![0; DATAGRAM_MAX];
    loop {
        match socket.recv(&mut datagram).await {
            Ok(len) => take(&heard, datagram.get(..len).unwrap_or_default()),
            Err(error) => return warn!(%error, "statsd listens no longer on its socket"),
        }
    }
}

fn take(heard: &Mutex<Table>, datagram: &[u8]) {
    lock(heard).take(datagram, Instant::now());
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // A line is either in the table or not, also after a panic.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use rrd::{Step, Timestamp};

    use super::*;

    fn started(text: &str) -> Result<Statsd, String> {
        Statsd::start(toml::from_str(text).unwrap())
    }

    async fn until_seen(statsd: &mut Statsd, metric: &str, value: f64) {
        let look = Look { at: Timestamp::from_secs(0), step: Step::from_secs(10).unwrap() };
        let seen = async {
            loop {
                let mut out = Readings::default();
                statsd.read(look, &mut out).await.unwrap();
                if out.value(metric, &[]) == Some(value) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), seen).await.expect("it is heard");
    }

    #[tokio::test]
    async fn what_is_sent_to_the_port_and_to_the_socket_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("statsd.sock");
        let text = format!("listen = \"127.0.0.1:0\"\nsocket = {path:?}\n");
        drop(started(&text).unwrap());
        let mut statsd = started(&text).expect("the socket that was left is replaced");
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"a:7|g\nhits:3|c", statsd.address).unwrap();
        until_seen(&mut statsd, "a", 7.0).await;
        until_seen(&mut statsd, "hits_total", 3.0).await;
        UnixDatagram::unbound().unwrap().send_to(b"b:8|g", &path).unwrap();
        until_seen(&mut statsd, "b", 8.0).await;
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        for (text, said) in [
            ("listen = \"0.0.0.0:8125\"", "anybody could write there"),
            ("listen = \"8125\"", "write it as \"127.0.0.1:8125\""),
            ("listen = \"127.0.0.1:0\"\nexpire = \"1s\"", "30s to 1d"),
            ("port = 8125", "port"),
            (&format!("listen = \"127.0.0.1:0\"\nsocket = {file:?}"), "in use"),
        ] {
            let problem = started(text).err().unwrap();
            assert!(problem.contains(said), "{text}: {problem}");
        }
        assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
    }
}
