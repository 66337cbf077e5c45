//! promtool's questions: what it prints of our answers is what it prints of Prometheus'.

use std::process::Command;

use super::Pair;
use crate::peers::program;
use crate::server::ADMIN;

#[tokio::test(flavor = "multi_thread")]
async fn promtool_prints_of_us_what_it_prints_of_prometheus() {
    let test = "promtool against Prometheus";
    let Some(promtool) = program(test, "promtool") else { return };
    let Some(pair) = Pair::start(test).await else { return };
    // promtool takes no token, but an address with a password.
    let ours = pair.ours.url.replace("http://", &format!("http://promtool:{ADMIN}@"));
    let end = pair.data.asked_secs();
    let (time, start, end) =
        (format!("--time={end}"), format!("--start={}", end - 600), format!("--end={end}"));
    let instant = |expr| vec!["instant", &*time, "SERVER", expr];
    let range = |expr| vec!["range", &*start, &*end, "--step=2m", "SERVER", expr];
    for arguments in [
        instant("sort(memory_bytes)"),
        instant("sum by (type) (memory_bytes) > 1e9"),
        instant("sum(rate(cpu_seconds_total{instance=\"host-1\", mode=\"idle\"}[5m]))"),
        instant("42"),
        instant("nothing_of_this_name"),
        instant("temperature{instance=\"host-2\"}[3m]"),
        [vec!["instant", "--format=json"], instant("cpus{instance=\"host-0\"}")[1..].to_vec()]
            .concat(),
        range("cpus"),
        range("sum without (instance) (memory_bytes)"),
        range("time()"),
        vec!["series", "--match=cpus", &*start, &*end, "SERVER"],
        vec![
            "series",
            "--match=cpus",
            "--match=memory_bytes{type=\"free\"}",
            &*start,
            &*end,
            "SERVER",
        ],
        vec!["series", "--match=nothing_of_this_name", "SERVER"],
        vec!["labels", &*start, &*end, "SERVER", "__name__"],
        vec!["labels", "SERVER", "instance"],
        vec!["labels", "--match=memory_bytes", "SERVER", "type"],
        vec!["labels", "SERVER", "none"],
    ] {
        let printed = |server: &str| {
            let arguments: Vec<_> = arguments
                .iter()
                .map(|word| if *word == "SERVER" { server } else { *word })
                .collect();
            let output = Command::new(&promtool).arg("query").args(&arguments).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}");
            lines(&output.stdout)
        };
        let (ours, theirs) = (printed(&ours), printed(&pair.theirs));
        assert_eq!(ours, theirs, "{arguments:?}");
    }
    for (arguments, said) in [
        (instant("sum("), "bad_data: invalid parameter \"query\""),
        (vec!["range", "--start=60", "--end=0", "SERVER", "1"], "end"),
    ] {
        let arguments: Vec<_> =
            arguments.iter().map(|word| if *word == "SERVER" { &*ours } else { *word }).collect();
        let output = Command::new(&promtool).arg("query").args(&arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(said), "{arguments:?}: {errors}");
    }
}

/// Lines in order of their text: the order of an instant vector's series is nobody's promise.
fn lines(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
