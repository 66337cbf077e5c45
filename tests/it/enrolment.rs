//! Enrolment at the operator's hand: the real agent waits, is approved, says goodbye; a foreign sender
//! waits and loses nothing; Prometheus follows who is there.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use axum::http::{StatusCode, Uri};
use serde_json::Value;

use crate::peers::{Peer, free_port, program};
use crate::server::{Server, config, eventually, folder, roundel};
use crate::tls::has_programs;

const PATIENCE: Duration = Duration::from_mins(1);

/// A running `roundel agent`. Dropped, it is killed.
struct Agent(Child);

impl Agent {
    fn start(server: &Server, dir: &Path, more: &[&str]) -> Self {
        let log =
            fs::File::options().create(true).append(true).open(dir.join("agent.log")).unwrap();
        let mut command = roundel();
        command.env_remove("ROUNDEL_TOKEN");
        command.args(["agent", "--collector", &server.url, "--name", "web", "--step", "1s"]);
        command.arg("--state").arg(dir.join("agent")).args(more);
        Self(command.stderr(log).spawn().unwrap())
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[track_caller]
fn json(server: &Server, arguments: &[&str]) -> Value {
    serde_json::from_str(&server.said(&[arguments, &["--json"]].concat())).unwrap()
}

/// Waits until the instance called `web` is in this state; answers it.
async fn in_state(server: &Server, state: &str) -> Value {
    eventually(&format!("web to be {state}"), PATIENCE, async || {
        let list = json(server, &["instances", "list", "--state", state]);
        list.as_array().unwrap().iter().find(|one| one["name"] == "web").cloned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_token_waits_is_approved_and_comes_back_by_its_key() {
    let dir = folder();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.said(&["approve"]), "nobody waits for approval\n");
    let agent = Agent::start(&server, dir.path(), &[]);
    let waiting = eventually("the agent to wait", PATIENCE, async || {
        json(&server, &["approve"])["machines"].as_array().unwrap().first().cloned()
    })
    .await;
    let (id, fingerprint) =
        (waiting["id"].as_str().unwrap(), waiting["fingerprint"].as_str().unwrap());
    let queue = server.said(&["approve"]);
    assert!(queue.contains(id) && queue.contains(fingerprint) && queue.contains("web"), "{queue}");
    let log = fs::read_to_string(dir.path().join("agent.log")).unwrap();
    assert!(log.contains(&format!("roundel approve {id}")), "{log}");
    let other = server.asked(&["approve", id, "--fingerprint", "beef"]);
    let complaint = String::from_utf8(other.stderr).unwrap();
    assert!(complaint.contains("fingerprint is") && complaint.contains("409"), "{complaint}");
    let approved =
        server.said(&["approve", id, "--fingerprint", fingerprint, "--label", "role=web"]);
    assert!(approved.starts_with("approved: web is instance "), "{approved}");
    let active = in_state(&server, "active").await;
    assert_eq!(active["labels"]["role"], "web");
    let key = fs::read_to_string(dir.path().join("agent/agent.key")).unwrap();

    agent.stop();
    let silent = in_state(&server, "silent").await;
    assert_eq!(silent["evidence"], "goodbye of its agent (stop)");
    let agent = Agent::start(&server, dir.path(), &["--goodbye", "terminate"]);
    let back = in_state(&server, "active").await;
    agent.stop();
    let withdrawn = in_state(&server, "withdrawn").await;
    let agent = Agent::start(&server, dir.path(), &[]);
    let again = in_state(&server, "active").await;
    assert_eq!(
        (&back["id"], &withdrawn["id"], &again["id"]),
        (&active["id"], &active["id"], &active["id"])
    );
    let show = server.said(&["instances", "show", "web"]);
    for word in
        ["fingerprint", "withdrawn   agent", "approved    agent", "it came back with its key"]
    {
        assert!(show.contains(word), "{word}: {show}");
    }
    assert_eq!(fs::read_to_string(dir.path().join("agent/agent.key")).unwrap(), key);
    assert!(server.said(&["instances", "events"]).contains("(terminate)"));

    // An operator's last word, which the agent obeys.
    let revoked = server.said(&["instances", "revoke", "web", "--reason", "stolen"]);
    assert!(revoked.starts_with("revoked"), "{revoked}");
    let mut agent = agent;
    let ended =
        eventually("the agent to end", PATIENCE, async || agent.0.try_wait().unwrap()).await;
    assert_eq!(ended.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_made_listed_and_taken_back() {
    let dir = folder();
    let server = Server::start(dir.path(), &[]);
    let made = server.said(&[
        "token",
        "create",
        "--name",
        "autoscaler",
        "--ephemeral",
        "--uses",
        "1",
        "--label",
        "team=a",
    ]);
    let secret = made.lines().next().unwrap();
    assert!(secret.starts_with("rj_") && made.contains("roundel agent --collector"), "{made}");
    let agent = Agent::start(&server, dir.path(), &["--token", secret]);
    let active = in_state(&server, "active").await;
    assert_eq!(
        (&active["labels"]["team"], &active["lifecycle"]),
        (&"a".into(), &"ephemeral".into())
    );
    agent.stop();
    let gone = in_state(&server, "withdrawn").await;
    assert_eq!(gone["evidence"], "goodbye of its agent (stop); it is ephemeral by its token");
    let list = server.said(&["token", "list"]);
    assert!(
        list.contains("autoscaler") && list.contains("0 uses left") | list.contains("used up"),
        "{list}"
    );
    let waits = json(&server, &["token", "create", "--kind", "relay", "--wait"]);
    let id = waits["id"].as_str().unwrap();
    assert!(server.said(&["approve"]).contains(id));
    assert_eq!(server.said(&["approve", id]), "approved: it is good from now on\n");
    assert!(server.said(&["token", "revoke", id]).starts_with("revoked"));
    assert!(server.said(&["token", "list"]).contains("revoked"));
    for wrong in [&["--kind", "other"][..], &["--cidr", "10.0.0.0/99"], &["--silent", "0s"]] {
        let output = server.asked(&[&["token", "create"], wrong].concat());
        assert!(!output.status.success(), "{wrong:?}");
    }
}

/// Prometheus reads who is there; its targets are ours.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_follows_the_enrolment() {
    let test = "prometheus follows the enrolment";
    let Some(prometheus) = program(test, "prometheus") else { return };
    let dir = folder();
    let server = Server::start(dir.path(), &[]);
    let join = json(&server, &["token", "create"]);
    let read = json(&server, &["token", "create", "--kind", "read"]);
    let secret = |made: &Value| made["token"].as_str().unwrap().to_owned();
    let _agent =
        Agent::start(&server, dir.path(), &["--token", &secret(&join), "--label", "role=web"]);
    in_state(&server, "active").await;
    let file = dir.path().join("prometheus.yml");
    let text = format!(
        "scrape_configs:\n- job_name: fleet\n  http_sd_configs:\n  - url: {}/v1/sd/prometheus?port=9\n    \
         refresh_interval: 1s\n    authorization:\n      credentials: {}\n  relabel_configs:\n  - \
         source_labels: [__meta_roundel_label_role]\n    target_label: role\n",
        server.url,
        secret(&read),
    );
    fs::write(&file, text).unwrap();
    let port = free_port();
    let _prometheus = Peer::start(
        Command::new(prometheus)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
        &dir.path().join("prometheus.log"),
    );
    let target = eventually("a target", PATIENCE, async || {
        let url = format!("http://127.0.0.1:{port}/api/v1/targets");
        let answer = crate::http::send_get(&url).await?;
        let answer: Value = serde_json::from_str(&answer.text()).ok()?;
        answer["data"]["activeTargets"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(target["labels"]["role"], "web", "{target}");
    assert!(target["scrapeUrl"].as_str().unwrap().ends_with(":9/metrics"), "{target}");
}

/// EC2's metadata service as far as an agent asks it; `document` is what it signed.
async fn metadata_service(instance: &str, document: String) -> String {
    let said = serde_json::json!({"instanceId": instance, "accountId": "123456789012",
                                  "region": "eu-west-1", "availabilityZone": "eu-west-1b"});
    let pages = async move |uri: Uri| match uri.path() {
        "/latest/api/token" => Ok("t0ken".to_owned()),
        "/latest/dynamic/instance-identity/document" => Ok(said.to_string()),
        "/latest/dynamic/instance-identity/rsa2048" => Ok(document.clone()),
        _ => Err(StatusCode::NOT_FOUND),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(pages);
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

/// Signs what a cloud would say of a machine of this name; the key is made when there is none.
fn signed(dir: &Path, signer: &str, instance: &str) -> String {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        let output = command.current_dir(dir).args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    if !dir.join(format!("{signer}.pem")).exists() {
        let files = format!("-subj /CN={signer} -keyout {signer}.key -out {signer}.pem");
        openssl(&format!("req -x509 -nodes -newkey rsa:2048 -days 9 {files}"));
    }
    let said = serde_json::json!({"instanceId": instance, "accountId": "123456789012"});
    fs::write(dir.join("content"), said.to_string()).unwrap();
    let files = format!("-in content -out signed -signer {signer}.pem -inkey {signer}.key");
    openssl(&format!("cms -sign -binary -nodetach -stream -nocerts -outform PEM {files}"));
    let text = fs::read_to_string(dir.join("signed")).unwrap();
    text.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_cloud_vouches_for_it_is_let_in_by_a_policy_and_a_forger_waits() {
    let dir = folder();
    if !has_programs("an agent with a document of its cloud") {
        return;
    }
    let good = metadata_service("i-1", signed(dir.path(), "region", "i-1")).await;
    let forged = metadata_service("i-2", signed(dir.path(), "stranger", "i-2")).await;
    let section = format!("[cloud]\naws = {:?}\n", dir.path().join("region.pem"));
    let written = config(dir.path(), &section);
    let server = Server::start(dir.path(), &["--config", written.to_str().unwrap()]);
    let policy = ["fleet", "--require", "verified", "--account", "aws:123456789012"];
    let tried = server.said(&[&["policy", "try"], &policy[..]].concat());
    assert!(tried.starts_with("of the last 7 days it would have let in 0"), "{tried}");
    let nobody = server.asked(&["policy", "add", "all", "--require", "verified"]);
    assert!(!nobody.status.success(), "a policy of everybody");
    let added = server.said(&[&["policy", "add"], &policy[..]].concat());
    assert_eq!(added, "fleet: holds from now on\n");
    let listed = server.said(&["policy", "list"]);
    assert!(listed.contains("verified by its cloud"), "{listed}");
    assert!(listed.contains("its cloud says it is of aws:123456789012"), "{listed}");

    let agent = |name: &str, imds: &str| {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        let settings = folder.join("agent.toml");
        fs::write(&settings, format!("imds = {imds:?}\n")).unwrap();
        Agent::start(&server, &folder, &["--config", settings.to_str().unwrap()])
    };
    let _good = agent("good", &good);
    let active = in_state(&server, "active").await;
    assert_eq!(active["labels"]["cloud_instance_id"], "i-1");
    assert_eq!(active["labels"]["cloud_zone"], "eu-west-1b", "its own word");
    let show = server.said(&["instances", "show", "web"]);
    assert!(show.contains("its document is verified: i-1 of account 123456789012"), "{show}");
    let _forged = agent("forged", &forged);
    let waiting = eventually("the forger to wait", PATIENCE, async || {
        json(&server, &["approve"])["machines"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!(waiting["labels"]["cloud_instance_id"], "i-2");
    let queue = server.said(&["approve"]);
    assert!(queue.contains("document not verified: none of AWS' certificates"), "{queue}");
    assert!(queue.lines().all(|line| line.chars().count() <= 120), "{queue}");
    let tried = server.said(&["policy", "try", "x", "--account", "aws:1", "--account", "gcp:shop"]);
    assert!(tried.contains("its document is of aws:123456789012, none of its accounts"), "{tried}");
    assert!(tried.contains("its document is not verified: none of AWS'"), "{tried}");
    let wrong = server.asked(&["policy", "add", "x", "--account", "123456789012"]);
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("write aws:123456789012"), "{said}");
    let removed = server.said(&["policy", "remove", "fleet"]);
    assert_eq!(removed, "fleet: removed; whoever came by it stays\n");
}
