//! An efficient sender: prepared requests over keep-alive connections, a thread each, and no more work
//! than writing a body and reading an answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use crate::meter::Wall;

/// Connections at once. A series always takes the same, as the shards of Prometheus do.
pub(crate) const CONNECTIONS: usize = 4;
/// A server that does not answer for so long is stuck.
const PATIENCE: Duration = Duration::from_mins(2);
/// A sender that is told to wait comes again after this.
const PAUSE: Duration = Duration::from_millis(20);
/// Headers of an answer.
const MOST_HEAD: usize = 16 << 10;

/// One request, all but its `Content-Length`.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The request line and headers, each with its line's end.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What a sender saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) time: Duration,
    /// Answers that said "later".
    pub(crate) put_off: u64,
}

/// Sends all requests, the same ones always over the same connection and in order; ends with the last
/// answer.
pub(crate) fn send(address: SocketAddr, requests: &[Request]) -> Result<Sent> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(address)?);
    }
    let wall = Wall::start();
    let put_off = std::thread::scope(|scope| {
        let of = |(number, mut connection): (usize, Connection)| {
            let mine = requests.iter().skip(number).step_by(CONNECTIONS);
            scope
                .spawn(move || -> Result<u64> { mine.map(|request| connection.put(request)).sum() })
        };
        let threads: Vec<_> = connections.into_iter().enumerate().map(of).collect();
        let joined = threads.into_iter().map(ScopedJoinHandle::join);
        joined.map(|sent| sent.map_err(|_| anyhow!("a sender panicked"))?).sum::<Result<u64>>()
    })?;
    Ok(Sent { time: wall.elapsed(), put_off })
}

/// One keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| address.to_string())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Sends until it is taken; answers how often it was put off.
    fn put(&mut self, request: &Request) -> Result<u64> {
        let mut put_off = 0;
        loop {
            match self.send(request)? {
                (200..300, _) => return Ok(put_off),
                (429 | 503, _) => {
                    put_off += 1;
                    ensure!(put_off < 3000, "a server takes no more");
                    std::thread::park_timeout(PAUSE);
                }
                (status, answer) => bail!("answered {status}: {answer}"),
            }
        }
    }

    /// The status of the answer, and its body.
    pub(crate) fn send(&mut self, request: &Request) -> Result<(u16, String)> {
        let Request { head, body } = request;
        let head = format!("{head}Host: bench\r\nContent-Length: {}\r\n\r\n", body.len());
        let small = body.len() < 32 << 10;
        if small {
            self.stream.write_all(&[head.as_bytes(), body].concat())?;
        } else {
            self.stream.write_all(head.as_bytes())?;
            self.stream.write_all(body)?;
        }
        self.answer.clear();
        let end = loop {
            let end = self.answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            ensure!(self.answer.len() < MOST_HEAD, "an answer of endless headers");
            self.read()?;
        };
        let head = String::from_utf8_lossy(&self.answer[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).context("an answer without a status")?.parse()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.map_or(Ok(0), |length| length.trim().parse::<usize>())?;
        while self.answer.len() < end + length {
            self.read()?;
        }
        Ok((status, String::from_utf8_lossy(&self.answer[end..]).into_owned()))
    }

    fn read(&mut self) -> Result<()> {
        let mut part = [0_u8; 4096];
        let read = self.stream.read(&mut part).context("no answer in time")?;
        ensure!(read > 0, "the server closed the connection");
        self.answer.extend_from_slice(&part[..read]);
        Ok(())
    }
}
