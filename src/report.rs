//! What a person at the terminal sees: the first lines, complaints, and the log on standard error.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this module talks to the terminal")]

use std::io::IsTerminal as _;
use std::path::Path;

use tracing_subscriber::EnvFilter;

/// Starts the log: one event a line on standard error. `RUST_LOG` chooses more or less.
pub(crate) fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(colours).with_target(false).compact().init();
}

/// The error that ends the program, with what led to it.
pub(crate) fn complain(error: &anyhow::Error) {
    eprintln!("roundel: {error:#}");
}

/// A line beside the output of a command.
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// A text in place of the line before it, on a terminal.
pub(crate) fn say_over(text: &str) {
    eprint!("\r{text}");
}

/// A text for standard output.
pub(crate) fn print(text: &str) {
    print!("{text}");
}

/// What the server says once it listens.
pub(crate) struct Welcome<'a> {
    pub(crate) link: &'a str,
    pub(crate) data: &'a Path,
    /// Where mail files go; `None` when mail goes to a server, or nowhere.
    pub(crate) mail: Option<&'a Path>,
    pub(crate) local_agent: bool,
}

impl Welcome<'_> {
    /// Prints it.
    pub(crate) fn print(&self) {
        println!("Roundel {}\n", env!("CARGO_PKG_VERSION"));
        println!("  Open   {}", self.link);
        println!("         (logs you in once; a restart prints a new link)");
        println!("  Data   {}", self.data.display());
        if let Some(mail) = self.mail {
            println!("  Mail   {} (files, until [mail] names an SMTP server)", mail.display());
        }
        if self.local_agent {
            println!("  Agent  this host reports every 10 s");
        }
        println!("\nCtrl-C stops.");
    }
}
