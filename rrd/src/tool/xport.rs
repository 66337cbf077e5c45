//! `xport`: rows of one or more files side by side, computed upon, as XML or JSON.

use std::fmt::{self, Write as _};

use super::archive::{Archive, Table};
use super::arguments::{Flag, Given, NO_LETTER, Takes};
use super::define::{Function, parse_step_s};
use super::fetch::{Question, parse_function};
use super::number::{Printed, add};
use super::rpn::{At, Formula};
use super::when::SpanText;
use super::{Caller, Output, ToolError, refuse};

pub(super) const HELP: &str = "Print rows of files side by side, computed upon, as XML or JSON

Usage: roundel rrd xport [OPTIONS] DEF:VAR=FILE:NAME:FUNCTION ...
         [CDEF:VAR=FORMULA ...] XPORT:VAR[:LEGEND] ...

  -s, --start TIME     [default: end-1d]
  -e, --end TIME       [default: now]
      --step TIME      Width of row that is wanted
  -m, --maxrows N      Widen the rows so that there are not more [default: 400]
      --json           JSON in place of XML
  -t, --showtime       Times beside the rows
      --enumds         <v0>, <v1> in place of <v>

A DEF may end in :step=TIME, :start=TIME, :end=TIME and :reduce=FUNCTION. A
FORMULA is in reverse Polish notation: x,8,* with + - * / % UN IF LT LE GT GE EQ
NE MIN MAX ADDNAN ABS FLOOR CEIL SQRT LOG EXP POW LIMIT DUP POP EXC PREV TIME
COUNT STEPWIDTH UNKN INF NEGINF.

  roundel rrd xport --json -s -1h DEF:l=load.rrd:load:AVERAGE \\
    CDEF:percent=l,100,* XPORT:percent
";

const OPTIONS: [Flag; 8] = [
    Flag('s', "start", Takes::Value),
    Flag('e', "end", Takes::Value),
    Flag(NO_LETTER, "step", Takes::Value),
    Flag('m', "maxrows", Takes::Value),
    Flag(NO_LETTER, "json", Takes::Nothing),
    Flag('t', "showtime", Takes::Nothing),
    Flag(NO_LETTER, "enumds", Takes::Nothing),
    Flag('d', "daemon", Takes::Value),
];

const USUAL_ROWS: &str = "400";
const FEWEST_ROWS: i64 = 10;
/// Definitions of one call.
const MOST_DEFINITIONS: usize = 1000;
/// Values of one answer: a gigabyte in memory.
const MOST_VALUES: i64 = 1 << 27;

/// A named column: rows of a file, or a formula over columns before it.
enum Variable {
    Rows(Table),
    Formula(Formula),
}

/// What is to be printed.
struct Export {
    start_s: i64,
    end_s: i64,
    step_s: i64,
    legends: Vec<String>,
    rows: Vec<Vec<f64>>,
}

pub(super) fn xport(caller: &Caller<'_>, words: &[&str]) -> Output {
    let given = Given::parse(words, &OPTIONS)?;
    let maxrows = given.get("maxrows").unwrap_or(USUAL_ROWS);
    let Some(maxrows) = maxrows.parse().ok().filter(|rows: &i64| *rows >= FEWEST_ROWS) else {
        return refuse(format!("--maxrows {maxrows:?}: write a number from {FEWEST_ROWS} on"));
    };
    let span = SpanText {
        start: given.get("start").unwrap_or("end-1d"),
        end: given.get("end").unwrap_or("now"),
    };
    let span_s = span.resolve(caller)?;
    if span_s.1 <= span_s.0 {
        return refuse(format!("start ({}) must be before end ({})", span_s.0, span_s.1));
    }
    let wanted_s = match given.get("step") {
        Some(text) => parse_step_s("--step", text)?.cast_signed(),
        None => 1,
    };
    let step_s = wanted_s.max((span_s.1 - span_s.0) / maxrows);
    if given.words.len() > MOST_DEFINITIONS {
        return refuse(format!("more than {MOST_DEFINITIONS} definitions; ask in several calls"));
    }
    let mut sheet = Sheet {
        caller,
        span,
        span_s,
        step_s,
        names: Vec::new(),
        variables: Vec::new(),
        exports: Vec::new(),
    };
    for text in &given.words {
        sheet.take(text)?;
    }
    let export = sheet.export()?;
    let style = Style { has_times: given.has("showtime"), numbers_columns: given.has("enumds") };
    Ok(if given.has("json") { style.json(&export) } else { style.xml(&export) })
}

/// What has been defined so far.
struct Sheet<'a> {
    caller: &'a Caller<'a>,
    span: SpanText<'a>,
    span_s: (i64, i64),
    step_s: i64,
    names: Vec<&'a str>,
    variables: Vec<Variable>,
    /// Variable and legend.
    exports: Vec<(usize, String)>,
}

impl<'a> Sheet<'a> {
    fn take(&mut self, text: &'a str) -> Result<(), ToolError> {
        let in_text = |error: ToolError| ToolError::Refused(format!("{text:?}: {error}"));
        match text.split_once(':') {
            Some(("DEF", definition)) => {
                let (name, rest) = self.name(definition).map_err(in_text)?;
                let table = self.rows(rest).map_err(in_text)?;
                self.names.push(name);
                self.variables.push(Variable::Rows(table));
            }
            Some(("CDEF", definition)) => {
                let (name, formula) = self.name(definition).map_err(in_text)?;
                let formula = Formula::parse(formula, &self.names)?;
                self.names.push(name);
                self.variables.push(Variable::Formula(formula));
            }
            Some(("XPORT", export)) => {
                let (name, legend) = export.split_once(':').unwrap_or((export, ""));
                let Some(variable) = self.names.iter().position(|known| *known == name) else {
                    return refuse(format!("{text:?}: {name:?} is not defined before"));
                };
                self.exports.push((variable, legend.replace("\\:", ":")));
            }
            _ => return refuse(format!("{text:?}: there are DEF:..., CDEF:... and XPORT:...")),
        }
        Ok(())
    }

    fn name(&self, definition: &'a str) -> Result<(&'a str, &'a str), ToolError> {
        match definition.split_once('=') {
            Some((name, _)) if self.names.contains(&name) => {
                refuse(format!("{name:?} is defined twice"))
            }
            Some((name, rest)) if !name.is_empty() => Ok((name, rest)),
            _ => refuse("a definition is written NAME=..."),
        }
    }

    /// `FILE:NAME:FUNCTION[:step=..][:start=..][:end=..][:reduce=..]`, `\:` for a colon in FILE.
    fn rows(&self, text: &str) -> Result<Table, ToolError> {
        let parts = split_colons(text);
        let [path, name, function, options @ ..] = &parts[..] else {
            return refuse("rows are written VAR=FILE:NAME:FUNCTION");
        };
        let function = parse_function(function)?;
        let (mut reduce, mut step_s, mut span) = (function, self.step_s, self.span);
        for option in options {
            match option.split_once('=') {
                Some(("step", text)) => step_s = parse_step_s("step", text)?.cast_signed(),
                Some(("start", text)) => span.start = text,
                Some(("end", text)) => span.end = text,
                Some(("reduce", text)) => reduce = parse_function(text)?,
                _ => return refuse(format!("{option:?}: there are step, start, end and reduce")),
            }
        }
        let span_s = span.resolve(self.caller)?;
        let question = Question { function, span_s, resolution_s: step_s };
        Archive::read(self.caller, path, |archive| {
            let Some(column) = archive.source(name) else {
                return refuse(format!("{path}: no data source {name:?} here"));
            };
            Ok(question.answer(archive, &[column])?.reduced(step_s, reduce))
        })
    }

    fn export(&self) -> Result<Export, ToolError> {
        if self.exports.is_empty() {
            return refuse("nothing to print; add XPORT:VAR");
        }
        let widths = self.variables.iter().filter_map(|variable| match variable {
            Variable::Rows(table) => Some(table.row_s),
            Variable::Formula(_) => None,
        });
        let step_s = match widths.fold(0, common_width) {
            0 => self.step_s,
            width => width,
        };
        let start_s = self.span_s.0.div_euclid(step_s) * step_s;
        let end_s = self.span_s.1 + (-self.span_s.1).rem_euclid(step_s);
        let count = (end_s - start_s) / step_s;
        let width = i64::try_from(self.variables.len()).unwrap_or(i64::MAX);
        if count.checked_mul(width).is_none_or(|values| values > MOST_VALUES) {
            return refuse("too many values; ask for less time or fewer columns");
        }
        let mut previous = vec![f64::NAN; self.variables.len()];
        let mut rows = Vec::new();
        for row in 0..count {
            let time_s = start_s + (row + 1) * step_s;
            let rows_so_far = usize::try_from(row + 1).unwrap_or(usize::MAX);
            let mut values = Vec::with_capacity(self.variables.len());
            for (variable, previous) in self.variables.iter().zip(&previous) {
                let value = match variable {
                    Variable::Rows(table) => table.at(time_s),
                    Variable::Formula(formula) => {
                        let (values, count) = (&values[..], rows_so_far);
                        formula.value(&At { values, previous: *previous, time_s, count, step_s })
                    }
                };
                values.push(value);
            }
            rows.push(self.exports.iter().map(|(variable, _)| values[*variable]).collect());
            previous = values;
        }
        let legends = self.exports.iter().map(|(_, legend)| legend.clone()).collect();
        Ok(Export { start_s, end_s, step_s, legends, rows })
    }
}

/// The widest step of which both are multiples.
fn common_width(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_width(b, a % b) }
}

fn split_colons(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let last = parts.last_mut().expect("there is always one");
        match letter {
            '\\' if letters.peek() == Some(&':') => last.extend(letters.next()),
            ':' => parts.push(String::new()),
            _ => last.push(letter),
        }
    }
    parts
}

impl Table {
    /// The value of the row that covers `time_s`.
    fn at(&self, time_s: i64) -> f64 {
        let start_s = self.first_end_s - self.row_s;
        let index = (time_s - start_s - 1).div_euclid(self.row_s);
        let row = usize::try_from(index).ok().and_then(|index| self.rows.get(index));
        row.map_or(f64::NAN, |row| row[0])
    }

    /// Rows at least as wide as wanted: whole groups of them, of which unknown ones are left out.
    fn reduced(self, wanted_s: i64, function: Function) -> Self {
        let factor = wanted_s / self.row_s + i64::from(wanted_s % self.row_s > 0);
        let Some(last) = i64::try_from(self.rows.len()).ok().filter(|_| factor > 1) else {
            return self;
        };
        let row_s = factor * self.row_s;
        let start_s = self.first_end_s - self.row_s;
        let end_s = start_s + last * self.row_s;
        let first_end_s = start_s.div_euclid(row_s) * row_s + row_s;
        let group = |end: i64| {
            let first = (end - row_s - start_s) / self.row_s;
            let rows =
                usize::try_from(first).ok().filter(|_| end - row_s >= start_s && end <= end_s);
            let factor = usize::try_from(factor).unwrap_or(usize::MAX);
            rows.and_then(|first| self.rows.get(first..first.saturating_add(factor)))
        };
        let groups = (end_s - first_end_s).div_euclid(row_s)
            + 1
            + i64::from((end_s - first_end_s) % row_s != 0);
        let rows = (0..groups)
            .map(|number| {
                let known = group(first_end_s + number * row_s).unwrap_or_default();
                let known = known.iter().map(|row| row[0]).filter(|value| !value.is_nan());
                vec![function.of(known)]
            })
            .collect();
        Self { row_s, first_end_s, rows }
    }
}

impl Function {
    /// Of known values; unknown where there is none.
    fn of(self, known: impl Iterator<Item = f64>) -> f64 {
        let mut count = 0.0;
        let value = known.reduce(|a, b| {
            count += 1.0;
            match self {
                Self::Average => a + b,
                Self::Min => a.min(b),
                Self::Max => a.max(b),
                Self::Last => b,
            }
        });
        match (value, self) {
            (Some(sum), Self::Average) => sum / (count + 1.0),
            (value, _) => value.unwrap_or(f64::NAN),
        }
    }
}

/// How an export is written.
struct Style {
    has_times: bool,
    numbers_columns: bool,
}

impl Style {
    fn xml(&self, export: &Export) -> String {
        let Export { start_s, end_s, step_s, legends, rows } = export;
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n\n<xport>\n  <meta>\n    <start>{}</start>\n    <end>{end_s}</end>\n    <step>{step_s}</step>\n    <rows>{}</rows>\n    <columns>{}</columns>\n    <legend>\n",
            start_s + step_s,
            rows.len(),
            legends.len(),
        );
        for legend in legends {
            let legend = legend.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            add(&mut text, format_args!("      <entry>{legend}</entry>\n"));
        }
        text += "    </legend>\n  </meta>\n  <data>\n";
        for (row, time_s) in rows.iter().zip((1..).map(|row| start_s + row * step_s)) {
            text += "    <row>";
            if self.has_times {
                add(&mut text, format_args!("<t>{time_s}</t>"));
            }
            for (column, value) in row.iter().enumerate() {
                let tag = if self.numbers_columns { format!("v{column}") } else { "v".to_owned() };
                add(&mut text, format_args!("<{tag}>{}</{tag}>", Printed(*value, "NaN")));
            }
            text += "</row>\n";
        }
        text + "  </data>\n</xport>\n"
    }

    fn json(&self, export: &Export) -> String {
        let Export { start_s, end_s, step_s, legends, rows } = export;
        let quoted: Vec<String> =
            legends.iter().map(|legend| format!("      {}", Quoted(legend))).collect();
        let mut text = format!(
            "{{ \"about\": \"RRDtool graph JSON output\",\n  \"meta\": {{\n    \"start\": {},\n    \"end\": {end_s},\n    \"step\": {step_s},\n    \"legend\": [\n{}\n          ]\n     }},\n  \"data\": [\n",
            start_s + step_s,
            quoted.join(",\n"),
        );
        for (index, row) in (1..).zip(rows) {
            text += "    [ ";
            if self.has_times {
                add(&mut text, format_args!("\"{}\",", start_s + index * step_s));
            }
            let values: Vec<String> = row.iter().map(|value| number(*value)).collect();
            add(&mut text, format_args!("{} ]", values.join(", ")));
            let is_last = usize::try_from(index).is_ok_and(|index| index == rows.len());
            text += if is_last { "\n" } else { ",\n" };
        }
        text + "  ]\n}\n"
    }
}

fn number(value: f64) -> String {
    if value.is_finite() { Printed(value, "null").to_string() } else { "null".to_owned() }
}

/// A text as JSON writes it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => write!(f, "\\{letter}")?,
                letter if u32::from(letter) < 0x20 => write!(f, "\\u{:04x}", u32::from(letter))?,
                letter => f.write_char(letter)?,
            }
        }
        f.write_char('"')
    }
}
