//! `roundel rrd` in rrdtool's place: its recorded answers, and its own shell tests.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::peers::not_run;
use crate::server::folder;

/// Runs `roundel rrd` in a folder, in UTC.
fn rrd(dir: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roundel"));
    command.arg("rrd").args(words).current_dir(dir).env("TZ", "UTC").output().unwrap()
}

/// What a command prints that must succeed.
#[track_caller]
fn prints(dir: &Path, words: &[&str]) -> String {
    let output = rrd(dir, words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_file_that_cannot_be_used_is_named_once() {
    let dir = folder();
    let complaint = |words: &[&OsStr]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundel"));
        let output = command.arg("rrd").args(words).current_dir(dir.path()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = complaint(&["info".as_ref(), "none.rrd".as_ref()]);
    assert_eq!(said.matches("none.rrd").count(), 1, "{said}");
    let said = complaint(&["info".as_ref(), OsStr::from_bytes(b"n\xff.rrd")]);
    assert!(said.contains(".rrd") && said.contains("not UTF-8"), "{said}");
}

fn golden() -> Vec<(String, Value)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden");
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if name != "INDEX" && path.extension().is_some_and(|extension| extension == "json") {
            found.push((name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn every_recorded_answer_is_ours_too() {
    let (mut scenarios, mut compared) = (0, 0);
    for (name, scenario) in golden() {
        if scenario["cases"].is_array() {
            continue;
        }
        let dir = folder();
        let create = texts(&scenario["create_argv"]);
        prints(dir.path(), &[&["create", "f"], &create[..]].concat());
        for call in scenario["calls"].as_array().unwrap() {
            play(&name, dir.path(), call);
        }
        compared += check_rows(&name, dir.path(), &scenario["expected"]);
        for fetch in scenario["expected"]["fetch"].as_array().into_iter().flatten() {
            compared += check_fetch(&name, dir.path(), fetch);
        }
        scenarios += 1;
    }
    assert!(scenarios >= 28 && compared > 1500, "{scenarios} scenarios, {compared} values");
}

/// One update; its outcome and the time it leads to are compared.
fn play(name: &str, dir: &Path, call: &Value) {
    let mut words = vec!["update", "f"];
    if let Some(template) = call["template"].as_str() {
        words.extend(["-t", template]);
    }
    if call["skip_past_updates"] == true {
        words.push("-s");
    }
    words.push("--");
    words.extend(texts(&call["samples"]));
    let output = rrd(dir, &words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), call["ok"] == true, "{name}: {words:?}: {said}");
    assert!(output.status.success() || output.status.code() == Some(1), "{name}: {said}");
    let last = prints(dir, &["last", "f"]);
    assert_eq!(last.trim(), call["last_update_after"].to_string(), "{name}: {words:?}");
}

/// Every row of every archive, as the dump has them.
fn check_rows(name: &str, dir: &Path, expected: &Value) -> usize {
    let dump = prints(dir, &["dump", "f"]);
    let archives: Vec<&str> = dump.split("<database>").skip(1).collect();
    let mut compared = 0;
    let wanted = expected["rra"].as_array().unwrap();
    assert_eq!(archives.len(), wanted.len(), "{name}");
    for (archive, want) in archives.iter().zip(wanted) {
        let rows: Vec<&str> = archive.lines().filter(|line| line.contains("<row>")).collect();
        assert_eq!(rows.len().to_string(), want["rows"].to_string(), "{name}");
        for row in rows {
            let end = row.split(" / ").nth(1).unwrap().split(' ').next().unwrap();
            let end: i64 = end.parse().unwrap();
            let from_first = end - want["first_listed"].as_i64().unwrap();
            let listed = usize::try_from(from_first / want["row_step"].as_i64().unwrap()).ok();
            let listed = listed.filter(|_| from_first >= 0);
            for (column, cell) in row.split("<v>").skip(1).enumerate() {
                let got = cell.split('<').next().unwrap();
                let value = listed.map_or(&Value::Null, |row| &want["values"][row][column]);
                check_value(&format!("{name}, {}, row {end}", want["cf"]), got, value);
                compared += 1;
            }
        }
    }
    compared
}

fn check_fetch(name: &str, dir: &Path, fetch: &Value) -> usize {
    let (start, end) = (fetch["start"].to_string(), fetch["end"].to_string());
    let mut words = vec!["fetch", "f", fetch["cf"].as_str().unwrap(), "-s", &start, "-e", &end];
    let resolution = fetch["resolution"].to_string();
    if fetch["resolution"].is_number() {
        words.extend(["-r", &resolution]);
    }
    if fetch["align"] == true {
        words.push("-a");
    }
    if fetch["error"].is_string() {
        assert_eq!(rrd(dir, &words).status.code(), Some(1), "{name}: {words:?}");
        return 1;
    }
    let answer = prints(dir, &words);
    let rows: Vec<&str> = answer.lines().skip(2).collect();
    let want = &fetch["result"];
    assert_eq!(rows.len().to_string(), want["count"].to_string(), "{name}: {words:?}");
    let ends: Vec<&str> = rows.iter().map(|row| row.split(':').next().unwrap().trim()).collect();
    if let [first, .., last] = ends[..] {
        assert_eq!(first, want["first"].to_string(), "{name}: {words:?}");
        assert_eq!(last, want["last"].to_string(), "{name}: {words:?}");
    }
    let mut compared = 0;
    for (row, want) in rows.iter().zip(want["values"].as_array().unwrap()) {
        let values = row.split(": ").nth(1).unwrap().split(' ');
        for (got, want) in values.zip(want.as_array().unwrap()) {
            check_value(&format!("{name}: {words:?}: {row}"), got, want);
            compared += 1;
        }
    }
    compared
}

/// Equal to rrdtool's eleven digits; unknown equals unknown.
#[track_caller]
fn check_value(place: &str, got: &str, want: &Value) {
    let got: f64 = if got == "-nan" { f64::NAN } else { got.parse().unwrap() };
    let want = match want {
        Value::Null => f64::NAN,
        Value::String(text) => text.parse().unwrap(),
        number => number.as_f64().unwrap(),
    };
    let is_close = (got - want).abs() <= 1e-12 + 1e-9 * want.abs();
    let is_same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
    assert!(is_same || is_close, "{place}: {got}, rrdtool {want}");
}

#[test]
fn every_definition_that_rrdtool_refuses_is_refused() {
    let mut refused = 0;
    for (name, scenario) in golden() {
        for case in scenario["cases"].as_array().into_iter().flatten() {
            let dir = folder();
            let words = [&["create", "f"], &texts(&case["argv"])[..]].concat();
            if case["ok"] == true {
                prints(dir.path(), &words);
                check_info(dir.path(), &case["info"]);
            } else {
                let output = rrd(dir.path(), &words);
                let said = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(1), "{name}: {words:?}: {said}");
                assert!(said.starts_with("ERROR: "), "{words:?}: {said}");
                assert!(!dir.path().join("f").exists(), "{words:?} made a file");
                refused += 1;
            }
        }
    }
    assert!(refused >= 20, "{refused} refusals");
}

/// Step, and rows and width of the archives.
fn check_info(dir: &Path, want: &Value) {
    let info = prints(dir, &["info", "f"]);
    let fields: BTreeMap<&str, &str> =
        info.lines().filter_map(|line| line.split_once(" = ")).collect();
    assert_eq!(fields["step"], want["step"].to_string());
    assert_eq!(fields["rra[0].rows"], want["rra0"][0].to_string());
    assert_eq!(fields["rra[0].pdp_per_row"], want["rra0"][1].to_string());
}

#[test]
fn what_we_dump_is_restored_by_rrdtool() {
    let Some(rrdtool) = crate::peers::program("what_we_dump_is_restored_by_rrdtool", "rrdtool")
    else {
        return;
    };
    let dir = folder();
    let create = ["create", "f", "-b", "1699920000", "-s", "60", "DS:a:GAUGE:120:U:U"];
    let archives = ["DS:c:COUNTER:2m:0:1000", "RRA:AVERAGE:0.5:1:9", "RRA:LAST:0.3:3:5"];
    prints(dir.path(), &[&create[..], &archives].concat());
    prints(dir.path(), &["update", "f", "1699920060:1:10", "1699920120:3:70", "1699920150:U:100"]);
    let xml = prints(dir.path(), &["dump", "f"]);
    fs::write(dir.path().join("f.xml"), &xml).unwrap();
    let theirs = |words: &[&str]| {
        let mut command = Command::new(&rrdtool);
        let output = command.args(words).current_dir(dir.path()).env("TZ", "UTC").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    theirs(&["restore", "f.xml", "g"]);
    theirs(&["update", "g", "1699920185:5:135", "1699920300:7:250"]);
    prints(dir.path(), &["update", "f", "1699920185:5:135", "1699920300:7:250"]);
    for function in ["AVERAGE", "LAST"] {
        let span = [function, "-s", "1699919900", "-e", "1699920400", "-r", "180"];
        let ours = prints(dir.path(), &[&["fetch", "f"], &span[..]].concat());
        assert_eq!(ours, theirs(&[&["fetch", "g"], &span[..]].concat()), "{function}");
    }
}

/// Runs one of rrdtool's own tests, which print `FAIL` for what is not as it should be.
fn shell_test(name: &str) {
    let peers = std::env::var_os("ROUNDEL_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"), PathBuf::from);
    let tests = peers.join("rrdtool-tests");
    if !tests.join(name).exists() {
        return not_run(name, "rrdtool's own tests, which cargo xtask test brings");
    }
    if !Path::new("/usr/bin/perl").exists() {
        return not_run(name, "perl");
    }
    let dir = folder();
    let shim = dir.path().join("rrdtool");
    let program = env!("CARGO_BIN_EXE_roundel");
    fs::write(&shim, format!("#!/bin/sh\nexec {program} rrd \"$@\"\n")).unwrap();
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("bash");
    command.arg(tests.join(name)).current_dir(dir.path());
    command.env("RRDTOOL", &shim).env("BASEDIR", &tests).env("BUILDDIR", dir.path());
    let output = command.env("LC_ALL", "C").output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success() && !said.contains("FAIL"), "{name}:\n{said}");
    assert!(said.contains("OK"), "{name} checked nothing:\n{said}");
}

#[test]
fn its_own_test_of_steps_passes() {
    shell_test("pdp-calc1");
}

#[test]
fn its_own_test_of_decimal_counters_passes() {
    shell_test("dcounter1");
}

#[test]
fn its_own_test_of_create_passes() {
    shell_test("rrdcreate");
}

#[test]
fn its_own_test_of_xport_passes() {
    shell_test("xport1");
}

#[test]
fn a_second_writer_is_refused() {
    let dir = folder();
    let create = ["create", "f", "-b", "1699920000", "DS:a:GAUGE:600:U:U", "RRA:AVERAGE:0.5:1:9"];
    prints(dir.path(), &create);
    let writer = fs::File::open(dir.path().join("f")).unwrap();
    writer.try_lock().unwrap();
    let output = rrd(dir.path(), &["update", "f", "1699920300:1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("another process"), "{said}");
    assert_eq!(prints(dir.path(), &["last", "f"]).trim(), "1699920000", "readers do not wait");
    drop(writer);
    prints(dir.path(), &["update", "f", "1699920300:1"]);
}

#[test]
fn help_is_short_and_names_every_command() {
    let dir = folder();
    let help = prints(dir.path(), &["--help"]);
    for command in ["create", "update", "fetch", "xport", "info", "dump", "tune"] {
        assert!(help.contains(command), "{command} is missing:\n{help}");
        let own = prints(dir.path(), &[command, "--help"]);
        assert!(own.contains(&format!("Usage: roundel rrd {command} ")), "{own}");
        assert!(own.lines().count() < 30, "{command} has a long help");
    }
    for command in ["import", "export"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is missing:\n{help}");
        for words in [[command, "--help"], ["help", command]] {
            let own = prints(dir.path(), &words);
            assert!(own.contains(&format!("Usage: roundel rrd {command} ")), "{own}");
        }
    }
}

#[test]
fn readers_beside_a_writer_always_have_an_answer() {
    let dir = folder();
    let create = ["create", "f", "-b", "1700000000", "-s", "1", "DS:a:GAUGE:20:U:U"];
    prints(dir.path(), &[&create[..], &["RRA:AVERAGE:0.5:1:40", "RRA:MAX:0.5:5:9"]].concat());
    let path = dir.path().to_owned();
    let writer = std::thread::spawn(move || {
        for second in 1..=200 {
            prints(&path, &["update", "f", &format!("{}:{second}", 1_700_000_000 + second)]);
        }
    });
    while !writer.is_finished() {
        let span = ["AVERAGE", "-s", "1700000000", "-e", "1700000200"];
        prints(dir.path(), &[&["fetch", "f"], &span[..]].concat());
    }
    writer.join().unwrap();
    assert_eq!(prints(dir.path(), &["last", "f"]).trim(), "1700000200");
}
