//! Tests of the accept loop: over loopback, and over pipes on a paused clock where time matters.

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;

const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const KEPT: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn router() -> Router {
    let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
    Router::new().route("/", get(peer))
}

/// The client's end of a connection that is served on the test's own clock.
fn pipe() -> DuplexStream {
    let (client, server) = tokio::io::duplex(64 << 10);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let connection = serve(server, peer, router(), Patience::default());
    tokio::spawn(async move { connection.await.ok() });
    client
}

async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.ok();
    String::from_utf8(text).unwrap()
}

async fn head(stream: &mut DuplexStream) -> String {
    let mut text = vec![0; 4096];
    let len = stream.read(&mut text).await.unwrap();
    String::from_utf8(text[..len].to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_stops_within_its_headers_is_cut_after_five_seconds() {
    let (mut client, start) = (pipe(), Instant::now());
    client.write_all(&WHOLE[..20]).await.unwrap();
    assert!(!rest(&mut client).await.starts_with("HTTP/1.1 2"));
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_drips_its_headers_is_cut_after_five_seconds() {
    let (client, start) = (pipe(), Instant::now());
    let (mut reader, mut writer) = tokio::io::split(client);
    tokio::spawn(async move {
        for byte in WHOLE[..20].iter().chain(std::iter::repeat(&b'x')) {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(900)).await;
        }
    });
    assert!(!rest(&mut reader).await.starts_with("HTTP/1.1 2"));
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_between_pushes_and_ends_after_a_minute_without() {
    let (mut client, start) = (pipe(), Instant::now());
    for _ in 0..10 {
        client.write_all(KEPT).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
        sleep(Duration::from_secs(10)).await;
    }
    rest(&mut client).await;
    assert_eq!(start.elapsed().as_secs(), 90 + 60);
}

#[tokio::test(start_paused = true)]
async fn a_second_request_has_five_seconds_of_its_own() {
    let mut client = pipe();
    client.write_all(KEPT).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
    sleep(Duration::from_secs(30)).await;
    let start = Instant::now();
    client.write_all(&KEPT[..5]).await.unwrap();
    sleep(Duration::from_secs(4)).await;
    client.write_all(&KEPT[5..]).await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
    client.write_all(&KEPT[..5]).await.unwrap();
    rest(&mut client).await;
    assert_eq!(start.elapsed().as_secs(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_and_never_reads_is_cut_after_thirty_seconds() {
    let (mut client, start) = (pipe(), Instant::now());
    // The pipe takes 64 KiB each way: soon no answer fits, and then no request.
    while client.write_all(KEPT).await.is_ok() {}
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn headers_over_the_limit_are_refused() {
    let mut client = pipe();
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(HEADER_SIZE_LIMIT));
    client.write_all(long.as_bytes()).await.unwrap();
    assert!(rest(&mut client).await.starts_with("HTTP/1.1 431"));
}

struct Server {
    at: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn server(router: Router, patience: Patience) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        stopped.await.ok();
    };
    let task = tokio::spawn(run_with(listener, router, shutdown, patience));
    Server { at, stop, task }
}

#[tokio::test]
async fn a_request_is_answered_and_its_handler_knows_the_peer() {
    let server = server(router(), Patience::default()).await;
    let mut stream = TcpStream::connect(server.at).await.unwrap();
    stream.write_all(WHOLE).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_served_when_a_place_is_free() {
    let server = server(router(), Patience { connection_limit: 1, ..Patience::default() }).await;
    let mut first = TcpStream::connect(server.at).await.unwrap();
    first.write_all(KEPT).await.unwrap();
    first.readable().await.unwrap();
    let mut second = TcpStream::connect(server.at).await.unwrap();
    second.write_all(WHOLE).await.unwrap();
    // Nothing can come before the first is gone, so that looking at once is enough.
    let waits = second.try_read(&mut [0; 1]).unwrap_err();
    assert_eq!(waits.kind(), io::ErrorKind::WouldBlock);
    drop(first);
    assert!(rest(&mut second).await.contains("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_stop_lets_an_answer_finish_and_takes_no_more() {
    let (entered, inside) = oneshot::channel::<()>();
    let (go_on, gate) = oneshot::channel::<()>();
    let once = Arc::new(std::sync::Mutex::new(Some((entered, gate))));
    let slow = move || async move {
        let (entered, gate) = once.lock().unwrap().take().unwrap();
        entered.send(()).unwrap();
        gate.await.unwrap();
    };
    let server = server(Router::new().route("/", get(slow)), Patience::default()).await;
    let mut stream = TcpStream::connect(server.at).await.unwrap();
    stream.write_all(KEPT).await.unwrap();
    inside.await.unwrap();
    server.stop.send(()).unwrap();
    while TcpStream::connect(server.at).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go_on.send(()).unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200"));
    server.task.await.unwrap();
}
