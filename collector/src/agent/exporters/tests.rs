//! Exporters on loopback that answer as they are told.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use rrd::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

type Said = Arc<Mutex<Result<&'static str, u16>>>;

/// An exporter and what it says next.
async fn exporter(said: Result<&'static str, u16>) -> (String, Said) {
    let said: Said = Arc::new(Mutex::new(said));
    let answer = said.clone();
    let say = move || async move {
        let said = *answer.lock().unwrap();
        said.map_err(|status| http::StatusCode::from_u16(status).unwrap())
    };
    let router = Router::new().route("/metrics", get(say));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, said)
}

fn built(text: &str) -> Result<Box<dyn Source>, String> {
    build("db", toml::from_str(text).unwrap())
}

async fn looked(source: &mut dyn Source) -> (Result<(), Trouble>, Readings) {
    let mut out = Readings::default();
    let look = Look { at: Timestamp::from_secs(10), step: Step::from_secs(10).unwrap() };
    let outcome = source.read(look, &mut out).await;
    (outcome, out)
}

const DB: [(&str, &str); 1] = [("exporter", "db")];

#[tokio::test]
async fn a_page_becomes_readings_of_its_kinds_under_the_exporters_name() {
    let (url, _) = exporter(Ok("# TYPE hits counter\nhits 3\nhits_total{job=\"j\",a=\"x,y\"} 4\n\
                             lat_sum 1\nlat_count 2\nlevel 5\n"))
    .await;
    let mut source = built(&format!("url = {url:?}")).unwrap();
    let (outcome, out) = looked(&mut *source).await;
    assert_eq!(outcome, Ok(()));
    let labelled = [("a", "x,y"), ("exported_job", "j"), DB[0]];
    assert_eq!(out.value("hits_total", &labelled), Some(4.0));
    assert_eq!(out.value("agent_exporter_up", &DB), Some(1.0));
    assert_eq!(out.value("agent_exporter_samples", &DB), Some(5.0));
    let kind = |metric: &str| out.iter().find(|one| one.metric == metric).unwrap().kind;
    for (metric, expected) in [
        ("hits", Kind::Total),
        ("hits_total", Kind::Total),
        ("lat_sum", Kind::Total),
        ("lat_count", Kind::Total),
        ("level", Kind::Unknown),
    ] {
        assert_eq!(kind(metric), expected, "{metric}");
    }
}

#[tokio::test]
async fn series_that_vanish_are_ended_once_and_all_of_them_when_the_exporter_fails() {
    let (url, said) = exporter(Ok("a 1\nb 2\n")).await;
    let mut source = built(&format!("url = {url:?}")).unwrap();
    looked(&mut *source).await.0.unwrap();
    *said.lock().unwrap() = Ok("a 1\n");
    let (_, out) = looked(&mut *source).await;
    assert!(out.value("b", &DB).is_some_and(f64::is_nan));
    let (_, out) = looked(&mut *source).await;
    assert_eq!(out.value("b", &DB), None);
    *said.lock().unwrap() = Err(500);
    let (outcome, out) = looked(&mut *source).await;
    assert_eq!(outcome, Err(Trouble("the answer is 500 Internal Server Error".to_owned())));
    assert!(out.value("a", &DB).is_some_and(f64::is_nan));
    assert_eq!(out.value("agent_exporter_up", &DB), Some(0.0));
    let (_, out) = looked(&mut *source).await;
    assert_eq!(out.value("a", &DB), None);
}

#[tokio::test]
async fn an_exporter_is_shown_what_its_table_names_as_the_file_is_now() {
    let open = async |headers: http::HeaderMap| {
        let shown = headers.get("authorization").and_then(|shown| shown.to_str().ok());
        let is_known = matches!(shown, Some("Bearer sesame" | "Basic bWU6c2VzYW1l"));
        if is_known { Ok("a 1\n") } else { Err(http::StatusCode::UNAUTHORIZED) }
    };
    let router = Router::new().route("/metrics", get(open));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    let write = |text: &str, mode: u32| {
        std::fs::write(&secret, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&secret, mode).unwrap();
    };
    for shown in [
        format!("bearer_file = {secret:?}"),
        format!("username = \"me\"\npassword_file = {secret:?}"),
    ] {
        let mut source = built(&format!("url = {url:?}\n{shown}")).unwrap();
        for (text, mode, why) in [
            ("sesame\n", 0o600, None),
            ("other\n", 0o600, Some("the answer is 401 Unauthorized")),
            ("sesame\n", 0o604, Some("chmod")),
            ("sesame\n", 0o600, None),
        ] {
            write(text, mode);
            let (outcome, out) = looked(&mut *source).await;
            assert_eq!(
                out.value("a", &DB).filter(|value| !value.is_nan()),
                why.is_none().then_some(1.0)
            );
            match why {
                None => assert_eq!(outcome, Ok(())),
                Some(why) => assert!(outcome.unwrap_err().0.contains(why), "{why}"),
            }
        }
    }
}

#[tokio::test]
async fn a_faulty_line_is_told_and_the_others_are_taken() {
    let (url, _) = exporter(Ok("a 1\nb two\nc 3\n")).await;
    let mut source = built(&format!("url = {url:?}")).unwrap();
    let (outcome, out) = looked(&mut *source).await;
    let why = outcome.unwrap_err().0;
    assert!(why.starts_with("1 lines of the page are not taken; first: line 2: \"two\""), "{why}");
    assert_eq!(out.value("c", &DB), Some(3.0));
    assert_eq!(out.value("agent_exporter_up", &DB), Some(1.0));
    assert_eq!(out.value("agent_exporter_faulty_lines", &DB), Some(1.0));
}

#[tokio::test]
async fn a_page_over_its_limit_is_cut_there() {
    let (url, _) = exporter(Ok("a 1\nb 2\nc 3\n")).await;
    let mut source = built(&format!("url = {url:?}\nsamples = 2")).unwrap();
    let (outcome, out) = looked(&mut *source).await;
    assert!(outcome.is_err());
    assert_eq!((out.value("b", &DB), out.value("c", &DB)), (Some(2.0), None));
}

#[test]
fn a_table_names_an_address_on_this_machine_or_says_that_it_does_not() {
    for (table, problem) in [
        ("url = \"http://127.0.0.1:9100/metrics\"", None),
        ("url = \"http://[::1]:9100/metrics\"", None),
        ("url = \"http://localhost/metrics\"\nstep = \"60s\"\ntimeout = \"2s\"", None),
        ("url = \"http://10.0.0.1/metrics\"\nremote = true", None),
        ("url = \"http://10.0.0.1/metrics\"", Some("add remote = true")),
        ("url = \"http://169.254.169.254/\"", Some("add remote = true")),
        ("url = \"ftp://127.0.0.1/\"", Some("write http://127.0.0.1:PORT/metrics")),
        ("url = \"127.0.0.1:9100\"", Some("write http://127.0.0.1:PORT/metrics")),
        ("url = \"http://127.0.0.1/\"\nsamples = 0", Some("from 1 to 20000")),
        ("url = \"http://127.0.0.1/\"\nstep = \"9\"", Some("write it as \"10s\"")),
        ("url = \"http://127.0.0.1/\"\npath = \"x\"", Some("path")),
        ("url = \"http://127.0.0.1/\"\nbearer_file = \"/t\"\nca_file = \"/ca\"", None),
        ("url = \"http://127.0.0.1/\"\nusername = \"me\"\npassword_file = \"/p\"", None),
        ("url = \"http://127.0.0.1/\"\nusername = \"me\"", Some("write either bearer_file")),
        (
            "url = \"http://127.0.0.1/\"\nca_file = \"ca\"",
            Some("ca_file \"ca\": write the whole path"),
        ),
        ("", Some("url")),
    ] {
        let found = built(table).err();
        match (problem, found) {
            (None, found) => assert_eq!(found, None, "{table}"),
            (Some(said), found) => {
                let found = found.unwrap_or_else(|| panic!("{table} is taken"));
                assert!(found.contains(said), "{table}: {found}");
            }
        }
    }
}

/// An exporter behind a certificate of its own authority, which asks for a token.
async fn behind_tls() -> u16 {
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let chain = CertificateDer::pem_file_iter(certificates("good.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates("leaf.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut asked = [0; 4096];
            let len = stream.read(&mut asked).await.unwrap();
            let asked = String::from_utf8_lossy(&asked[..len]).to_lowercase();
            let is_known = asked.contains("authorization: bearer sesame\r\n");
            let status = if is_known { "200 OK" } else { "401 Unauthorized" };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\nconnection: close\r\n\r\na 1\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    port
}

fn certificates(file: &str) -> std::path::PathBuf {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/probe/tests/certificates");
    std::path::Path::new(dir).join(file)
}

#[tokio::test]
async fn an_exporter_behind_a_private_authority_is_asked_by_who_knows_it() {
    let port = behind_tls().await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "sesame\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&token, mode).unwrap();
    let (ca, token) =
        (format!("ca_file = {:?}\n", certificates("ca.pem")), format!("bearer_file = {token:?}\n"));
    for (table, why) in [
        (format!("{ca}{token}"), None),
        (ca, Some("the answer is 401 Unauthorized")),
        (token, Some("invalid peer certificate")),
    ] {
        let mut source =
            built(&format!("url = \"https://localhost:{port}/metrics\"\n{table}")).unwrap();
        let (outcome, out) = looked(&mut *source).await;
        assert_eq!(out.value("a", &DB), why.is_none().then_some(1.0), "{table}");
        match why {
            None => assert_eq!(outcome, Ok(())),
            Some(why) => {
                let said = outcome.unwrap_err().0;
                assert!(said.contains(why), "{table}: {said}");
            }
        }
    }
}
