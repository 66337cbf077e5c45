//! Instructions of the store's main paths, counted by callgrind and held against a baseline.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::outcome::say;
use crate::{cargo, peers, root, run};

/// What `counts` can do, and how many pieces of it one run does.
const CASES: [(&str, u64, &str); 4] = [
    ("apply", 100_000, "sample"),
    ("round", 100, "column"),
    ("read", 20, "day of one series"),
    ("aggregate", 100, "day of 5-minute rows"),
];
/// More instructions than the baseline by this share are a failure.
const TOLERANCE_PERCENT: u64 = 3;

/// `benches/counts.toml`.
#[derive(Deserialize, Serialize)]
struct Baseline {
    /// The compiler: another one makes other instructions.
    rustc: String,
    /// The processor's kind.
    arch: String,
    /// Of all pieces of one run.
    instructions: BTreeMap<String, u64>,
}

/// Counts, and compares with the baseline or writes a new one.
pub(crate) fn check(record: bool) -> Result<()> {
    if !Path::new("/usr/bin/valgrind").exists() {
        if peers::required() {
            bail!("instruction counts need valgrind (apt install valgrind)");
        }
        say("not run: instruction counts (needs valgrind)");
        return Ok(());
    }
    let measured = measure()?;
    if record {
        fs::write(file(), toml::to_string(&measured)?)?;
        say(&format!("recorded in {}", file().display()));
        return Ok(());
    }
    let text = fs::read_to_string(file()).with_context(|| {
        format!("{}: make it with `cargo xtask bench counts --record`", file().display())
    })?;
    compare(&measured, &toml::from_str(&text)?)
}

fn file() -> PathBuf {
    root().join("benches/counts.toml")
}

fn measure() -> Result<Baseline> {
    let build = ["build", "--release", "--quiet", "--package", "benches", "--bin", "counts"];
    run(cargo().args(build).arg("--no-default-features"))?;
    let nothing = count("nothing")?;
    let mut instructions = BTreeMap::new();
    for (case, pieces, piece) in CASES {
        let all = count(case)?;
        let own = all.checked_sub(nothing).with_context(|| format!("{case} costs nothing"))?;
        say(&format!("{case:<10} {own:>12} instructions, {:>7} a {piece}", own / pieces));
        instructions.insert(case.to_owned(), own);
    }
    Ok(Baseline { rustc: rustc()?, arch: std::env::consts::ARCH.to_owned(), instructions })
}

/// The instructions of a whole run.
fn count(case: &str) -> Result<u64> {
    let folder = root().join("target/counts");
    let store = folder.join("store");
    match fs::remove_dir_all(&store) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(&store)?,
    }
    let profile = folder.join(format!("{case}.callgrind"));
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind"]);
    command.arg(format!("--callgrind-out-file={}", profile.display()));
    command.arg(root().join("target/release/counts")).arg(case).arg(&store);
    let counted = run(command.stdout(Stdio::null()));
    fs::remove_dir_all(&store)?;
    counted?;
    let text = fs::read_to_string(&profile)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.with_context(|| format!("{} has no total", profile.display()))?;
    Ok(total.trim().parse()?)
}

fn compare(measured: &Baseline, baseline: &Baseline) -> Result<()> {
    let mut worse = Vec::new();
    for (case, &now) in &measured.instructions {
        let Some(&then) = baseline.instructions.get(case) else {
            bail!("{case} has no baseline; `cargo xtask bench counts --record`");
        };
        let limit = then + then * TOLERANCE_PERCENT / 100;
        let floor = then - then * TOLERANCE_PERCENT / 100;
        let told = format!("{case}: {now} instructions, the baseline is {then}");
        if now > limit {
            worse.push(told);
        } else if now < floor {
            say(&format!("{told}; fewer: `cargo xtask bench counts --record` keeps the gain"));
        }
    }
    if worse.is_empty() {
        return Ok(());
    }
    let told = worse.join("\n");
    if measured.rustc != baseline.rustc || measured.arch != baseline.arch {
        say(&format!("{told}\nnot compared: the baseline is of {}", baseline.rustc));
        return Ok(());
    }
    bail!(
        "{told}\nmore than {TOLERANCE_PERCENT} % above; target/counts/*.callgrind says where, and if it is \
         meant: `cargo xtask bench counts --record`"
    );
}

fn rustc() -> Result<String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).arg("--version").output().context("rustc --version")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
