//! Mutants: the code made wrong on purpose, to see that some test notices. A suite that lets one live
//! would let the same mistake live.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::outcome::say;
use crate::root;

/// Seconds. A mistake that makes a test wait for ever is noticed, too.
const LONGEST: &str = "600";

/// The list, `xtask/mutants.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

/// One mistake.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    /// The source file, from the root of the workspace.
    file: String,
    /// Text that is there exactly once.
    find: String,
    /// What stands there instead.
    replace: String,
    /// The package whose tests are to notice.
    package: String,
    /// Which of them: parts of their names.
    tests: Vec<String>,
}

/// Makes every mutant, or those whose name holds `only`, in a copy of the tree and runs its tests,
/// which pass without it and must fail with it.
pub(crate) fn hunt(only: Option<&str>) -> Result<()> {
    let path = root().join("xtask/mutants.toml");
    let list: List = toml::from_str(&fs::read_to_string(&path)?).context("xtask/mutants.toml")?;
    let is_wanted = |mutant: &&Mutant| only.is_none_or(|only| mutant.name.contains(only));
    let wanted: Vec<_> = list.mutant.iter().filter(is_wanted).collect();
    ensure!(!wanted.is_empty(), "no mutant has such a name");
    let copy = Tree::copy()?;
    let mut left = Vec::new();
    for mutant in wanted {
        let outcome = match copy.notices(mutant) {
            Ok(true) => "killed".to_owned(),
            Ok(false) => "LIVES".to_owned(),
            Err(reason) => format!("? {reason:#}"),
        };
        say(&format!("{}: {outcome}", mutant.name));
        if outcome != "killed" {
            left.push(mutant.name.as_str());
        }
    }
    ensure!(left.is_empty(), "not killed: {}", left.join("; "));
    Ok(())
}

/// A copy of the files that are kept under version control, with a target folder of its own.
struct Tree {
    folder: PathBuf,
}

impl Tree {
    fn copy() -> Result<Self> {
        let folder = root().join("target/mutants/tree");
        let listed = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).output()?;
        ensure!(listed.status.success(), "git does not list the files of the workspace");
        let names = String::from_utf8(listed.stdout).context("names of files")?;
        for name in names.split_terminator('\0') {
            renew(&root().join(name), &folder.join(name)).with_context(|| name.to_owned())?;
        }
        Ok(Self { folder })
    }

    /// True where the tests of a mutant fail because of it.
    fn notices(&self, mutant: &Mutant) -> Result<bool> {
        let path = self.folder.join(&mutant.file);
        let text = fs::read_to_string(&path).with_context(|| mutant.file.clone())?;
        let count = text.matches(&mutant.find).count();
        ensure!(count == 1, "the text to be replaced is {count} times in {}", mutant.file);
        let sound = self.test(mutant)?;
        if !sound.status.success() {
            let said = [sound.stderr, sound.stdout].concat();
            bail!("its tests fail without it:\n{}", last_lines(&said));
        }
        let said = String::from_utf8_lossy(&sound.stdout);
        let ran = said.lines().any(|line| line.starts_with("test ") && line.ends_with(" ok"));
        ensure!(ran, "no test has one of the names {:?}", mutant.tests);
        fs::write(&path, text.replace(&mutant.find, &mutant.replace))?;
        let outcome = self.build(mutant).and_then(|()| self.test(mutant));
        fs::write(&path, text)?;
        Ok(!outcome?.status.success())
    }

    /// A mistake that does not compile proves nothing.
    fn build(&self, mutant: &Mutant) -> Result<()> {
        let built = self.cargo(mutant).arg("--no-run").output()?;
        if !built.status.success() {
            bail!("it does not compile:\n{}", last_lines(&built.stderr));
        }
        Ok(())
    }

    fn test(&self, mutant: &Mutant) -> Result<Output> {
        Ok(self.cargo(mutant).arg("--").args(&mutant.tests).output()?)
    }

    fn cargo(&self, mutant: &Mutant) -> Command {
        let mut command = Command::new("timeout");
        command.arg(LONGEST).arg(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["test", "--package", &mutant.package]);
        command.current_dir(&self.folder);
        command.env("CARGO_TARGET_DIR", self.folder.with_file_name("target"));
        command.env_remove("RUSTFLAGS"); // What a mistake leaves unused is a warning, no error.
        command
    }
}

/// Copies a file unless the copy has the same bytes, so that what is built already stays good.
fn renew(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from)?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
    Ok(fs::write(to, bytes)?)
}

fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
