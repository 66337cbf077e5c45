//! Tests of what collectd's `write_http` posts.

use axum::body::Body;
use rrd::{Kind, Labels};
use serde_json::json;

use super::support::*;
use crate::accounting::Reason;
use crate::collectd::BODY_LIMIT;

async fn post(server: &Server, body: impl Into<Body>) -> Answer {
    let request = request("POST", "/collectd", ADMIN).header("content-type", "application/json");
    server.send(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn value_lists_become_series_of_their_host_with_their_kinds() {
    let server = Server::start();
    let time = NOW.as_secs_f64();
    let lists = json!([
        {
            "values": [1, 2], "dstypes": ["derive", "derive"], "dsnames": ["rx", "tx"],
            "time": time, "interval": 10.0, "host": "web-1", "plugin": "interface",
            "plugin_instance": "eth0", "type": "if_octets", "type_instance": "",
            "meta": {"network:received": true},
        },
        {
            "values": [null], "dstypes": ["gauge"], "dsnames": ["value"], "time": time,
            "host": "web-1", "plugin": "df", "plugin_instance": "root", "type": "df_complex",
            "type_instance": "free",
        },
        {"host": "web-1", "plugin": "broken"},
    ]);
    let answer = post(&server, lists.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.reasons()), (400, vec!["malformed"]));
    server.settle().await;
    let host = server.parts().registry.named("collectd", "web-1").unwrap();
    let kind = |pairs: &[(&str, &str)]| {
        let wanted = Labels::from_pairs(pairs.iter().copied()).unwrap().overlaid(&host.labels);
        let all = server.parts().store.select(&[]);
        all.into_iter().find(|series| series.labels == wanted).map(|series| series.kind)
    };
    let rx = [("__name__", "collectd_interface_if_octets_rx_total"), ("interface", "eth0")];
    assert_eq!(kind(&rx), Some(Kind::Total));
    let free = [("__name__", "collectd_df_df_complex"), ("df", "root"), ("type", "free")];
    assert_eq!(kind(&free), Some(Kind::Gauge));
    let total = server.parts().accounting.total();
    // The value that collectd does not know yet is no reading.
    assert_eq!((total.received, total.stored, total.in_flight()), (4, 2, 0));
    assert_eq!(total.refused[&Reason::Malformed], 1);
}

#[tokio::test]
async fn bodies_that_are_none_of_collectds_are_refused() {
    let server = Server::start();
    post(&server, "not JSON").await.is(400, "bad_request");
    post(&server, "[".repeat(200_000)).await.is(400, "bad_request");
    post(&server, vec![b' '; BODY_LIMIT + 1]).await.is(413, "too_large");
    assert_eq!(post(&server, "[]").await.status, 204);
    let bare = axum::http::Request::post("/collectd").body(Body::from("[]")).unwrap();
    let asked = server.send(bare).await.is(401, "unauthorised");
    assert_eq!(asked.headers["www-authenticate"], "Basic realm=\"roundel\"");
    assert!(server.parts().registry.instances().is_empty());
}
