//! rrdtool's commands on a single file: its argument syntax and its output over our engine and format.
//!
//! Nothing here asks for the time, the time zone or the environment: the caller says.

mod archive;
mod arguments;
mod calendar;
mod create;
mod define;
mod dump;
mod fetch;
mod look;
mod number;
mod rpn;
mod tune;
mod update;
mod when;
mod xml;
mod xport;

use std::sync::Arc;

pub use xml::write_xml;

use crate::store::SingleError;
use crate::{Disk, Timestamp};

/// Where a command runs.
pub struct Caller<'a> {
    /// The disk that has the files.
    pub disk: Arc<dyn Disk>,
    /// What `N` and `now` mean.
    pub now: Timestamp,
    /// Seconds that local time is ahead of UTC at a moment in seconds since 1970.
    pub offset_s: &'a dyn Fn(i64) -> i64,
}

/// What a command says, and how it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub output: String,
    /// For standard error: `ERROR: ...`, as rrdtool writes it.
    pub error: String,
}

impl Answer {
    /// True where rrdtool exits with 0.
    pub const fn is_ok(&self) -> bool {
        self.error.is_empty()
    }
}

/// Why a command did nothing, or not all it was asked.
#[derive(Debug, thiserror::Error)]
enum ToolError {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    File(#[from] SingleError),
}

/// An error that names what is wrong with the input.
fn refuse<T>(what: impl Into<String>) -> Result<T, ToolError> {
    Err(ToolError::Refused(what.into()))
}

type Output = Result<String, ToolError>;

/// A command: its name, what it does on the words after it, and its help.
struct Command {
    name: &'static str,
    run: fn(&Caller<'_>, &[&str]) -> Output,
    help: &'static str,
}

const COMMANDS: [Command; 10] = [
    Command { name: "create", run: create::create, help: create::HELP },
    Command { name: "update", run: update::update, help: update::HELP },
    Command { name: "fetch", run: fetch::fetch, help: fetch::HELP },
    Command { name: "xport", run: xport::xport, help: xport::HELP },
    Command { name: "info", run: look::info, help: look::INFO_HELP },
    Command { name: "first", run: look::first, help: look::FIRST_HELP },
    Command { name: "last", run: look::last, help: look::LAST_HELP },
    Command { name: "lastupdate", run: look::last_update, help: look::LAST_UPDATE_HELP },
    Command { name: "dump", run: dump::dump, help: dump::HELP },
    Command { name: "tune", run: tune::tune, help: tune::HELP },
];

/// Runs one command: its name, then its words as rrdtool takes them.
pub fn run(caller: &Caller<'_>, words: &[&str]) -> Answer {
    let (name, rest) = match words {
        [] | ["help" | "--help" | "-h"] => return Answer { output: help(), ..Answer::default() },
        ["help", name, ..] => (*name, &["--help"][..]),
        [name, rest @ ..] => (*name, rest),
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        let error =
            format!("ERROR: {name:?}: no such command; \"roundel rrd --help\" names them\n");
        return Answer { error, ..Answer::default() };
    };
    let before_dashes = rest.iter().take_while(|word| **word != "--");
    if before_dashes.into_iter().any(|word| *word == "--help") {
        return Answer { output: command.help.to_owned(), ..Answer::default() };
    }
    match (command.run)(caller, rest) {
        Ok(output) => Answer { output, error: String::new() },
        Err(error) => Answer { output: String::new(), error: format!("ERROR: {error}\n") },
    }
}

fn help() -> String {
    let mut text = String::from(
        "Round-robin files, with rrdtool's commands, arguments and output

Usage: roundel rrd COMMAND FILE ...

Commands:
",
    );
    for command in &COMMANDS {
        let what = command.help.lines().next().unwrap_or_default();
        number::add(&mut text, format_args!("  {:<12}{what}\n", command.name));
    }
    text + "
Between rrdtool's files and the data folder of a stopped server:
  import      Take over files of rrdtool, whole folders of them
  export      Write series as XML for rrdtool, CSV or JSON

\"roundel rrd COMMAND --help\" shows the arguments of one. Files are Roundel's
own, f64 throughout; docs/format.md lists where the numbers differ from
rrdtool's, and why.
"
}
