//! The starter rules, and the documentation's, on series as the agent sends them, through the real query engine.

use query::memory::MemoryRead;
use rrd::Timestamp;

use crate::judge::{Phases, judge};
use crate::{Rules, SERVER_RULES, STARTER_RULES};

/// What the starter rules tell over 20 minutes of these series, one evaluation every 10 s.
fn told(series: &str) -> Vec<String> {
    let files = [("host.toml", STARTER_RULES), ("server.toml", SERVER_RULES)];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let rules = Rules::check(&files).unwrap();
    let read = MemoryRead::load(&format!("archives 10s:1000\n{series}")).unwrap();
    let mut phases = Phases::default();
    let moments = (0..120).map(|tick| Timestamp::from_secs(tick * 10));
    moments.flat_map(|at| judge(&rules, &mut phases, &read, at)).map(|t| t.title()).collect()
}

#[test]
fn a_quiet_host_has_no_alerts() {
    let series = "kind counter\n\
         node_cpu_seconds_total{instance=\"a\",mode=\"idle\"} 1.9x120\n\
         node_cpu_seconds_total{instance=\"a\",mode=\"user\"} 0.1x120\n\
         kind gauge\n\
         node_memory_MemAvailable_bytes{instance=\"a\"} 60x120\n\
         node_memory_MemTotal_bytes{instance=\"a\"} 100x120\n\
         node_filesystem_avail_bytes{instance=\"a\",mountpoint=\"/\",fstype=\"ext4\"} 50x120\n\
         node_filesystem_size_bytes{instance=\"a\",mountpoint=\"/\",fstype=\"ext4\"} 100x120";
    assert_eq!(told(series), Vec::<String>::new());
}

#[test]
fn a_certificate_that_ends_is_told_a_fortnight_before_and_again_at_three_days() {
    for (days, expected) in [(20.0, None), (13.5, Some("WARNING")), (2.5, Some("CRITICAL"))] {
        let left = days * 86_400.0;
        let name = "roundel_tls_certificate_expires_in_seconds{instance=\"server\"}";
        let told = told(&format!("kind gauge\n{name} {left}x120"));
        assert_eq!(told.len(), usize::from(expected.is_some()), "{days}: {told:?}");
        let is_so = |word: &str| told[0].contains(word) && told[0].contains("certificate ends");
        assert!(expected.is_none_or(is_so), "{days}: {told:?}");
    }
}

#[test]
fn a_busy_processor_little_memory_and_a_full_disk_are_told() {
    let series = "kind counter\n\
         node_cpu_seconds_total{instance=\"a\",mode=\"idle\"} 0.04x120\n\
         node_cpu_seconds_total{instance=\"a\",mode=\"user\"} 1.96x120\n\
         kind gauge\n\
         node_memory_MemAvailable_bytes{instance=\"b\"} 7x120\n\
         node_memory_MemTotal_bytes{instance=\"b\"} 100x120\n\
         node_filesystem_avail_bytes{instance=\"c\",mountpoint=\"/\",fstype=\"ext4\"} 2x120\n\
         node_filesystem_size_bytes{instance=\"c\",mountpoint=\"/\",fstype=\"ext4\"} 100x120\n\
         node_filesystem_avail_bytes{instance=\"c\",mountpoint=\"/run\",fstype=\"tmpfs\"} 0x120\n\
         node_filesystem_size_bytes{instance=\"c\",mountpoint=\"/run\",fstype=\"tmpfs\"} 100x120";
    assert_eq!(
        told(series),
        [
            "[CRITICAL] c: filesystem free 2 % (< 5)",
            "[CRITICAL] a: cpu busy 98 % (> 95)",
            "[WARNING] b: memory available 7 % (< 10)",
        ]
    );
}

/// The example a reader copies first.
#[test]
fn the_example_of_the_documentation_is_a_good_rule() {
    let page = include_str!("../../../docs/rules.md");
    let (_, behind) = page.split_once("```toml\n").unwrap();
    let (example, _) = behind.split_once("```").unwrap();
    let rules = Rules::check(&[("docs/rules.md".to_owned(), example.to_owned())]).unwrap();
    assert_eq!(rules.get("cpu busy").unwrap().unit, "%");
}
