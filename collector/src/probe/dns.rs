//! A probe of a name server: does it answer a question, how, and how soon?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use regex::Regex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::dns_message::{Answer, Question};
use super::reach::{Host, tell_family};
use super::{Report, Trouble};

const PHASES: &str = "probe_dns_duration_seconds";
/// A question that is not answered may have been lost.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Where a machine's own name servers are named.
const RESOLV_CONF: &str = "/etc/resolv.conf";

pub(super) struct Dns {
    /// Whom to ask; the first name server of this machine when nobody is named.
    pub(super) server: Option<(Host, u16)>,
    pub(super) question: Question,
    pub(super) is_tcp: bool,
    /// The code of a good answer.
    pub(super) code: u8,
    /// The least number of records of a good answer.
    pub(super) answers_min: u16,
    /// What one record of a good answer is like.
    pub(super) answer: Option<Regex>,
}

impl Dns {
    pub(super) async fn ask(&self, report: &mut Report) -> Result<(), Trouble> {
        report.set("probe_dns_query_succeeded", 0.0);
        let (host, port) = match &self.server {
            Some(server) => server.clone(),
            None => own_server().await?,
        };
        let server = host.addresses(port, (PHASES, &mut *report)).await?;
        let server = *server.first().ok_or(Trouble::failed("the server has no address"))?;
        tell_family(&server.ip(), report);
        let begin = Instant::now();
        let id = getrandom::u32().map_err(Trouble::failed)?.to_le_bytes();
        let id = u16::from_le_bytes([id[0], id[1]]);
        let mut answer = if self.is_tcp {
            self.over_tcp(id, server).await?
        } else {
            self.over_udp(id, server).await?
        };
        if answer.is_truncated {
            answer = self.over_tcp(id, server).await?;
        }
        report.took(PHASES, "request", begin.elapsed());
        self.judge(&answer, report)
    }

    async fn over_udp(&self, id: u16, server: SocketAddr) -> Result<Answer, Trouble> {
        let any = match server.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await.map_err(Trouble::failed)?;
        socket.connect(server).await.map_err(Trouble::failed)?;
        let question = self.question.message(id);
        let mut message = vec![0; 4096];
        loop {
            socket.send(&question).await.map_err(Trouble::failed)?;
            let heard = async {
                loop {
                    let len = socket.recv(&mut message).await.map_err(no_answer)?;
                    let text = message.get(..len).unwrap_or_default();
                    if let Some(answer) = self.question.answered(id, text) {
                        return Ok(answer);
                    }
                }
            };
            if let Ok(outcome) = timeout(ASK_AGAIN, heard).await {
                return outcome;
            }
        }
    }

    async fn over_tcp(&self, id: u16, server: SocketAddr) -> Result<Answer, Trouble> {
        let mut stream = TcpStream::connect(server).await.map_err(no_answer)?;
        let question = self.question.message(id);
        let len = u8::try_from(question.len() & 0xff).expect("masked");
        let high = u8::try_from(question.len() >> 8).expect("a question has some 300 bytes");
        let message = [&[high, len], question.as_slice()].concat();
        stream.write_all(&message).await.map_err(no_answer)?;
        let len = stream.read_u16().await.map_err(no_answer)?;
        let mut message = vec![0; usize::from(len)];
        stream.read_exact(&mut message).await.map_err(no_answer)?;
        let mut answer = self
            .question
            .answered(id, &message)
            .ok_or(Trouble::failed("it answers something else"))?;
        answer.is_truncated = false;
        Ok(answer)
    }

    fn judge(&self, answer: &Answer, report: &mut Report) -> Result<(), Trouble> {
        report.set("probe_dns_query_succeeded", 1.0);
        report.set("probe_dns_rcode", f64::from(answer.code));
        let names = ["probe_dns_answer_rrs", "probe_dns_authority_rrs", "probe_dns_additional_rrs"];
        for (name, count) in names.into_iter().zip(answer.counts) {
            report.set(name, f64::from(count));
        }
        if let Some(serial) = answer.serial {
            report.set("probe_dns_serial", f64::from(serial));
        }
        let lacks = |regex: &Regex| !answer.records.iter().any(|record| regex.is_match(record));
        let lacks = self.answer.as_ref().is_some_and(lacks);
        report.set("probe_failed_due_to_regex", f64::from(u8::from(lacks)));
        if answer.code != self.code {
            return Err(Trouble::Failed(format!("it answers with code {}", answer.code)));
        }
        if answer.counts[0] < self.answers_min {
            return Err(Trouble::Failed(format!("it answers with {} records", answer.counts[0])));
        }
        if lacks {
            return Err(Trouble::failed("no record is like `answer`"));
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form of what maps an error")]
fn no_answer(error: std::io::Error) -> Trouble {
    Trouble::Failed(format!("no answer: {error}"))
}

async fn own_server() -> Result<(Host, u16), Trouble> {
    let text = tokio::fs::read_to_string(RESOLV_CONF).await.unwrap_or_default();
    let first = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    let name = first.ok_or(Trouble::failed("this machine has no name server; name a `server`"))?;
    Ok((Host { name: name.to_owned(), family: None }, 53))
}
