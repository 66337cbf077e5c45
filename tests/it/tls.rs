//! TLS as clients meet it: curl and openssl, the agent behind a private authority, certificates that
//! change while the server runs.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http;
use crate::peers::not_run;
use crate::server::{ADMIN, Server, config, eventually, folder, roundel};

const PATIENCE: Duration = Duration::from_secs(20);

/// False, and says so, where a program is missing that this needs.
pub(crate) fn has_programs(name: &str) -> bool {
    let there = |program: &str| Command::new(program).arg("version").output().is_ok();
    let all = there("openssl") && there("curl");
    if !all {
        not_run(name, "openssl and curl");
    }
    all
}

/// An authority whose files are in one folder.
pub(crate) struct Authority {
    dir: PathBuf,
    name: &'static str,
}

impl Authority {
    pub(crate) fn new(dir: &Path, name: &'static str) -> Self {
        let this = Self { dir: dir.to_owned(), name };
        let (key, cert) = (this.file("key"), this.file("pem"));
        openssl(
            &["req", "-x509", "-nodes", "-days", "9", "-newkey", "ec", "-pkeyopt"],
            &[
                "ec_paramgen_curve:prime256v1",
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
                &key,
                "-out",
                &cert,
            ],
        );
        this
    }

    /// A certificate and its key for `subject`, as files called `stem`.pem and `stem`.key.
    fn issue(&self, stem: &str, subject: &str, names: &str) {
        let path = |end: &str| self.dir.join(format!("{stem}.{end}")).display().to_string();
        let (key, request, cert, extension) = (path("key"), path("csr"), path("pem"), path("ext"));
        fs::write(&extension, format!("basicConstraints=CA:FALSE\n{names}\n")).unwrap();
        openssl(
            &["req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
            &["-subj", subject, "-keyout", &key, "-out", &request],
        );
        openssl(
            &["x509", "-req", "-days", "9", "-in", &request, "-extfile", &extension],
            &[
                "-CA",
                &self.file("pem"),
                "-CAkey",
                &self.file("key"),
                "-CAcreateserial",
                "-out",
                &cert,
            ],
        );
    }

    /// A certificate for this host.
    pub(crate) fn issue_server(&self, stem: &str) {
        self.issue(stem, "/CN=server", "subjectAltName=IP:127.0.0.1,DNS:localhost");
    }

    pub(crate) fn file(&self, end: &str) -> String {
        self.dir.join(format!("{}.{end}", self.name)).display().to_string()
    }
}

#[track_caller]
fn openssl(first: &[&str], rest: &[&str]) {
    let output = Command::new("openssl").args(first).args(rest).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A server that speaks TLS with server.pem and server.key of `dir`.
fn start(dir: &Path, more: &str) -> (Server, String) {
    let file = |name: &str| dir.join(name).display().to_string();
    let section = format!(
        "[tls]\nlisten = \"127.0.0.1:0\"\ncert = {:?}\nkey = {:?}\n{more}\n",
        file("server.pem"),
        file("server.key")
    );
    let written = config(dir, &section);
    let server = Server::start(dir, &["--config", written.to_str().unwrap()]);
    let log = log(dir);
    let (_, rest) = log.split_once("listening with TLS address=").expect("the log tells");
    (server, format!("https://{}", rest.split_whitespace().next().unwrap()))
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("log.txt")).unwrap()
}

fn curl(arguments: &[&str]) -> Output {
    let limit = ["--silent", "--show-error", "--max-time", "20"];
    Command::new("curl").args(limit).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn curl_and_openssl_speak_tls_with_us_and_loopback_stays_plain() {
    let dir = folder();
    if !has_programs("TLS with curl and openssl") {
        return;
    }
    let ours = Authority::new(dir.path(), "ours");
    ours.issue_server("server");
    let (server, url) = start(dir.path(), "");
    let ready = format!("{url}/readyz");
    let found = curl(&["--cacert", &ours.file("pem"), "--include", &ready]);
    let answer = text(&found.stdout);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}{}", text(&found.stderr));
    assert!(answer.to_lowercase().contains("strict-transport-security: max-age="), "{answer}");
    assert_eq!(curl(&[&ready]).status.code(), Some(60), "an unknown authority is not believed");
    for old in ["--tlsv1.0", "--tlsv1.1"] {
        let most = old.trim_start_matches("--tlsv");
        let refused = curl(&["--cacert", &ours.file("pem"), old, "--tls-max", most, &ready]);
        assert!(!refused.status.success(), "{old}");
    }
    let login = server.link.replace(&server.url, &url);
    let body = format!("token={}", login.split("token=").nth(1).unwrap());
    let page = curl(&["--cacert", &ours.file("pem"), "-i", "-d", &body, &format!("{url}/login")]);
    let cookie = text(&page.stdout);
    let cookie = cookie.lines().find(|line| line.to_lowercase().starts_with("set-cookie:"));
    assert!(cookie.is_some_and(|line| line.contains("; Secure")), "{cookie:?}");

    let at = url.strip_prefix("https://").unwrap();
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", at, "-CAfile", &ours.file("pem"), "-alpn", "h2,http/1.1"]);
    let spoken = text(&client.stdin(Stdio::null()).output().unwrap().stdout);
    assert!(spoken.contains("ALPN protocol: http/1.1"), "{spoken}");
    assert!(spoken.contains("Verify return code: 0"), "{spoken}");

    let plain = curl(&[&format!("{}/readyz", server.url)]);
    assert!(plain.status.success(), "{}", text(&plain.stderr));
    let answer = curl(&[&format!("http://{at}/readyz")]);
    assert!(!answer.status.success(), "what is not TLS is not answered there");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_are_used_without_a_restart_and_bad_ones_are_not() {
    let dir = folder();
    if !has_programs("TLS files that change") {
        return;
    }
    let (first, second) =
        (Authority::new(dir.path(), "first"), Authority::new(dir.path(), "second"));
    first.issue_server("server");
    let (server, url) = start(dir.path(), "");
    let ready = format!("{url}/readyz");
    let believes = |authority: &Authority| {
        curl(&["--cacert", &authority.file("pem"), &ready]).status.success()
    };
    assert!(believes(&first) && !believes(&second));
    second.issue_server("server");
    eventually("the new certificate", PATIENCE, async || believes(&second).then_some(())).await;

    fs::write(dir.path().join("server.pem"), "no certificate").unwrap();
    let page = format!("{}/status", server.url);
    eventually("the page to tell", PATIENCE, async || {
        http::get(&page).await.text().contains("former files").then_some(())
    })
    .await;
    assert!(believes(&second), "the former certificate is still in use");
    let told = "the new TLS files cannot be used; the former ones stay in use";
    let log = log(dir.path());
    let lines = log.lines().filter(|line| line.contains(told) && line.contains("no certificate"));
    assert_eq!(lines.count(), 1, "{log}");
    first.issue_server("server");
    eventually("the good certificate", PATIENCE, async || believes(&first).then_some(())).await;
    assert!(!http::get(&page).await.text().contains("former files"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_a_certificate_where_one_is_asked_for_and_the_books_name_it() {
    let dir = folder();
    if !has_programs("TLS with client certificates") {
        return;
    }
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    ours.issue_server("server");
    ours.issue("named", "/CN=other", "subjectAltName=DNS:web-1.example");
    ours.issue("common", "/O=x/CN=web-2", "");
    ours.issue("nameless", "/O=nobody", "");
    theirs.issue("stranger", "/CN=stranger", "");
    let (server, url) = start(dir.path(), &format!("client_ca = {:?}", ours.file("pem")));
    let books = format!("{url}/api/v1/accounting");
    let ask = |stem: Option<&str>| {
        let header = format!("Authorization: Bearer {ADMIN}");
        let authority = ours.file("pem");
        let mut arguments = vec!["--cacert", &authority, "-H", &header, "--fail", &books];
        let files = stem.map(|stem| ["pem", "key"].map(|end| format!("{stem}.{end}")));
        let files =
            files.map(|files| files.map(|file| dir.path().join(file).display().to_string()));
        if let Some([cert, key]) = &files {
            arguments.extend(["--cert", cert, "--key", key]);
        }
        curl(&arguments)
    };
    for stem in [None, Some("stranger"), Some("nameless")] {
        assert!(!ask(stem).status.success(), "{stem:?}");
    }
    for stem in ["common", "named", "named"] {
        let answer = ask(Some(stem));
        assert!(answer.status.success(), "{stem}: {}", text(&answer.stderr));
    }
    let told: Value = http::get(&format!("{}/api/v1/accounting", server.url)).await.json();
    assert_eq!(told["certificates"], json!({ "web-1.example": 2, "web-2": 1 }), "{told}");
}

/// An agent of a machine that only the name tells from others.
struct Agent(Child);

impl Agent {
    fn start(dir: &Path, url: &str, token: &str, (name, trust): (&str, &[&str])) -> Self {
        let child = roundel()
            .args(["agent", "--collector", url, "--name", name, "--token", token, "--state"])
            .arg(dir.join(format!("agent-{name}")))
            .args(trust)
            .stderr(fs::File::create(dir.join(format!("{name}.txt"))).unwrap())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_reports_to_a_collector_with_an_authority_of_its_own() {
    let dir = folder();
    if !has_programs("an agent over TLS") {
        return;
    }
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    ours.issue_server("server");
    // Whoever pins the authority by its hash must be shown it.
    let chain = ["server.pem", "ours.pem"].map(|file| fs::read(dir.path().join(file)).unwrap());
    fs::write(dir.path().join("server.pem"), chain.concat()).unwrap();
    let (server, url) = start(dir.path(), "");
    let token = json!({ "kind": "join" });
    let token = http::post_json(&format!("{}/v1/tokens", server.url), &token).await.json();
    let token = token["token"].as_str().unwrap().to_owned();
    let hash = |authority: &Authority| {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in", &authority.file("pem")]);
        let shown = text(&command.output().unwrap().stdout);
        shown.trim().split('=').nth(1).unwrap().to_owned()
    };
    let (our_hash, their_hash) = (hash(&ours), hash(&theirs));
    let (our_file, their_file) = (ours.file("pem"), theirs.file("pem"));
    let _agents = [
        ("file", ["--ca", our_file.as_str()]),
        ("hash", ["--ca-hash", our_hash.as_str()]),
        ("wrong-file", ["--ca", their_file.as_str()]),
        ("wrong-hash", ["--ca-hash", their_hash.as_str()]),
    ]
    .map(|(name, trust)| Agent::start(dir.path(), &url, &token, (name, &trust)));
    let names = async || {
        let list = http::get(&format!("{}/v1/instances", server.url)).await.json();
        let agents = list.as_array().unwrap().iter().filter(|one| one["labels"]["job"] == "node");
        let all = agents.map(|one| one["name"].as_str().unwrap().to_owned());
        let mut all: Vec<String> = all.collect();
        all.sort();
        all
    };
    eventually("both agents", PATIENCE, async || (names().await.len() == 2).then_some(())).await;
    for name in ["wrong-file", "wrong-hash"] {
        eventually("the agent to tell", PATIENCE, async || {
            let told = fs::read_to_string(dir.path().join(format!("{name}.txt"))).unwrap();
            told.contains("certificate").then_some(())
        })
        .await;
    }
    assert_eq!(names().await, ["file", "hash"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_believe_the_authority_they_are_told_and_the_server_says_when_its_certificate_ends()
 {
    let dir = folder();
    if !has_programs("commands over TLS") {
        return;
    }
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    ours.issue_server("server");
    let (server, url) = start(dir.path(), "");
    let list = |trust: &[&str]| {
        roundel().args(["policy", "list", "--server", &url]).args(trust).output().unwrap()
    };
    let (our_file, their_file) = (ours.file("pem"), theirs.file("pem"));
    let answer = list(&["--ca", &our_file]);
    assert!(text(&answer.stdout).starts_with("there are no policies"), "{answer:?}");
    for (trust, why) in [
        (&[][..], "certificate"),
        (&["--ca", &their_file], "certificate"),
        (&["--ca", "/nonexistent"], "/nonexistent"),
        (&["--ca", &our_file, "--ca-hash", "00"], "--ca"),
    ] {
        let refused = list(trust);
        let complaint = text(&refused.stderr);
        assert!(!refused.status.success() && complaint.contains(why), "{trust:?}: {complaint}");
    }
    // Issued for nine days, of which the first has begun.
    let page = http::get(&format!("{}/status", server.url)).await.text();
    assert!(page.contains("its certificate ends in 8 days; renew it"), "{page}");
    let metrics = http::get(&format!("{}/metrics", server.url)).await.text();
    let left = metrics.lines().find_map(|line| {
        line.strip_prefix("roundel_tls_certificate_expires_in_seconds ")?.parse::<f64>().ok()
    });
    let days = left.unwrap() / 86_400.0;
    assert!((8.9..9.0).contains(&days), "{days}");
    eventually("the series of the server", PATIENCE, async || {
        let list = http::get(&format!("{}/v1/instances", server.url)).await.json();
        let own = list.as_array().unwrap().iter().find(|one| one["labels"]["job"] == "roundel");
        own.filter(|own| own["archive"]["series"] == 1).map(|_| ())
    })
    .await;
    assert!(dir.path().join("data/rules/server.toml").exists());
}

#[test]
fn a_client_that_never_speaks_is_cut_and_holds_up_nobody() {
    let dir = folder();
    if !has_programs("a TLS handshake that stalls") {
        return;
    }
    let ours = Authority::new(dir.path(), "ours");
    ours.issue_server("server");
    let (_server, url) = start(dir.path(), "");
    let mut silent = TcpStream::connect(url.strip_prefix("https://").unwrap()).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let ready = format!("{url}/readyz");
    assert!(curl(&["--cacert", &ours.file("pem"), &ready]).status.success());
    assert_eq!(silent.read(&mut [0; 1]).unwrap(), 0, "closed without a word");
}
