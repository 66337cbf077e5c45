//! What an operator types, and what the program says to what is wrong.

use std::fs;
use std::process::Output;

use crate::server::{Server, config, folder, roundel};

fn run(arguments: &[&str]) -> Output {
    roundel().args(arguments).output().unwrap()
}

/// What the program says when it refuses these arguments.
#[track_caller]
fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} was not refused");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn help_names_every_flag_of_the_server() {
    let output = run(&["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for flag in ["--data", "--listen", "--config", "--policy", "--no-local-agent", "serve", "agent"]
    {
        assert!(text.contains(flag), "{flag} is missing:\n{text}");
    }
}

#[test]
fn a_second_server_on_the_folder_is_refused_and_told_who_holds_it() {
    let dir = folder();
    let mut first = Server::start(dir.path(), &[]);
    let data = dir.path().join("data");
    let said = refusal(&["--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    assert!(said.contains(&first.pid().to_string()), "no process is named: {said}");
    assert!(first.lives());
}

#[test]
fn sigterm_stops_cleanly() {
    let dir = folder();
    assert!(Server::start(dir.path(), &[]).stop().success());
}

#[test]
fn a_wrong_policy_is_named_with_its_remedy() {
    let dir = folder();
    let data = dir.path().join("data");
    for (policy, part) in [("1m", "1m"), ("1m:2d,90s:3d", "90s"), ("0s:1d", "0s")] {
        let said = refusal(&["--data", data.to_str().unwrap(), "--policy", policy]);
        assert!(said.contains(part), "{policy}: {said}");
    }
}

#[test]
fn every_wrong_line_of_the_configuration_is_reported_at_once() {
    let dir = folder();
    let more = "polcy = \"1m:2d\"\nlisten = \"nowhere\"\n[mail]\nto = [\"not an address\"]\n";
    let file = config(dir.path(), more);
    let data = dir.path().join("data");
    let said = refusal(&["--data", data.to_str().unwrap(), "--config", file.to_str().unwrap()]);
    for part in ["roundel.toml:2", "polcy", "policy", "roundel.toml:3", "nowhere", "roundel.toml:5"]
    {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}

#[test]
fn wrong_rules_at_the_start_are_reported_with_file_and_line() {
    let dir = folder();
    let rules = dir.path().join("data/rules");
    fs::create_dir_all(&rules).unwrap();
    let text = "[[rule]]\nname = \"a\"\nexpr = \"up\"\nwarnin = \"> 1\"\n";
    fs::write(rules.join("bad.toml"), text).unwrap();
    let server = Server::start(dir.path(), &[]);
    drop(server);
    let log = fs::read_to_string(dir.path().join("log.txt")).unwrap();
    assert!(log.contains("bad.toml:4") && log.contains("warning"), "{log}");
}

#[test]
fn an_address_that_others_reach_needs_a_plain_word() {
    let dir = folder();
    let data = dir.path().join("data");
    let said = refusal(&["--data", data.to_str().unwrap(), "--listen", "0.0.0.0:0"]);
    assert!(said.contains("--insecure"), "{said}");
}

#[test]
fn an_agent_shows_what_it_would_send() {
    let output = run(&["agent", "--once"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    for name in
        ["node_load1", "node_cpu_seconds_total{mode=\"idle\"}", "node_memory_MemTotal_bytes"]
    {
        assert!(text.contains(name), "{name} is missing:\n{text}");
    }
}
