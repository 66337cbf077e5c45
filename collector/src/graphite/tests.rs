//! Tests of Graphite's lines: tables of legal and illegal ones, templates, and any bytes at all.

use proptest::prelude::*;

use super::*;
use crate::foreign::cache::SeriesCache;
use crate::foreign::{Origin, Protocol};
use crate::limits::Window;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn sorted(text: &[u8]) -> Sorted {
    let cache = SeriesCache::new(1);
    let origin = Origin { protocol: Protocol::Graphite, relay: None };
    let sorter = Sorter::new(&cache, origin, Window::at(NOW, 86_400_000));
    sort(text, (&Templates::default(), NOW), sorter)
}

fn named(texts: &[&str], path: &str) -> String {
    let templates = Templates::parse(texts).unwrap();
    let labels = Path { path, templates: &templates }.labels().unwrap();
    let pairs: Vec<_> = labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
    pairs.join(",").replace("__name__=", "")
}

#[test]
fn legal_lines_are_read() {
    for (line, value, millis) in [
        ("a.b 1 1700000000", 1.0, 0),
        ("a.b\t-1.5e3\t1700000000.25", -1500.0, 250),
        ("  a.b   1   1700000000  \r", 1.0, 0),
        ("a.b 1", 1.0, 0),
        ("a.b 1 -1", 1.0, 0),
        ("a;k=v 1 1700000000", 1.0, 0),
    ] {
        let (_, found, at) = read(line.as_bytes().trim_ascii()).unwrap();
        let at = at.unwrap_or(NOW).as_millis() - NOW.as_millis();
        assert_eq!((found, at), (value, millis), "{line}");
    }
    for line in ["a nan 1", "a NaN 1", "a -nan 1"] {
        assert!(read(line.as_bytes()).unwrap().1.is_nan(), "{line}");
    }
}

#[test]
fn illegal_lines_are_refused_and_cost_no_other() {
    let long = format!("{} 1 1", "a".repeat(LINE_LIMIT));
    for line in [
        "a",
        "a x 1700000000",
        "a inf 1700000000",
        "a 1 x",
        "a 1 1 1",
        "a 1e999 1",
        "a  1_0 1",
        "(lp0",
        &long,
    ] {
        let sorted = sorted(format!("b 1 1700000000\n{line}\nc 2 1700000000\n").as_bytes());
        assert_eq!((sorted.strangers.len(), sorted.refusals.samples()), (2, 1), "{line}");
    }
    assert_eq!(sorted(b"a\xff 1 1700000000\n").refusals.samples(), 1);
    assert_eq!(count(b"a 1 1\n\n  \nb 2 2"), 2);
}

#[test]
fn paths_become_labels_as_templates_say() {
    for (templates, path, expected) in [
        (&[][..], "a.b-c.d", "a_b_c_d,job=graphite"),
        (&[], "disk.used;host=web;mount=/", "disk_used,instance=web,job=graphite,mount=/"),
        (
            &[],
            "collectd.web_1.load.load.shortterm",
            "collectd_load_shortterm,instance=web_1,job=graphite",
        ),
        (
            &[],
            "collectd.web.cpu-0.cpu-idle",
            "collectd_cpu,cpu=0,instance=web,job=graphite,type=idle",
        ),
        (
            &[],
            "collectd.web.interface-eth0.if_octets.rx",
            "collectd_interface_if_octets_rx,instance=web,interface=eth0,job=graphite",
        ),
        (&[], "collectd.web.one", "collectd_web_one,job=graphite"),
        (
            &["* host.collectd job=metal"],
            "web.df-root.df_complex-free",
            "collectd_df_df_complex,df=root,instance=web,job=metal,type=free",
        ),
        (
            &["servers.* .host.measurement*"],
            "servers.web.cpu.load.5",
            "cpu_load_5,instance=web,job=graphite",
        ),
        (&["servers.* .host.measurement*"], "other.web.cpu", "other_web_cpu,job=graphite"),
        (
            &["host.host.measurement.field"],
            "web.lan.cpu.idle.x",
            "cpu_idle,instance=web.lan,job=graphite",
        ),
        (
            &["stats.* .host.job.measurement* region=eu,host=no"],
            "stats.a.shop.hits",
            "hits,instance=a,job=shop,region=eu",
        ),
        (&["a.b.c.measurement"], "a.b", "a_b,job=graphite"),
    ] {
        assert_eq!(named(templates, path), expected, "{templates:?} {path}");
    }
}

#[test]
fn templates_that_name_nothing_are_refused() {
    for (text, expected) in [
        ("", "is not FILTER"),
        ("a b c d", "is not FILTER"),
        ("a.* host.measurement x", "is not FILTER"),
        ("host.cpu", "no part `measurement`"),
        ("measurement*.host", "parts after one that takes all"),
    ] {
        let error = Templates::parse(&[text]).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    assert_eq!(Templates::parse(&["measurement"; 101]), Err(TemplateError::Many));
    let long = vec!["measurement"; 65].join(".");
    assert_eq!(Templates::parse(&[long]), Err(TemplateError::Many));
}

#[test]
fn more_tags_than_labels_are_allowed_are_refused() {
    let line = format!("a{} 1 1700000000\n", ";k=v".repeat(1_000));
    assert_eq!(sorted(line.as_bytes()).refusals.samples(), 1);
}

proptest! {
    #[test]
    fn any_bytes_are_lines_or_refused(
        text in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(b"a.;= 1\n".to_vec())], 0..300,
        ),
    ) {
        let sorted = sorted(&text);
        let (strangers, refused) = (sorted.strangers.len() as u64, sorted.refusals.samples());
        prop_assert_eq!(strangers + refused, count(&text));
    }

    #[test]
    fn any_template_is_one_or_refused(text in r"[a-z*. =,]{0,40}", path in r"[a-z.\-;=]{0,40}") {
        if let Ok(templates) = Templates::parse(&[text]) {
            drop(Path { path: &path, templates: &templates }.labels());
        }
    }
}
