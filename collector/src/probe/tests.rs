//! Tests of probes against services of loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::get;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::settings::parse;
use super::*;

async fn probed(text: &str) -> Report {
    let probes = parse(text).unwrap();
    probes.first().unwrap().run().await
}

#[track_caller]
fn succeeds(report: &Report) {
    assert_eq!((report.value("probe_success", None), &report.trouble), (Some(1.0), &None));
}

#[track_caller]
fn fails(report: &Report, why: &str) {
    assert_eq!(report.value("probe_success", None), Some(0.0), "{why}");
    let trouble = report.trouble.as_deref().unwrap();
    assert!(trouble.contains(why), "{trouble}");
}

async fn served(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A site with a door that a secret opens, and a link to another site, which must not be shown it.
async fn site() -> SocketAddr {
    const SECRET: &str = "x-secret";
    let guest = async |headers: HeaderMap| {
        if headers.contains_key(SECRET) { "who are you" } else { "welcome, stranger" }
    };
    let away = format!("http://{}/guest", served(Router::new().route("/guest", get(guest))).await);
    let door = async |headers: HeaderMap| match headers.get(SECRET) {
        Some(key) if key == "key" => StatusCode::OK,
        _ => StatusCode::FORBIDDEN,
    };
    let broken = async || (StatusCode::INTERNAL_SERVER_ERROR, "ERROR 7");
    let site = Router::new()
        .route("/ok", get(async || "all is well"))
        .route("/broken", get(broken))
        .route("/here", get(async || Redirect::temporary("ok")))
        .route("/loop", get(async || Redirect::temporary("/loop")))
        .route("/away", get(async move || Redirect::temporary(&away)))
        .route("/hangs", get(std::future::pending::<()>))
        .route("/door", get(door));
    served(site).await
}

#[tokio::test]
async fn a_page_is_judged_by_its_status_and_its_text() {
    let site = site().await;
    let page = async |path: &str, more: &str| {
        probed(&format!("[[http]]\nurl = \"http://{site}{path}\"\n{more}\n")).await
    };
    let report = page("/ok", "body = \"all is (well|good)\"\nbody_not = \"ERROR\"").await;
    succeeds(&report);
    for (metric, value) in [
        ("probe_http_status_code", 200.0),
        ("probe_http_redirects", 0.0),
        ("probe_http_content_length", 11.0),
        ("probe_http_uncompressed_body_length", 11.0),
        ("probe_http_ssl", 0.0),
        ("probe_http_version", 1.1),
        ("probe_ip_protocol", 4.0),
        ("probe_failed_due_to_regex", 0.0),
    ] {
        assert_eq!(report.value(metric, None), Some(value), "{metric}");
    }
    let phases = ["resolve", "connect", "processing", "transfer"];
    let took =
        phases.map(|phase| report.value("probe_http_duration_seconds", Some(phase)).unwrap());
    assert!(took.iter().sum::<f64>() <= report.value("probe_duration_seconds", None).unwrap());

    let report = page("/broken", "").await;
    fails(&report, "it answers 500");
    assert_eq!(report.value("probe_http_status_code", None), Some(500.0));
    succeeds(&page("/broken", "status = [500]").await);
    let report = page("/broken", "status = [500]\nbody_not = \"ERROR \\\\d\"").await;
    fails(&report, "body_not");
    assert_eq!(report.value("probe_failed_due_to_regex", None), Some(1.0));
    fails(&page("/ok", "body = \"all is lost\"").await, "lacks");
}

#[tokio::test]
async fn redirects_are_followed_to_a_bound_and_take_no_secret_to_others() {
    let site = site().await;
    let page = async |path: &str, more: &str| {
        probed(&format!("[[http]]\nurl = \"http://{site}{path}\"\n{more}\n")).await
    };
    let report = page("/here", "").await;
    succeeds(&report);
    assert_eq!(report.value("probe_http_redirects", None), Some(1.0));
    fails(&page("/loop", "redirects = 3").await, "more than 3 redirects");
    let report = page("/here", "redirects = 0\nstatus = [307]").await;
    succeeds(&report);
    let headers = "headers = { x-secret = \"key\" }";
    succeeds(&page("/door", headers).await);
    fails(&page("/door", "").await, "it answers 403");
    succeeds(&page("/away", &format!("{headers}\nbody = \"stranger\"")).await);
}

#[tokio::test]
async fn what_was_found_before_the_time_was_up_is_kept() {
    let site = site().await;
    let text = format!("[[http]]\nurl = \"http://{site}/hangs\"\ntimeout = \"200ms\"\n");
    let report = probed(&text).await;
    fails(&report, "no answer in 0.2 s");
    assert!(report.value("probe_http_duration_seconds", Some("connect")).is_some());
    assert_eq!(report.value("probe_http_status_code", None), None);
}

fn certificates() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/probe/tests/certificates")
}

/// A site that shows this certificate, and says so little that only the handshake counts.
async fn tls_site(certificate: &str) -> SocketAddr {
    let file = certificates().join(certificate);
    let chain: Vec<_> = CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(certificates().join("leaf.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut asked = [0; 1024];
                // A client that only shakes hands is gone by now.
                let _gone = stream.read(&mut asked).await;
                let _gone =
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                let _gone = stream.shutdown().await;
            }
        }
    });
    address
}

#[tokio::test]
async fn the_end_of_a_certificate_is_told_whether_it_is_trusted_or_not() {
    let ca = format!("ca_file = {:?}", certificates().join("ca.pem"));
    let (good, expired) = (4_733_510_400.0, 1_609_459_200.0);
    for (certificate, more, end, outcome) in [
        ("good.pem", ca.as_str(), good, None),
        ("good.pem", "", good, Some("invalid peer certificate")),
        ("good.pem", "insecure = true", good, None),
        ("expired.pem", ca.as_str(), expired, Some("expired")),
        ("expired.pem", "insecure = true", expired, None),
    ] {
        let site = tls_site(certificate).await;
        for text in [
            format!("[[http]]\nurl = \"https://localhost:{}/\"\nip = 4\n{more}\n", site.port()),
            format!("[[tcp]]\naddress = \"{site}\"\ntls = true\n{more}\n"),
        ] {
            let report = probed(&text).await;
            match outcome {
                None => succeeds(&report),
                Some(why) => fails(&report, why),
            }
            assert_eq!(report.value("probe_ssl_earliest_cert_expiry", None), Some(end), "{text}");
        }
    }
}

#[tokio::test]
async fn a_service_is_judged_by_what_it_says_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"220 mail.example.org ESMTP\r\n").await.unwrap();
        }
    });
    let service =
        async |more: &str| probed(&format!("[[tcp]]\naddress = \"{address}\"\n{more}\n")).await;
    succeeds(&service("").await);
    let report = service("expect = \"^220 .* ESMTP\"").await;
    succeeds(&report);
    for phase in ["resolve", "connect", "banner"] {
        assert!(report.value("probe_tcp_duration_seconds", Some(phase)).is_some(), "{phase}");
    }
    fails(&service("expect = \"^SSH-2\"").await, "something else");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    fails(&probed(&format!("[[tcp]]\naddress = \"{closed}\"\n")).await, "no connection");
}

/// A name server that knows one address, refuses what it does not know, and first gives a wrong number.
async fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut question = [0; 512];
        loop {
            let (len, asker) = socket.recv_from(&mut question).await.unwrap();
            let asked = &question[..len];
            let is_known = asked[12..].starts_with(b"\x03www\x07example\x03org\x00");
            let mut answer = asked.to_vec();
            answer[2] = 0x81;
            answer[3] = if is_known { 0x80 } else { 0x83 };
            answer[7] = u8::from(is_known);
            if is_known {
                answer.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07");
            }
            let mut other = answer.clone();
            other[0] ^= 1;
            socket.send_to(&other, asker).await.unwrap();
            socket.send_to(&answer, asker).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_name_server_is_judged_by_its_answer() {
    let server = name_server().await;
    let asked = async |query: &str, more: &str| {
        probed(&format!("[[dns]]\nquery = \"{query}\"\nserver = \"{server}\"\n{more}\n")).await
    };
    let report = asked("www.example.org", "answer = \"^192\\\\.0\\\\.2\\\\.\"").await;
    succeeds(&report);
    assert_eq!(report.value("probe_dns_answer_rrs", None), Some(1.0));
    assert_eq!(report.value("probe_dns_query_succeeded", None), Some(1.0));
    assert!(report.value("probe_dns_duration_seconds", Some("request")).is_some());
    fails(&asked("www.example.org", "answer = \"^10\\\\.\"").await, "no record");
    fails(&asked("www.example.org", "answers = 2").await, "with 1 records");
    let report = asked("gone.example.org", "").await;
    fails(&report, "with code 3");
    assert_eq!(report.value("probe_dns_rcode", None), Some(3.0));
    succeeds(&asked("gone.example.org", "rcode = \"NXDOMAIN\"").await);
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let text = format!("[[dns]]\nquery = \"a\"\nserver = \"{silent}\"\ntimeout = \"100ms\"\n");
    let report = probed(&text).await;
    fails(&report, "no answer");
    assert_eq!(report.value("probe_dns_query_succeeded", None), Some(0.0));
}

#[tokio::test]
async fn this_host_answers_an_echo_or_the_system_says_why_nobody_may_ask() {
    for host in ["127.0.0.1", "::1"] {
        let report = probed(&format!("[[icmp]]\nhost = \"{host}\"\n")).await;
        match report.trouble.as_deref() {
            None => {
                succeeds(&report);
                assert!(report.value("probe_icmp_duration_seconds", Some("rtt")).is_some());
            }
            // Nothing is said of a host that nobody may ask.
            Some(why) if report.values().is_empty() => {
                assert!(why.contains("net.ipv4.ping_group_range"), "{why}");
            }
            // A machine without version 6.
            Some(why) => assert!(host == "::1" && why.contains("os error 99"), "{why}"),
        }
    }
}
