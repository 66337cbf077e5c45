//! The status page of a real server: who sends what is not taken, and why.

use ::http::Request;
use fixtures::remote_write::{Series, body};
use serde_json::json;

use crate::http;
use crate::server::{Server, folder};
use crate::steady::now_secs;

const HEADING: &str = "<h2>Refused samples by sender</h2>";

/// A relay token of this name.
async fn relay(server: &Server, name: &str) -> String {
    let wanted = json!({"kind": "relay", "name": name});
    let token = http::post_json(&format!("{}/v1/tokens", server.url), &wanted).await;
    assert_eq!(token.status, 201, "{}", token.text());
    token.json()["token"].as_str().unwrap().to_owned()
}

/// Sends a sample of each series, so many seconds ahead of now; answers the status.
async fn send(server: &Server, token: &str, ahead_secs: &[i64]) -> u16 {
    let now = i64::try_from(now_secs()).unwrap();
    let series: Vec<Series> = ahead_secs
        .iter()
        .enumerate()
        .map(|(number, ahead)| {
            let metric = format!("m{number}");
            let labels = [("__name__", metric.as_str()), ("job", "it"), ("instance", "a")];
            Series::new(&labels).reading((now + ahead) * 1000, 1.0)
        })
        .collect();
    let request = Request::post(format!("{}/api/v1/write", server.url))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0");
    http::send(request.body(body(&series).into()).unwrap()).await.unwrap().status.as_u16()
}

/// The facts of the page under the heading: name and note, then the value.
async fn refused(server: &Server) -> Vec<(String, String)> {
    let page = http::get(&format!("{}/status", server.url)).await.text();
    let Some((_, rest)) = page.split_once(HEADING) else { return Vec::new() };
    let group = rest.split_once("</dl>").unwrap().0;
    let plain = |html: &str| {
        let texts = html.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
        texts.collect::<Vec<_>>().join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let facts = group.split("<dt>").skip(1).map(|fact| fact.split_once("</dt>").unwrap());
    facts.map(|(name, value)| (plain(name), plain(value.split_once("</dd>").unwrap().0))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_names_who_sends_what_is_not_taken_and_why() {
    let dir = folder();
    let server = Server::start(dir.path(), &[]);
    let (good, bad, worse) = (
        relay(&server, "core").await,
        relay(&server, "edge-7").await,
        relay(&server, "<b>edge-8").await,
    );
    assert_eq!(send(&server, &good, &[0, 0]).await, 204);
    assert!(refused(&server).await.is_empty(), "nothing is refused");
    assert_eq!(send(&server, &bad, &[0, 7200, 7200]).await, 400);
    assert_eq!(send(&server, &worse, &[7200, 7200, 7200, 7200]).await, 400);
    let row = |name: &str, of: u32, refused: u32| {
        let note = format!("{name} (remote write) future {refused}; of {of} received");
        (note, refused.to_string())
    };
    // The worst first, and its name as it was given.
    let expected = [row("&lt;b&gt;edge-8", 4, 4), row("edge-7", 3, 2)];
    let shown = refused(&server).await;
    let shown: Vec<_> = shown
        .into_iter()
        .map(|(name, value)| (name.replace("&#60;", "&lt;").replace("&#62;", "&gt;"), value))
        .collect();
    assert_eq!(shown, expected);
    // A sender that mends its ways stays named, with what it brought since.
    assert_eq!(send(&server, &bad, &[1]).await, 204);
    assert!(refused(&server).await.contains(&row("edge-7", 4, 2)));
}
