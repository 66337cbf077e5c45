//! The table of the store's figures: what, ours, the peer's, the ratio, the goal, and whether it is reached.

use std::io::{self, Write};

/// Figures in the order they were measured.
#[derive(Default)]
pub(crate) struct Goals {
    rows: Vec<Row>,
}

struct Row {
    figure: Figure,
    note: String,
}

/// How a number is shown.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    PerSecond,
    Secs,
    /// Millionths of a second, to the nanosecond.
    Micros,
    Bytes,
    Percent,
}

/// What is to be reached, in seconds, bytes or pieces a second.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Shown for its own sake.
    None,
}

/// The same of a peer in the same run.
#[derive(Clone, Copy)]
pub(crate) enum Peer {
    Measured(&'static str, f64),
    NotRun,
    /// It has nothing of the kind.
    None,
}

/// A figure, before its note.
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) unit: Unit,
    pub(crate) ours: f64,
    pub(crate) peer: Peer,
    pub(crate) goal: Goal,
}

impl Goals {
    pub(crate) fn add(&mut self, figure: Figure, note: &str) {
        self.rows.push(Row { figure, note: note.to_owned() });
    }

    pub(crate) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let head = ["what", "roundel", "peer", "", "ratio", "goal", "reached"];
        line(out, head.map(str::to_owned))?;
        for row in &self.rows {
            line(out, row.figure.cells())?;
            writeln!(out, "    {}", row.note)?;
        }
        Ok(())
    }
}

impl Figure {
    fn cells(&self) -> [String; 7] {
        let (name, peer, ratio) = match self.peer {
            Peer::Measured(name, theirs) => {
                let better = match self.unit {
                    Unit::PerSecond => self.ours / theirs,
                    _ => theirs / self.ours,
                };
                (name, self.unit.show(theirs), format!("{better:.1}x"))
            }
            Peer::NotRun => ("", "not run".to_owned(), String::new()),
            Peer::None => ("", "-".to_owned(), String::new()),
        };
        let (goal, reached) = match self.goal {
            Goal::AtLeast(goal) => (format!(">= {}", self.unit.show(goal)), self.ours >= goal),
            Goal::AtMost(goal) => (format!("<= {}", self.unit.show(goal)), self.ours <= goal),
            Goal::None => (String::new(), true),
        };
        let reached = if goal.is_empty() { "" } else { yes_or_no(reached) };
        let ours = self.unit.show(self.ours);
        [self.what.to_owned(), ours, peer, name.to_owned(), ratio, goal, reached.to_owned()]
    }
}

impl Unit {
    fn show(self, number: f64) -> String {
        match self {
            Self::PerSecond if number >= 1e6 => format!("{:.2} M/s", number / 1e6),
            Self::PerSecond => format!("{:.1} k/s", number / 1e3),
            Self::Secs if number < 1e-3 => format!("{:.1} us", number * 1e6),
            Self::Secs if number < 1.0 => format!("{:.1} ms", number * 1e3),
            Self::Secs => format!("{number:.2} s"),
            Self::Micros => format!("{number:.3} us"),
            Self::Bytes => format!("{number:.0} B"),
            Self::Percent => format!("{number:.2} %"),
        }
    }
}

const fn yes_or_no(reached: bool) -> &'static str {
    if reached { "yes" } else { "no" }
}

fn line(out: &mut dyn Write, cells: [String; 7]) -> io::Result<()> {
    let [what, ours, peer, name, ratio, goal, reached] = cells;
    writeln!(out, "{what:<44}{ours:>12}{peer:>14} {name:<10}{ratio:>9}{goal:>15}{reached:>9}")
}
