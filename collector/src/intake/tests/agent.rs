//! A test of both ends of the line: our agent, a socket, the intake.

use std::time::Duration;

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
