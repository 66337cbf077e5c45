//! A test of both ends of the line: our agent, a socket, the intake.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rrd::{Clock, Step, Timestamp};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::support::*;
use crate::agent::{self, AgentConfig, Secret};
use crate::{listen, router};

#[tokio::test]
async fn our_agent_enrols_and_its_first_readings_are_stored() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join", "uses": 1})).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = router(server.intake.clone());
    let serving = tokio::spawn(listen::run(listener, routes, std::future::pending()));
    let config = AgentConfig {
        token: Some(Secret::new(&token)),
        name: Some("web".to_owned()),
        ..AgentConfig::to(url)
    };
    let stored = async {
        while server.parts().accounting.total().stored == 0 {
            server.settle().await;
        }
    };
    let run = agent::run(config, server.clock.clone(), stored);
    timeout(Duration::from_secs(20), run).await.unwrap().unwrap();
    server.settle().await;
    let parts = server.parts();
    let instance = parts.registry.named("node", "web").unwrap();
    let counts = parts.accounting.instance(instance.id);
    assert_eq!((counts.refused_total(), counts.in_flight()), (0, 0), "{counts:?}");
    assert_eq!(parts.store.last_batch(instance.id).unwrap().boot_id, instance.boot_id);
    let held = parts.store.instances();
    assert!(held[0].series_count > 20, "{} series", held[0].series_count);
    assert_eq!(held[0].labels.get("instance"), Some("web"));
    serving.abort();
}

/// A clock that goes on, from the moment at which the server's stands.
struct Running(Instant);

impl Running {
    #[expect(clippy::disallowed_methods, reason = "agents of this test look at real moments")]
    fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for Running {
    fn wall(&self) -> Timestamp {
        NOW.plus_millis(i64::try_from(self.monotonic().as_millis()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The state folder of an agent is copied, as with the disk it is on.
#[tokio::test]
async fn a_clone_is_told_to_be_somebody_else_and_both_go_on() {
    let server = Server::start();
    let token = server.token(json!({"kind": "join"})).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = router(server.intake.clone());
    let serving = tokio::spawn(listen::run(listener, routes, std::future::pending()));
    let folders = tempfile::tempdir().unwrap();
    let (own, copy) = (folders.path().join("own"), folders.path().join("copy"));
    let config = |dir: &Path| AgentConfig {
        token: Some(Secret::new(&token)),
        name: Some("web".to_owned()),
        step: Step::from_millis(100),
        state_dir: Some(dir.to_owned()),
        ..AgentConfig::to(url.clone())
    };
    let stored = |least: usize| {
        let parts = server.parts();
        async move {
            loop {
                let senders = parts.registry.instances().into_iter();
                if senders.filter(|one| parts.store.last_batch(one.id).is_some()).count() >= least {
                    return;
                }
                server_pause().await;
            }
        }
    };
    let clock = Running::start();
    let first = agent::run(config(&own), clock.clone(), stored(1));
    timeout(Duration::from_secs(20), first).await.unwrap().unwrap();
    std::fs::create_dir(&copy).unwrap();
    for file in ["agent.json", "agent.key"] {
        std::fs::copy(own.join(file), copy.join(file)).unwrap();
    }
    let both = async {
        tokio::join!(
            agent::run(config(&own), clock.clone(), stored(2)),
            agent::run(config(&copy), clock.clone(), stored(2)),
        )
    };
    let both = Box::pin(timeout(Duration::from_secs(40), both));
    let (one, two) = both.await.unwrap();
    one.unwrap();
    two.unwrap();
    let instances = server.parts().registry.instances();
    let mut names: Vec<&str> = instances.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["web", "web-2"]);
    assert_ne!(instances[0].key, instances[1].key);
    let text = |dir: &Path, file: &str| std::fs::read_to_string(dir.join(file)).unwrap();
    for file in ["agent.json", "agent.key"] {
        assert_ne!(text(&own, file), text(&copy, file), "{file}");
    }
    let events = server.parts().registry.events(0, 100);
    assert!(events.iter().any(|event| event.what.word() == "identity_conflict"), "{events:?}");
    serving.abort();
}

/// Gives the other tasks of the test a turn.
async fn server_pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}
