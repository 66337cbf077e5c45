//! What the real rrdtool answered, scenario by scenario (`fixtures/golden`).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::timeline::{Timeline, definition, is_close};
use super::{OpenStep, row_is_known};
use crate::policy::ArchiveSpec;
use crate::{Kind, Step, Timestamp};

/// Groups that show how readings become rows; the others show rrdtool's command line.
const GROUPS: [&str; 4] = ["pdp", "dst", "cdp", "random"];

#[test]
fn rows_are_those_of_rrdtool() {
    let (mut played, mut compared, mut skipped) = (0, 0, Vec::new());
    for path in scenario_paths() {
        let scenario = read(&path);
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let group = scenario["group"].as_str().unwrap_or("create");
        if GROUPS.contains(&group) {
            played += 1;
            compared += check(&name, &scenario);
        } else {
            skipped.push(format!("{name}: about rrdtool's command line ({group})"));
        }
    }
    for reason in &skipped {
        println!("skipped {reason}");
    }
    println!("{compared} values of {played} scenarios compared");
    assert!(compared > 1200, "only {compared} values were compared");
}

fn scenario_paths() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/golden");
    let entries = std::fs::read_dir(&dir).expect("fixtures/golden");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let is_json = path.extension().is_some_and(|end| end == "json");
        is_json && path.file_stem().is_some_and(|stem| stem != "INDEX")
    });
    paths.sort();
    paths
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// How many values were compared.
fn check(name: &str, scenario: &Value) -> usize {
    let sources = scenario["definition"]["ds"].as_array().unwrap();
    let mut compared = 0;
    for (index, source) in sources.iter().enumerate() {
        let timeline = play(scenario, index, source);
        check_open_step(name, scenario, index, &timeline);
        for rra in scenario["expected"]["rra"].as_array().unwrap() {
            compared += check_archive(name, index, rra, &timeline);
        }
    }
    compared
}

fn play(scenario: &Value, index: usize, source: &Value) -> Timeline {
    let kind = match source["type"].as_str().unwrap() {
        "GAUGE" => Kind::Gauge,
        "COUNTER" => Kind::Counter,
        "DERIVE" => Kind::Derive,
        "ABSOLUTE" => Kind::Absolute,
        "DCOUNTER" => Kind::DCounter,
        "DDERIVE" => Kind::DDerive,
        other => panic!("no such data source type: {other}"),
    };
    let mut definition = definition(kind, source["heartbeat"].as_u64().unwrap());
    definition.min = source["min"].as_f64().unwrap_or(f64::NAN);
    definition.max = source["max"].as_f64().unwrap_or(f64::NAN);
    let start = Timestamp::from_secs(scenario["definition"]["start"].as_i64().unwrap());
    let mut timeline = Timeline::begun(definition, archives_of(scenario), start);
    for call in scenario["calls"].as_array().unwrap() {
        assert!(call["ok"].as_bool().unwrap() && call["template"].is_null());
        for sample in call["samples"].as_array().unwrap() {
            play_sample(&mut timeline, sample.as_str().unwrap(), index);
        }
    }
    timeline
}

fn play_sample(timeline: &mut Timeline, sample: &str, index: usize) {
    let mut parts = sample.split(':');
    let at = Timestamp::from_secs(parts.next().unwrap().parse().unwrap());
    let text = parts.nth(index).unwrap();
    let verdict = match (timeline.definition.kind, text) {
        (_, "U") => timeline.read(at, f64::NAN),
        (Kind::Counter | Kind::Derive, _) => timeline.read_whole(at, text.parse().unwrap()),
        _ => timeline.read(at, text.parse().unwrap()),
    };
    assert_eq!(verdict, super::Verdict::Stored, "{sample}");
}

/// The finest archive first, whether the scenario has one or not; then one for each width of row.
fn archives_of(scenario: &Value) -> Vec<ArchiveSpec> {
    let step_ms = scenario["definition"]["step"].as_u64().unwrap() * 1000;
    let rras = scenario["definition"]["rra"].as_array().unwrap();
    let mut widths: Vec<u64> =
        rras.iter().map(|rra| rra["pdp_per_row"].as_u64().unwrap()).collect();
    widths.push(1);
    widths.sort_unstable();
    widths.dedup();
    let step = |width: u64| Step::from_millis(width * step_ms).unwrap();
    widths.into_iter().map(|width| ArchiveSpec::even(step(width), 1)).collect()
}

fn check_archive(name: &str, index: usize, rra: &Value, timeline: &Timeline) -> usize {
    let row_step = rra["row_step"].as_i64().unwrap();
    let per_row = u32::try_from(rra["pdp_per_row"].as_u64().unwrap()).unwrap();
    let xff = rra["params"]["xff"].as_f64().unwrap();
    let cf = rra["cf"].as_str().unwrap();
    let archive = timeline
        .archives
        .iter()
        .position(|archive| archive.step.as_millis().cast_signed() == row_step * 1000)
        .unwrap();
    let (newest, rows) = (rra["newest"].as_i64().unwrap(), rra["rows"].as_i64().unwrap());
    let first_listed = rra["first_listed"].as_i64().unwrap();
    let values = rra["values"].as_array().unwrap();
    let ends = (0..rows).map(|back| newest - back * row_step);
    ends.clone().for_each(|end| {
        let listed = usize::try_from((end - first_listed).div_euclid(row_step)).ok();
        let want = listed.map_or(f64::NAN, |row| number(&values[row][index]));
        let row = timeline.closed_row(archive, Timestamp::from_secs(end));
        let shown = row.filter(|row| per_row == 1 || row_is_known(row.known, per_row, xff));
        let got = shown.map_or(f64::NAN, |row| match cf {
            "MIN" => row.min,
            "MAX" => row.max,
            "LAST" => row.last,
            _ => row.average,
        });
        assert!(
            is_close(got, want),
            "{name}, source {index}, {cf} of {per_row} steps, row ending {end}: {got}, rrdtool {want}"
        );
    });
    let next = Timestamp::from_secs(newest + row_step);
    assert!(timeline.closed_row(archive, next).is_none(), "{name}: a row past {newest} has closed");
    ends.count()
}

fn check_open_step(name: &str, scenario: &Value, index: usize, timeline: &Timeline) {
    let want = &scenario["expected"]["ds"][index];
    let OpenStep { sum, unknown_ms, .. } = timeline.open.open_step();
    assert_eq!(unknown_ms, want["pdp_unknown_sec"].as_u64().unwrap() * 1000, "{name}");
    // rrdtool marks a step of which nothing is known; here its sum is nought.
    let want_sum = want["pdp_value"].as_f64().unwrap_or(0.0);
    assert!(is_close(sum / 1000.0, want_sum), "{name}: open step {sum}, rrdtool {want_sum}");
    let last = Timestamp::from_secs(scenario["expected"]["last_update"].as_i64().unwrap());
    assert_eq!(timeline.open.last, last, "{name}");
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Null => f64::NAN,
        Value::String(text) => text.parse().unwrap(),
        other => other.as_f64().unwrap(),
    }
}
