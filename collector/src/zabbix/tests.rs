//! Tests of Zabbix' packets: frames, keys, values, and any bytes at all.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;

use super::*;
use crate::foreign::cache::SeriesCache;
use crate::foreign::{Origin, Protocol};
use crate::limits::Window;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn read(text: &str) -> Result<(Vec<String>, u64, u64), String> {
    let cache = SeriesCache::new(1);
    let origin = Origin { protocol: Protocol::Zabbix, relay: None };
    let sorter = Sorter::new(&cache, origin, Window::at(NOW, 86_400_000));
    let packet = sort(text.as_bytes(), NOW, sorter).map_err(|error| error.to_string())?;
    let told = packet.sorted.strangers.iter().map(|one| {
        let labels: Vec<_> = one.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let (at, value) = one.samples[0];
        let at = at.as_millis() - NOW.as_millis();
        format!("{}/{} {value}@{at}", one.space.instance, labels.join(","))
    });
    Ok((told.collect(), packet.total, packet.sorted.refusals.samples()))
}

fn packet(items: &str) -> String {
    format!(r#"{{"request":"sender data","data":[{items}],"clock":1700000000,"ns":5}}"#)
}

#[test]
fn values_are_read_with_their_host_key_and_time() {
    for (item, expected) in [
        (r#"{"host":"a","key":"load","value":"1.5"}"#, "a/__name__=load 1.5@0"),
        (r#"{"host":"a","key":"load","value":2}"#, "a/__name__=load 2@0"),
        (
            r#"{"host":"a","key":"net.if.in[eth0]","value":" 7 ","clock":1700000001,"ns":250000000}"#,
            "a/__name__=net_if_in,param1=eth0 7@1250",
        ),
        (
            r#"{"host":"a","key":"k[,\"x, \\\"y\\\"\",[b,\"]\"] ,z]","value":"1","id":3}"#,
            "a/__name__=k,param2=x, \"y\",param3=b,\"]\",param4=z 1@0",
        ),
        (r#"{"host":"a","key":"k[]","value":"1"}"#, "a/__name__=k 1@0"),
    ] {
        let (told, total, refused) = read(&packet(item)).unwrap();
        assert_eq!((told, total, refused), (vec![expected.to_owned()], 1, 0), "{item}");
    }
}

#[test]
fn values_that_are_none_are_refused_by_themselves() {
    let good = r#"{"host":"a","key":"good","value":"1"}"#;
    for bad in [
        r#"{"host":"a","key":"k","value":"text"}"#,
        r#"{"host":"a","key":"k","value":"nan"}"#,
        r#"{"host":"a","key":"k","value":""}"#,
        r#"{"host":"a","key":"k","value":null}"#,
        r#"{"host":"a","key":"k"}"#,
        "{}",
        r#"{"host":"a","key":"k","value":["1"]}"#,
        r#"{"host":"a","key":"","value":"1"}"#,
        r#"{"host":"a","key":"[x]","value":"1"}"#,
        r#"{"host":"a","key":"k[x","value":"1"}"#,
        r#"{"host":"a","key":"k[x]y","value":"1"}"#,
        r#"{"host":"a","key":"k[\"x]","value":"1"}"#,
        r#"{"host":"a","key":"k[\"x\"y]","value":"1"}"#,
        r#"{"host":"a","key":"k[[x]","value":"1"}"#,
        r#"{"host":"a","key":"k[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]","value":"1"}"#,
        r#"{"host":"a","key":"k","value":"1","clock":9000000000000000000}"#,
    ] {
        let (told, total, refused) = read(&packet(&format!("{bad},{good}"))).unwrap();
        assert_eq!((told.len(), total, refused), (1, 2, 1), "{bad}: {told:?}");
    }
}

#[test]
fn packets_of_another_kind_are_refused_whole() {
    let deep = format!(r#"{{"data":{}"#, "[".repeat(100_000));
    let many = packet(&vec![r#"{"value":1}"#; 20_001].join(","));
    for (text, expected) in [
        (r#"{"request":"active checks","host":"a"}"#, "\"active checks\" is not known"),
        (r#"{"data":[]}"#, "\"\" is not known"),
        ("", "not the JSON"),
        ("[]", "not the JSON"),
        (r#"{"request":"sender data","data":{}}"#, "not the JSON"),
        (r#"{"request":"sender data","data":[]}x"#, "not the JSON"),
        (&deep, "not the JSON"),
        (&many, "more than 20000 values"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(read(r#"{"data":[],"request":"agent data"}"#).unwrap().1, 0);
}

#[test]
fn an_answer_has_the_words_that_senders_read() {
    let text = answer(5, 2, 0.000_25);
    let expected = r#""info":"processed: 3; failed: 2; total: 5; seconds spent: 0.000250""#;
    assert!(text.contains(expected) && text.contains(r#""response":"success""#), "{text}");
    let frame = framed(&text);
    let header = Header::read(&frame[..HEADER_SIZE]).unwrap();
    assert_eq!(frame.len(), HEADER_SIZE + header.length);
}

fn header(flags: u8, lengths: &[&[u8]]) -> Vec<u8> {
    [&b"ZBXD"[..], &[flags], &lengths.concat()].concat()
}

#[test]
fn frames_say_their_length_before_anything_is_read() {
    let small = |n: u32| n.to_le_bytes();
    let large = |n: u64| n.to_le_bytes();
    for (bytes, expected) in [
        (header(1, &[&small(5), &small(0)]), Ok(5)),
        (header(3, &[&small(5), &small(9)]), Ok(5)),
        (header(5, &[&large(5), &large(0)]), Ok(5)),
        (header(7, &[&large(5), &large(9)]), Ok(5)),
        (header(1, &[&small(u32::MAX), &small(0)]), Err("at most")),
        (header(5, &[&large(1 << 60), &large(0)]), Err("at most")),
        (header(3, &[&small(5), &small(u32::MAX)]), Err("at most")),
        (header(7, &[&large(5), &large(1 << 60)]), Err("at most")),
        (header(0, &[&small(5), &small(0)]), Err("flags 0x00")),
        (header(9, &[&small(5), &small(0)]), Err("flags 0x09")),
        (b"{\"request\":\"sen".to_vec(), Err("no ZBXD")),
        (b"ZB".to_vec(), Err("no ZBXD")),
    ] {
        let read = Header::read(&bytes).map_err(|error| error.to_string());
        match (read, expected) {
            (Ok(header), Ok(length)) => assert_eq!(header.length, length),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (read, expected) => panic!("{bytes:?}: {read:?}, not {expected:?}"),
        }
    }
}

#[test]
fn a_packed_packet_is_unpacked_to_the_size_it_says_and_no_further() {
    let pack = |text: &[u8]| {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    };
    let unpack = |packet: Vec<u8>, size: u32| {
        let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
        let header = Header::read(&header(3, &[&length, &size.to_le_bytes()])).unwrap();
        unpacked(header, packet)
    };
    assert_eq!(unpack(pack(b"hello"), 5).unwrap(), b"hello");
    assert!(matches!(unpack(pack(b"hello"), 4), Err(FrameError::Size)));
    assert!(matches!(unpack(pack(b"hello"), 6), Err(FrameError::Size)));
    assert!(matches!(unpack(pack(&vec![0; 4 << 20]), 1000), Err(FrameError::Size)));
    assert!(matches!(unpack(b"no zlib".to_vec(), 5), Err(FrameError::Packed(_))));
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_fail(
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
        key in r#"[a-z.\[\]",\\ ]{0,40}"#,
        items in r#"[\[\]\{\}":,a-z0-9\\]{0,80}"#,
    ) {
        if let Ok(header) = Header::read(&bytes) {
            drop(unpacked(header, bytes));
        }
        if let Some((name, parameters)) = parameters(&key) {
            prop_assert!(!name.is_empty() && parameters.len() <= 16);
        }
        drop(read(&packet(&items)));
        let item = serde_json::json!({"host": key, "key": key, "value": "1"}).to_string();
        prop_assert!(read(&packet(&item)).is_ok());
    }
}
