//! SMTP: a scripted server on loopback, and what each of its answers means.

use std::sync::{Arc, Mutex};

use rrd::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::mail::transition;
use crate::mail::{Mailbag, Security, SmtpMailer, SmtpServer};
use crate::{Channel, Failure};

type Heard = Arc<Mutex<Vec<String>>>;

/// A server that answers `word` (RCPT, DATA, …) with `answer`, and everything else as it should.
async fn server(word: &'static str, answer: &'static str) -> (u16, Heard) {
    let heard = Heard::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let kept = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client may hang up at any time.
            talk(stream, word, answer, &kept).await.ok();
        }
    });
    (port, heard)
}

async fn talk(
    stream: TcpStream,
    word: &str,
    answer: &str,
    heard: &Heard,
) -> Result<(), std::io::Error> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 test\r\n").await?;
    let mut line = String::new();
    let mut in_data = false;
    while stream.read_line(&mut line).await? > 0 {
        let said = line.trim_end().to_owned();
        line.clear();
        heard.lock().unwrap().push(said.clone());
        if in_data {
            in_data = said != ".";
            if !in_data {
                stream.write_all(b"250 taken\r\n").await?;
            }
            continue;
        }
        let reply = match said.split([' ', ':']).next() {
            Some(verb) if verb == word => answer,
            Some("DATA") => {
                in_data = true;
                "354 go on"
            }
            Some("QUIT") => "221 bye",
            _ => "250 fine",
        };
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
    Ok(())
}

fn bag(port: u16, security: Security) -> Mailbag {
    let server = SmtpServer { host: "127.0.0.1".to_owned(), port, security, credentials: None };
    Mailbag {
        from: "Roundel <roundel@example.org>".parse().unwrap(),
        to: "night@example.org".parse().unwrap(),
        base_url: None,
        mailer: Arc::new(SmtpMailer::new(&server, "example.org").unwrap()),
    }
}

async fn sent(port: u16, security: Security) -> Result<(), Failure> {
    bag(port, security).deliver(&transition("web-1"), Timestamp::from_secs(0)).await
}

#[tokio::test]
async fn a_mail_goes_out_in_one_envelope_with_its_own_name() {
    let (port, heard) = server("", "").await;
    sent(port, Security::None).await.unwrap();
    let heard = heard.lock().unwrap();
    assert_eq!(heard[0], "EHLO example.org");
    assert_eq!(heard[1], "MAIL FROM:<roundel@example.org>");
    assert_eq!(heard[2], "RCPT TO:<night@example.org>");
    assert!(heard.iter().any(|line| line == "Auto-Submitted: auto-generated"), "{heard:?}");
}

/// V52, for one mailbox each.
#[tokio::test]
async fn a_passing_trouble_is_tried_later_and_a_lasting_one_never_again() {
    for (word, answer, is_over) in [
        ("RCPT", "451 grey list", false),
        ("RCPT", "550 no such user", true),
        ("MAIL", "421 too busy", false),
        ("DATA", "554 spam", true),
        ("MAIL", "530 log in first", false),
    ] {
        let (port, _) = server(word, answer).await;
        let failure = sent(port, Security::None).await.unwrap_err();
        assert_eq!(matches!(failure, Failure::Never { .. }), is_over, "{answer}: {failure:?}");
    }
}

#[tokio::test]
async fn without_starttls_nothing_is_said() {
    let (port, heard) = server("", "").await;
    let failure = sent(port, Security::StartTls).await.unwrap_err();
    let Failure::Later { error, .. } = failure else { panic!("{failure:?}") };
    assert!(error.to_lowercase().contains("starttls"), "{error}");
    let heard = heard.lock().unwrap();
    assert!(!heard.iter().any(|line| line.starts_with("MAIL")), "{heard:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let failure = sent(port, Security::None).await.unwrap_err();
    assert!(matches!(failure, Failure::Later { .. }), "{failure:?}");
}
