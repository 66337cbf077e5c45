//! `fetch`: the rows of the archive that answers a question best.

use super::archive::{Archive, Table};
use super::arguments::{Flag, Given, Takes};
use super::define::{Function, View, parse_step_s};
use super::number::{Printed, add};
use super::when::SpanText;
use super::{Caller, Output, ToolError, refuse};

pub(super) const HELP: &str = "Print rows of a file

Usage: roundel rrd fetch FILE FUNCTION [OPTIONS]

FUNCTION is AVERAGE, MIN, MAX or LAST. Of the archives that reach back to the
start, the one nearest to the resolution answers. A row is stamped with its end;
as in rrdtool, one row after the end is printed.

  -s, --start TIME        [default: end-1d]
  -e, --end TIME          [default: now]
  -r, --resolution TIME   Width of row that is wanted [default: 1]
  -a, --align-start       Move start and end back to multiples of the resolution

TIME is seconds since 1970, now, YYYYMMDD or HH:MM YYYYMMDD; an offset may
follow: now-1d, end-2h30min.

  roundel rrd fetch load.rrd AVERAGE -s -1h -r 5m
";

const OPTIONS: [Flag; 5] = [
    Flag('s', "start", Takes::Value),
    Flag('e', "end", Takes::Value),
    Flag('r', "resolution", Takes::Value),
    Flag('a', "align-start", Takes::Nothing),
    Flag('d', "daemon", Takes::Value),
];

/// Rows of one answer: a year of seconds, some hundreds of megabytes of text.
const MOST_ROWS: i64 = 1 << 25;

/// What somebody asks of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) function: Function,
    pub(super) span_s: (i64, i64),
    pub(super) resolution_s: i64,
}

pub(super) fn fetch(caller: &Caller<'_>, words: &[&str]) -> Output {
    let given = Given::parse(words, &OPTIONS)?;
    let (path, rest) = given.file()?;
    let [function] = rest else {
        return refuse("write the file and a function: AVERAGE, MIN, MAX or LAST");
    };
    let function = parse_function(function)?;
    let resolution_s =
        parse_step_s("--resolution", given.get("resolution").unwrap_or("1"))?.cast_signed();
    let span = SpanText {
        start: given.get("start").unwrap_or("end-1d"),
        end: given.get("end").unwrap_or("now"),
    };
    let (mut start_s, mut end_s) = span.resolve(caller)?;
    if given.has("align-start") {
        let beyond_s = start_s.rem_euclid(resolution_s);
        (start_s, end_s) = (start_s - beyond_s, end_s - beyond_s);
    }
    let question = Question { function, span_s: (start_s, end_s), resolution_s };
    Archive::read(caller, path, |archive| {
        let columns: Vec<usize> = (0..archive.sources.len()).collect();
        Ok(print(archive, &question.answer(archive, &columns)?))
    })
}

/// A function somebody may ask for; the names of forecasts are known, and no file has them.
pub(super) fn parse_function(text: &str) -> Result<Function, ToolError> {
    match Function::parse(text) {
        Some(function) => Ok(function),
        None => refuse(format!("{text:?}: no such function; there are AVERAGE, MIN, MAX and LAST")),
    }
}

impl Question {
    /// The rows of the best archive, and one more after the end, as rrdtool has it.
    pub(super) fn answer(&self, archive: &Archive, columns: &[usize]) -> Result<Table, ToolError> {
        let (start_s, end_s) = self.span_s;
        if end_s < start_s {
            return refuse(format!("start ({start_s}) must not be after end ({end_s})"));
        }
        let Some(view) = self.best(archive) else {
            let name = self.function.name();
            return refuse(format!("no archive of {name} here; \"roundel rrd info\" names them"));
        };
        let row_s = view.row_s(archive.step);
        let last_end_s = end_s.div_euclid(row_s) * row_s + row_s;
        if (last_end_s - start_s) / row_s > MOST_ROWS {
            return refuse(format!("more than {MOST_ROWS} rows; ask for less time"));
        }
        Ok(archive.table(&view, (start_s, last_end_s), columns))
    }

    /// Of the views that reach back to the start, or nearest to it, the one whose rows are nearest
    /// in width to the resolution. The first defined wins ties.
    fn best(&self, archive: &Archive) -> Option<View> {
        let start_s = self.span_s.0;
        let rated = archive.views.iter().filter(|view| view.answers(self.function)).map(|view| {
            let row_s = view.row_s(archive.step);
            let newest_s = archive.newest_s(view);
            let oldest_s =
                newest_s.saturating_sub(row_s.saturating_mul(view.row_count.cast_signed()));
            let missing_s = oldest_s.saturating_sub(start_s).max(0);
            let distance_s = (self.resolution_s - row_s).abs();
            ((missing_s, distance_s), view)
        });
        rated.min_by_key(|(rating, _)| *rating).map(|(_, view)| *view)
    }
}

fn print(archive: &Archive, table: &Table) -> String {
    let mut text = String::from("           ");
    for (source, _) in &archive.sources {
        add(&mut text, format_args!("{:>20}", source.name));
    }
    text.push_str("\n\n");
    for (row, end_s) in table.rows.iter().zip((0..).map(|i| table.first_end_s + i * table.row_s)) {
        add(&mut text, format_args!("{end_s:>10}:"));
        for value in row {
            add(&mut text, format_args!(" {}", Printed(*value, "-nan")));
        }
        text.push('\n');
    }
    text
}
