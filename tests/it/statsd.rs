//! A real StatsD client, which tells our agent what happens in its program.

use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use crate::peers::{Peer, file, program};
use crate::plugins::Scene;
use crate::server::folder;

/// Tells a thousand hits and what else there is, again and again, until it is killed.
const CLIENT: &str = r#"
import sys, time, statsd
client = statsd.StatsClient("127.0.0.1", int(sys.argv[1]), prefix="shop")
client.incr("burst", 1000)
while True:
    with client.pipeline() as pipe:
        for number in range(100):
            pipe.timing("db.query", number + 1)
            pipe.set("users", number % 7)
    for _ in range(50):
        client.incr("views")
        client.incr("sampled", 2, rate=0.5)
    client.decr("basket", 3)
    client.gauge("queue", 40)
    client.gauge("queue", 5, delta=True)
    client.gauge("queue", -3, delta=True)
    client.gauge("below", -7)
    time.sleep(0.5)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_is_understood() {
    let test = "statsd";
    let Some(python) = program(test, "python3") else { return };
    let Some(module) = file(test, "usr/lib/python3/dist-packages/statsd/__init__.py") else {
        return;
    };
    let dir = folder();
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sources = format!("[sources.statsd]\nkind = \"statsd\"\nlisten = \"127.0.0.1:{port}\"\n");
    let scene = Scene::with(dir.path(), &sources).await;
    scene.value("agent_statsd_series", |_| true).await;
    let script = dir.path().join("client.py");
    fs::write(&script, CLIENT).unwrap();
    let _client = Peer::start(
        Command::new(python)
            .arg(&script)
            .arg(port.to_string())
            .env("PYTHONPATH", module.ancestors().nth(2).unwrap())
            .stdin(Stdio::null()),
        &dir.path().join("client.log"),
    );
    let near = |expected: f64, share: f64| {
        move |found: f64| (found - expected).abs() <= expected.abs() * share
    };
    // A hundred a second, give or take what its sleep is late.
    scene.value("rate(shop_views_total[10s])", near(90.0, 0.15)).await;
    scene.value("rate(shop_sampled_total[10s])", near(180.0, 0.3)).await;
    scene.value("rate(shop_basket_decreased_total[10s])", near(5.4, 0.15)).await;
    scene.value("increase(shop_burst_total[1m])", near(1000.0, 0.01)).await;
    scene.value("shop_queue", near(42.0, 1e-6)).await;
    scene.value("shop_below", near(-7.0, 1e-6)).await;
    scene.value("shop_users_unique", near(7.0, 1e-6)).await;
    scene.value("shop_db_query_seconds{quantile=\"0.9\"}", near(0.09, 0.03)).await;
    scene.value("shop_db_query_seconds_max", near(0.1, 1e-6)).await;
    let mean = "rate(shop_db_query_seconds_sum[10s]) / rate(shop_db_query_seconds_count[10s])";
    scene.value(mean, near(0.0505, 0.01)).await;
}
