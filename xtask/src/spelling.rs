//! Spelling: the `typos` program, brought as a wheel into `target/typos`.

use std::process::Command;

use anyhow::Result;

use crate::outcome::say;
use crate::{peers, root, run};

/// The version whose word list this tree passes.
const TYPOS: &str = "typos==1.52.0";

/// Checks every tracked file. Without pip or a network it says so, unless all is required.
pub(crate) fn check() -> Result<()> {
    let folder = root().join("target/typos");
    let program = folder.join("bin/typos");
    if !program.exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--root-user-action=ignore", "--target"]).arg(&folder).arg(TYPOS);
        match run(&mut pip) {
            Err(error) if !peers::required() => {
                say(&format!("not run: spelling (needs {TYPOS}: {error:#})"));
                return Ok(());
            }
            other => other?,
        }
    }
    run(Command::new(program).current_dir(root()))
}
