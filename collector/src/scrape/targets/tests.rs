//! Files of targets: what they list, what is wrong with them, and machines that fill them in.

use std::sync::Arc;

use rrd::{InstanceId, Labels, Timestamp};

use super::*;
use crate::lifecycle::{Move, State, Who};
use crate::native::Facts;

const NONE: &[Arc<Instance>] = &[];

fn enrolled(name: &str, labels: &[(&str, &str)]) -> Arc<Instance> {
    let imported = Instance::imported(InstanceId(1), "node", name, Timestamp::from_secs(1));
    Arc::new(Instance {
        labels: Labels::from_pairs(labels.iter().copied()).unwrap(),
        source: Source::Enrolled(None),
        facts: Facts { hostname: format!("{name}.example"), ..Facts::default() },
        ..imported
    })
}

#[test]
fn a_file_of_prometheus_is_read_with_its_reserved_labels() {
    let text = r#"[{"targets": ["a:1", "[::1]:2"], "labels": {"zone": "b", "__meta_x": "y"}},
        {"targets": ["c:3"], "labels": {"job": "j", "instance": "i", "__scheme__": "https",
         "__metrics_path__": "/probe", "__param_target": "http://x/?y", "__scrape_interval__": "1m",
         "__scrape_timeout__": "5s"}}]"#;
    let targets = read("nodes", text, NONE).unwrap().targets;
    let shown: Vec<_> = targets.iter().map(|one| (one.uri.to_string(), one.name())).collect();
    let name = |job: &str, instance: &str| (job.to_owned(), instance.to_owned());
    assert_eq!(
        shown,
        [
            ("http://a:1/metrics".to_owned(), name("nodes", "a:1")),
            ("http://[::1]:2/metrics".to_owned(), name("nodes", "[::1]:2")),
            ("https://c:3/probe?target=http%3A%2F%2Fx%2F%3Fy".to_owned(), name("j", "i")),
        ]
    );
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let labels = [pair("instance", "a:1"), pair("job", "nodes"), pair("zone", "b")];
    assert_eq!(targets[0].labels, labels);
    assert_eq!(targets[0].timeout, Duration::from_secs(10));
    assert_eq!(targets[2].interval.as_millis(), 60_000);
    assert_eq!(targets[2].timeout, Duration::from_secs(5));
}

#[test]
fn a_wrong_file_says_what_is_wrong() {
    for (text, said) in [
        ("{}", "expected a sequence"),
        (r#"[{"target": ["a:1"]}]"#, "target"),
        (r#"[{"targets": ["a:1", "a:1"]}]"#, "is there twice"),
        (r#"[{"targets": ["http://a:1/metrics"]}]"#, "write HOST:PORT"),
        (r#"[{"targets": ["me:pw@a:1"]}]"#, "write HOST:PORT"),
        (r#"[{"targets": ["a:1/x?"]}]"#, "write HOST:PORT"),
        (r#"[{"targets": ["a b"]}]"#, "write HOST:PORT"),
        (r#"[{"targets": [""]}]"#, "write HOST:PORT"),
        (r#"[{"targets": ["a:1"], "labels": {"__scheme__": "file"}}]"#, "write HOST:PORT"),
        (r#"[{"targets": ["a:1"], "labels": {"__scrape_interval__": "1"}}]"#, "1s to 1d"),
        (r#"[{"targets": ["a:1"], "labels": {"__registry__": "role"}}]"#, "label=value"),
    ] {
        let problem = read("x", text, NONE).unwrap_err();
        assert!(problem.contains(said), "{text}: {problem}");
    }
}

fn withdrawn(instance: &Instance) -> Arc<Instance> {
    let gone = Move::to(State::Withdrawn, Who::Operator, "");
    let lifecycle = instance.lifecycle.moved(gone, Timestamp::from_secs(2));
    Arc::new(Instance { lifecycle, ..instance.clone() })
}

#[test]
fn instances_of_the_registry_fill_in_patterns() {
    let instances = [
        enrolled("web-1", &[("role", "web"), ("port", "9101")]),
        enrolled("web-2", &[("role", "web"), ("port", "80/x?y")]),
        enrolled("web-3", &[("role", "web")]),
        enrolled("db-1", &[("role", "db"), ("port", "1")]),
        withdrawn(&enrolled("web-4", &[("role", "web"), ("port", "1")])),
        Arc::new(Instance::imported(InstanceId(2), "j", "relayed", Timestamp::from_secs(1))),
    ];
    let text = r#"[{"targets": ["{hostname}:{port}"], "labels": {"__registry__": "role=web"}}]"#;
    let targets = read("node", text, &instances).unwrap().targets;
    assert_eq!(targets.len(), 1, "{targets:?}");
    assert_eq!(targets[0].uri, "http://web-1.example:9101/metrics");
    assert_eq!(targets[0].name(), ("node".to_owned(), "web-1".to_owned()));
    let text = r#"[{"targets": ["{name}:9100"], "labels": {"__registry__": ""}}]"#;
    let found = read("node", text, &instances).unwrap();
    assert_eq!((found.targets.len(), found.passed_over), (4, None));
}

#[test]
fn a_machine_costs_no_other_its_target_whatever_it_says_of_itself() {
    let of = |job: &str, id: u128, one: &Instance| {
        let labels = Labels::from_pairs([("job", job), ("address", "a:b")]).unwrap();
        Arc::new(Instance { id: InstanceId(id), labels, ..one.clone() })
    };
    let long = "x".repeat(LABEL_VALUE_LIMIT + 1);
    let instances = [
        of("web", 3, &enrolled("good", &[])),
        of("web", 4, &enrolled("a:b", &[])),
        of("db", 5, &enrolled("good", &[])),
        of("web", 6, &enrolled(&long, &[])),
        of("web", 7, &enrolled("c:1", &[])),
    ];
    let chosen = r#"{"targets": ["{name}:9100"], "labels": {"__registry__": ""}}"#;
    let text = format!(r#"[{chosen}, {{"targets": ["c:1"]}}]"#);
    let found = read("node", &text, &instances).unwrap();
    let shown = found.targets.iter().map(|one| format!("{} {}", one.uri, one.name().1));
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            "http://c:1/metrics c:1",
            "http://good:9100/metrics good",
            "http://good:9100/metrics db/good",
        ]
    );
    let told = found.passed_over.unwrap();
    assert!(told.starts_with("3 are not scraped; first: web/a:b: "), "{told}");
    // An unmoved name, whoever comes before it in the registry.
    let earlier = of("db", 1, &enrolled("good", &[]));
    let later = Instance { enrolled_at: Timestamp::from_secs(9), ..(*earlier).clone() };
    let found = read("node", &text, &[Arc::new(later), instances[0].clone()]).unwrap();
    assert_eq!(found.targets[1].name().1, "good");
    assert_eq!(found.targets[2].name().1, "db/good");
}

#[test]
fn patterns_that_fit_no_machine_are_the_files_fault() {
    for pattern in ["http://{hostname}:1", "{hostname", "{hostname}:1/x"] {
        let labels = r#""labels": {"__registry__": ""}"#;
        let text = format!(r#"[{{"targets": ["{pattern}"], {labels}}}]"#);
        let problem = read("x", &text, NONE).unwrap_err();
        assert!(problem.contains("write HOST:PORT"), "{pattern}: {problem}");
    }
    let text = r#"[{"targets": ["[{a}]:{b}"], "labels": {"__registry__": ""}}]"#;
    read("x", text, NONE).unwrap();
}
