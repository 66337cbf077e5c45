//! Tests of collectd's JSON: names, and bodies that are none of its.

use proptest::prelude::*;
use rrd::Timestamp;

use super::*;
use crate::foreign::cache::SeriesCache;
use crate::foreign::{Origin, Protocol};
use crate::limits::Window;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// What the reader makes of a body: series, kinds and samples, or why it takes nothing.
fn read(body: &str) -> Result<Vec<String>, String> {
    let cache = SeriesCache::new(1);
    let origin = Origin { protocol: Protocol::Collectd, relay: None };
    let sorter = Sorter::new(&cache, origin, Window::at(NOW, 86_400_000));
    let sorted = sort(body.as_bytes(), sorter).map_err(|error| error.to_string())?;
    let refused = sorted.refusals.samples();
    let told = sorted.strangers.iter().map(|one| {
        let labels: Vec<_> = one.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let (at, value) = one.samples[0];
        let kind = one.kind.unwrap();
        format!("{} {kind:?} {value}@{}", labels.join(","), at.as_millis() - NOW.as_millis())
    });
    let refused = (refused > 0).then(|| format!("{refused} refused"));
    Ok(told.chain(refused).collect())
}

fn list(rest: &str) -> String {
    format!(r#"{{"host":"a","time":1700000000.500,"interval":10.000,{rest}}}"#)
}

#[test]
fn series_are_named_as_write_prometheus_names_them() {
    for (rest, expected) in [
        (
            r#""values":[1,2],"dstypes":["derive","derive"],"dsnames":["rx","tx"],"plugin":"interface",
               "plugin_instance":"eth0","type":"if_octets","type_instance":"","meta":{"x":[1]}"#,
            vec![
                "__name__=collectd_interface_if_octets_rx_total,interface=eth0 Total 1@500",
                "__name__=collectd_interface_if_octets_tx_total,interface=eth0 Total 2@500",
            ],
        ),
        (
            r#""values":[0.5],"dstypes":["gauge"],"dsnames":["shortterm"],"plugin":"load",
               "plugin_instance":"","type":"load","type_instance":"""#,
            vec!["__name__=collectd_load_shortterm Gauge 0.5@500"],
        ),
        (
            r#""values":[7],"dstypes":["derive"],"dsnames":["value"],"plugin":"cpu",
               "plugin_instance":"0","type":"cpu","type_instance":"idle""#,
            vec!["__name__=collectd_cpu_total,cpu=0,type=idle Total 7@500"],
        ),
        (
            r#""values":[8],"dstypes":["gauge"],"dsnames":["value"],"plugin":"memory",
               "plugin_instance":"","type":"memory","type_instance":"used""#,
            vec!["__name__=collectd_memory,memory=used Gauge 8@500"],
        ),
        (
            r#""values":[null],"dstypes":["gauge"],"dsnames":["value"],"plugin":"df",
               "plugin_instance":"root","type":"percent_bytes","type_instance":"free""#,
            vec!["__name__=collectd_df_percent_bytes,df=root,type=free Gauge NaN@500"],
        ),
        (
            r#""values":[9],"dstypes":["counter"],"dsnames":["value"],"plugin":"snmp","type":"counter""#,
            vec!["__name__=collectd_snmp_counter_total Counter 9@500"],
        ),
    ] {
        assert_eq!(read(&format!("[{}]", list(rest))).unwrap(), expected);
    }
}

#[test]
fn a_bad_list_costs_no_other() {
    let good = r#""values":[1],"dstypes":["gauge"],"dsnames":["value"],"plugin":"p","type":"t""#;
    for bad in [
        "{}",
        r#"{"plugin":"p","type":"t","values":[1],"dstypes":["gauge"],"dsnames":["value"]}"#,
        r#"{"plugin":"p","type":"t","values":[1],"dstypes":[],"dsnames":["value"],"time":1.7e9}"#,
        r#"{"labels":{"alertname":"collectd_x"},"annotations":{"summary":"a notification"}}"#,
    ] {
        let read = read(&format!("[{bad},{}]", list(good))).unwrap();
        assert_eq!(read, ["__name__=collectd_p_t Gauge 1@500", "1 refused"], "{bad}");
    }
}

#[test]
fn what_is_no_array_of_lists_is_refused_as_a_whole() {
    let deep = format!("[{}", "[".repeat(100_000));
    let deep_meta = format!(r#"[{{"meta":{}"#, r#"{"a":"#.repeat(100_000));
    let many = format!("[{}]", vec![r#"{"values":[1,1,1,1,1,1,1,1,1,1]}"#; 2_001].join(","));
    for body in ["", "{}", "[", "[1]", r#"[{"values":"x"}]"#, "[]x", &deep, &deep_meta, &many] {
        let error = read(body).unwrap_err();
        assert!(error.contains("not collectd's JSON"), "{error}");
    }
    assert_eq!(read("[]").unwrap(), [""; 0]);
}

proptest! {
    #[test]
    fn no_body_makes_the_reader_fail(body in r#"[\[\]\{\}":,a-z0-9.\\]{0,200}"#) {
        drop(read(&body));
        let inside = format!(r#"[{{"host":"a","values":[{body}],"plugin":{body}}}]"#);
        drop(read(&inside));
    }
}

#[test]
fn an_instance_is_the_host() {
    let identity = Identity { host: "web-1", plugin: "p", kind: "t", ..Identity::default() };
    let labels = checked_pairs(&identity.pairs("value", false)).unwrap();
    assert_eq!((labels.get("instance"), labels.get("job")), (Some("web-1"), Some("collectd")));
}
