//! Tests of the listener for Zabbix senders: packets and answers, byte by byte.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use rrd::Labels;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::sockets::{Listening, booked};
use super::support::*;
use crate::accounting::Reason;
use crate::intake::ZabbixSettings;

async fn listen(server: &Server) -> Listening {
    let intake = server.intake.clone();
    let settings = ZabbixSettings::default();
    Listening::start(|listener, ended| intake.zabbix(listener, settings, ended)).await
}

fn frame(flags: u8, text: &[u8], unpacked: usize) -> Vec<u8> {
    let small = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    [b"ZBXD", &[flags][..], &small(text.len()), &small(unpacked), text].concat()
}

fn large_frame(text: &[u8]) -> Vec<u8> {
    let length = u64::try_from(text.len()).unwrap().to_le_bytes();
    [b"ZBXD\x05", &length[..], &[0; 8], text].concat()
}

/// What is answered to `bytes`.
async fn answer(listening: &Listening, bytes: &[u8]) -> Value {
    let mut stream = listening.connect().await;
    // It may close before all is read; the answer says why.
    let _sent = stream.write_all(bytes).await;
    let mut told = Vec::new();
    let _ended = stream.read_to_end(&mut told).await;
    assert_eq!(told.get(..5), Some(&b"ZBXD\x01"[..]), "{told:?}");
    assert_eq!(usize::from(told[5]) + 256 * usize::from(told[6]), told.len() - 13);
    serde_json::from_slice(&told[13..]).unwrap()
}

fn values() -> Vec<u8> {
    let clock = NOW.as_millis() / 1000;
    let item = |host: &str, key: &str, value: &str| json!({"host": host, "key": key, "value": value, "clock": clock, "ns": 1});
    let data = [
        item("web-1", "net.if.in[eth0]", "5"),
        item("web-1", "agent.version", "6.0.14"),
        item("web-2", "load", "0.5"),
    ];
    json!({"request": "sender data", "data": data, "clock": clock}).to_string().into_bytes()
}

#[tokio::test]
async fn values_are_answered_when_the_journal_has_them_in_words_that_senders_read() {
    let server = Server::start();
    let listening = listen(&server).await;
    let text = values();
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&text).unwrap();
    for bytes in
        [frame(1, &text, 0), frame(3, &packed.finish().unwrap(), text.len()), large_frame(&text)]
    {
        let told = answer(&listening, &bytes).await;
        assert_eq!(told["response"], "success");
        let info = told["info"].as_str().unwrap();
        assert!(info.starts_with("processed: 2; failed: 1; total: 3; seconds spent: 0."), "{info}");
    }
    server.settle().await;
    let total = server.parts().accounting.total();
    assert_eq!((total.received, total.stored, total.duplicate), (9, 2, 4));
    assert_eq!((total.refused[&Reason::Text], total.in_flight()), (3, 0));
    let host = server.parts().registry.named("zabbix", "web-1").unwrap();
    let key = Labels::from_pairs([("__name__", "net_if_in"), ("param1", "eth0")]).unwrap().to_key();
    assert!(server.parts().store.resolve(host.id, &key).is_some());
}

#[tokio::test]
async fn bombs_are_refused_before_they_unfold() {
    let server = Server::start();
    let listening = listen(&server).await;
    let mut bomb = ZlibEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b'['; 12 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    let huge = [b"ZBXD\x05", &(1_u64 << 60).to_le_bytes()[..], &[0; 8]].concat();
    for (what, bytes, expected) in [
        ("a length of 2^60", huge, "at most"),
        ("a length of 4 GiB", [b"ZBXD\x01", &[0xff; 4][..], &[0; 4]].concat(), "at most"),
        ("zlib 1000:1", frame(3, &bomb, 1 << 20), "another size"),
        ("zlib that says so", frame(3, &bomb, 12 << 20), "at most"),
        ("deep JSON", frame(1, &b"[".repeat(100_000), 0), "not the JSON"),
        ("another request", frame(1, br#"{"request":"active checks"}"#, 0), "not known"),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no ZBXD"),
    ] {
        let told = answer(&listening, &bytes).await;
        assert_eq!(told["response"], "failed", "{what}");
        assert!(told["info"].as_str().unwrap().contains(expected), "{what}: {told}");
    }
    assert_eq!(server.parts().accounting.total().received, 0);
}

#[tokio::test]
async fn a_packet_that_ends_early_is_none() {
    let server = Server::start();
    let listening = listen(&server).await;
    let whole = frame(1, &values(), 0);
    for cut in [0, 1, 4, 12, 13, 14, whole.len() - 1] {
        let mut stream = listening.connect().await;
        stream.write_all(&whole[..cut]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut told = Vec::new();
        stream.read_to_end(&mut told).await.unwrap();
        let told: Value = serde_json::from_slice(&told[13..]).unwrap();
        assert_eq!(told["response"], "failed", "cut at {cut}");
    }
    assert_eq!(server.parts().accounting.total().received, 0);
}

#[tokio::test]
async fn a_journal_that_takes_nothing_fails_the_packet_and_no_value_is_called_processed() {
    let server = Server::start();
    let listening = listen(&server).await;
    answer(&listening, &frame(1, &values(), 0)).await;
    booked(&server, |total| total.stored == 2).await;
    server.fill_disk();
    let fresh = br#"{"request":"sender data","data":[{"host":"new","key":"k","value":"1"}]}"#;
    let told = answer(&listening, &frame(1, fresh, 0)).await;
    assert_eq!(told["response"], "failed", "{told}");
    let told = answer(&listening, &frame(1, &values(), 0)).await;
    assert_eq!(told["response"], "success", "{told}");
    assert!(told["info"].as_str().unwrap().starts_with("processed: 2; failed: 1"), "{told}");
}
