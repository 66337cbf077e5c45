//! `cargo xtask test`: every check of the repository, in the order in which it fails fastest.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::outcome::{Steps, say};
use crate::{cargo, counts, licences, peers, root, run, spelling};

/// Runs all checks; the first that fails ends the run.
pub(crate) fn all() -> Result<()> {
    let mut steps = Steps::default();
    let outcome = checks(&mut steps);
    steps.report();
    let missing = not_run()?;
    for line in &missing {
        say(line);
    }
    outcome?;
    if !missing.is_empty() && peers::required() {
        bail!("{} tests did not run, and here nothing may be missing", missing.len());
    }
    Ok(())
}

fn checks(steps: &mut Steps) -> Result<()> {
    steps.step("bring peers", peers::bring)?;
    steps.step("format", || run(cargo().args(["fmt", "--all", "--check"])))?;
    steps.step("words", spelling::check)?;
    steps.step("licences", licences::check)?;
    steps.step("lints", || {
        let lint = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
        run(cargo().args(lint))
    })?;
    steps.step("tests", tests)?;
    steps.step("doctests", || run(cargo().args(["test", "--doc", "--workspace", "--quiet"])))?;
    steps.step("documentation", || {
        let doc = ["doc", "--workspace", "--no-deps", "--quiet"];
        run(cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.step("instruction counts", || counts::check(false))
}

/// All tests, by cargo-nextest where it is there.
fn tests() -> Result<()> {
    match fs::remove_file(not_run_file()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut command = cargo();
    if has_nextest() {
        command.args(["nextest", "run", "--no-fail-fast"]);
    } else {
        command.args(["test", "--all-targets", "--no-fail-fast"]);
    }
    run(command.env("ROUNDEL_PEERS", peers::folder()).env("ROUNDEL_NOT_RUN", not_run_file()))
}

fn has_nextest() -> bool {
    let probe = Command::new("cargo-nextest").args(["nextest", "--version"]).output();
    probe.is_ok_and(|output| output.status.success())
}

/// Where a test that lacks something says so.
fn not_run_file() -> PathBuf {
    root().join("target/not-run.txt")
}

fn not_run() -> Result<Vec<String>> {
    match fs::read_to_string(not_run_file()) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
