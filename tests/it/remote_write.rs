//! Remote write by real senders, through outages: Debian's Prometheus in agent mode, and vmagent.

use std::process::Command;

use crate::peers::{Peer, free_port, program};
use crate::recipes::{ADDRESS, block};
use crate::server::ADMIN;
use crate::trial::{Keeps, Trial, write};

/// Scrapes once a second, so that a trial is short.
const HASTE: &str = "global:\n  scrape_interval: 1s\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_agent_loses_nothing_when_the_server_is_killed() {
    let test = "a Prometheus agent through outages";
    let Some(prometheus) = program(test, "prometheus") else { return };
    let Some(trial) = Trial::start(test).await else { return };
    let token = trial.file("roundel.token");
    write(&token, ADMIN);
    let recipe = block("Prometheus", 0)
        .replace(ADDRESS, &trial.front.url)
        .replace("/etc/prometheus/roundel.token", token.to_str().unwrap());
    let scrape = format!(
        "scrape_configs:\n- job_name: test\n  static_configs:\n  - targets: ['{}']\n",
        trial.target
    );
    let file = trial.file("prometheus.yml");
    write(&file, &format!("{HASTE}{scrape}{recipe}  queue_config:\n    batch_send_deadline: 1s\n"));
    let _agent = Peer::start(
        Command::new(prometheus)
            .arg("--enable-feature=agent")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.agent.path={}", trial.file("agent").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", free_port())),
        &trial.file("agent.log"),
    );
    trial.run(Keeps::Everything).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_queues_of_vmagent_give_the_same_figures_out_of_order() {
    let test = "vmagent through outages";
    let Some(vmagent) = program(test, "vmagent") else { return };
    let Some(trial) = Trial::start(test).await else { return };
    let token = trial.file("roundel.token");
    write(&token, ADMIN);
    let scrape = trial.file("scrape.yml");
    let recipe = block("vmagent", 0).replace("localhost:9100", &trial.target);
    write(&scrape, &format!("{HASTE}{recipe}"));
    let line = block("vmagent", 1)
        .replace("\\\n", " ")
        .replace(ADDRESS, &trial.front.url)
        .replace("/etc/vmagent/scrape.yml", scrape.to_str().unwrap())
        .replace("/etc/vmagent/roundel.token", token.to_str().unwrap())
        .replace("/var/lib/vmagent", trial.file("queue").to_str().unwrap());
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("vmagent"));
    let _vmagent = Peer::start(
        Command::new(vmagent)
            .args(words)
            .args(["-remoteWrite.queues=4", "-remoteWrite.flushInterval=200ms"])
            .arg(format!("-httpListenAddr=127.0.0.1:{}", free_port())),
        &trial.file("vmagent.log"),
    );
    trial.run(Keeps::Everything).await;
}
