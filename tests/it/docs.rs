//! The blocks of docs/senders.md: what an operator copies is what the tests run.

use std::path::Path;

use serde_json::json;

use crate::http;
use crate::server::Server;

/// The first block in this language under this heading; the `nth` counts from 0.
#[track_caller]
pub(crate) fn block(heading: &str, language: &str, nth: usize) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/senders.md");
    let text = std::fs::read_to_string(file).unwrap();
    let heading = format!("\n## {heading}\n");
    let section = text.split_once(&heading).unwrap_or_else(|| panic!("no section {heading:?}")).1;
    let section = section.split("\n## ").next().unwrap();
    let fences: Vec<&str> = section.split("```").collect();
    let blocks = fences.iter().skip(1).step_by(2).filter_map(|fence| fence.split_once('\n'));
    let mut found = blocks.filter(|(named, _)| named.trim() == language);
    let block = found.nth(nth);
    block.unwrap_or_else(|| panic!("no block {nth} in {language:?} under {heading:?}")).1.to_owned()
}

/// A block with the address and the secrets of a test in place of those it shows.
pub(crate) fn filled(block: &str, url: &str, relay: &Relay) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let port = address.rsplit(':').next().unwrap();
    block
        .replace("127.0.0.1:4270", address)
        .replace("4270", port)
        .replace("RELAY_TOKEN", &relay.secret)
        .replace("RELAY_ID", &relay.id)
}

/// A relay token.
pub(crate) struct Relay {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// Makes a relay token of this name.
pub(crate) async fn relay(server: &Server, name: &str) -> Relay {
    let wanted = json!({ "kind": "relay", "name": name });
    let answer = http::post_json(&format!("{}/v1/tokens", server.url), &wanted).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let word = |key: &str| answer.json()[key].as_str().unwrap().to_owned();
    Relay { id: word("id"), secret: word("token") }
}

/// The known values of a series between two moments in seconds, second by second.
pub(crate) async fn seconds(url: &str, expr: &str, (from, to): (u64, u64)) -> Vec<(u64, f64)> {
    let pairs = [
        ("query", expr.to_owned()),
        ("start", from.to_string()),
        ("end", to.to_string()),
        ("step", "1".to_owned()),
    ];
    let answer = http::get(&format!("{url}/api/v1/query_range?{}", http::encoded(&pairs))).await;
    let json = answer.json();
    let values = json["data"]["result"][0]["values"].as_array().cloned().unwrap_or_default();
    let value = |pair: &serde_json::Value| {
        (pair[0].as_f64().unwrap().round(), pair[1].as_str().unwrap().parse().unwrap())
    };
    let whole = |at: f64| format!("{at:.0}").parse().unwrap();
    values.iter().map(value).map(|(at, value)| (whole(at), value)).collect()
}
