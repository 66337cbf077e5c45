//! What the developer sees: one line a step, and how long it took.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks")]

use std::time::{Duration, Instant};

use anyhow::Result;

/// Steps run so far, with their times.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// Runs one step under its name.
    #[expect(clippy::disallowed_methods, reason = "the rim: a developer wants to know the time")]
    pub(crate) fn step(
        &mut self,
        name: &'static str,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = act();
        self.done.push((name, start.elapsed()));
        outcome
    }

    /// Prints the table of times.
    pub(crate) fn report(&self) {
        println!("\n{:<28} {:>8}", "step", "seconds");
        for (name, took) in &self.done {
            println!("{name:<28} {:>8.1}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        println!("{:<28} {:>8.1}", "all", total.as_secs_f64());
    }
}

/// A line for the developer.
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// The last words of a failed command.
pub(crate) fn complain(line: &str) {
    eprintln!("error: {line}");
}
