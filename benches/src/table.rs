//! The table at the end: what, ours, theirs, and how many times better.

use std::io::{self, Write};

/// Rows in the order they were measured.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    ours: String,
    theirs: Theirs,
    note: String,
}

/// What rrdtool needs for the same.
pub(crate) enum Theirs {
    /// A figure, and how many times better ours is.
    Measured { figure: String, ratio: f64 },
    /// rrdtool is not installed.
    NotRun,
    /// rrdtool has nothing of the kind.
    None,
}

impl Table {
    pub(crate) fn add(&mut self, what: &str, ours: String, theirs: Theirs, note: &str) {
        let (what, note) = (what.to_owned(), note.to_owned());
        self.rows.push(Row { what, ours, theirs, note });
    }

    pub(crate) fn print(&self, out: &mut dyn Write, peer_was_run: bool) -> io::Result<()> {
        line(out, "what", "roundel", "rrdtool", "better by")?;
        for row in &self.rows {
            let (figure, ratio) = match &row.theirs {
                Theirs::Measured { figure, ratio } => (figure.as_str(), format!("{ratio:.0}x")),
                Theirs::NotRun => ("not run", String::new()),
                Theirs::None => ("-", String::new()),
            };
            line(out, &row.what, &row.ours, figure, &ratio)?;
            writeln!(out, "    {}", row.note)?;
        }
        if !peer_was_run {
            writeln!(out, "not run: rrdtool (apt install rrdtool)")?;
        }
        Ok(())
    }
}

fn line(out: &mut dyn Write, what: &str, ours: &str, theirs: &str, ratio: &str) -> io::Result<()> {
    writeln!(out, "{what:<46}{ours:>18}{theirs:>18}{ratio:>12}")
}
