//! `info`, `first`, `last` and `lastupdate`: what a file is, and when it was updated.

use super::archive::Archive;
use super::arguments::{Flag, Given, NO_LETTER, Takes};
use super::define::{Function, View, kind_name};
use super::number::{Printed, add};
use super::{Caller, Output, refuse};
use crate::Timestamp;
use crate::series::{Open, OpenStep};

pub(super) const INFO_HELP: &str = "Print what a file holds and where it stands

Usage: roundel rrd info FILE
";
pub(super) const FIRST_HELP: &str = "Print the time of the oldest row

Usage: roundel rrd first FILE [--rraindex N]
";
pub(super) const LAST_HELP: &str = "Print the time of the last update

Usage: roundel rrd last FILE
";
pub(super) const LAST_UPDATE_HELP: &str = "Print the last update, time and values

Usage: roundel rrd lastupdate FILE
";

const OPTIONS: [Flag; 2] =
    [Flag('d', "daemon", Takes::Value), Flag('F', "noflush", Takes::Nothing)];
const FIRST_OPTIONS: [Flag; 2] =
    [Flag('d', "daemon", Takes::Value), Flag(NO_LETTER, "rraindex", Takes::Value)];

pub(super) fn last(caller: &Caller<'_>, words: &[&str]) -> Output {
    let given = Given::parse(words, &OPTIONS)?;
    Archive::read(caller, given.only_file()?, |archive| Ok(format!("{}\n", archive.last_s())))
}

pub(super) fn first(caller: &Caller<'_>, words: &[&str]) -> Output {
    let given = Given::parse(words, &FIRST_OPTIONS)?;
    let index = given.get("rraindex").unwrap_or("0");
    Archive::read(caller, given.only_file()?, |archive| {
        let Some(view) = index.parse().ok().and_then(|index: usize| archive.views.get(index))
        else {
            return refuse(format!(
                "--rraindex {index:?}: the archives are 0 to {}",
                archive.views.len() - 1
            ));
        };
        Ok(format!("{}\n", archive.whole(view).first_end_s))
    })
}

pub(super) fn last_update(caller: &Caller<'_>, words: &[&str]) -> Output {
    let given = Given::parse(words, &OPTIONS)?;
    Archive::read(caller, given.only_file()?, |archive| {
        let mut text = String::new();
        for (source, _) in &archive.sources {
            add(&mut text, format_args!(" {}", source.name));
        }
        add(&mut text, format_args!("\n\n{}:", archive.last_s()));
        for (source, open) in &archive.sources {
            add(&mut text, format_args!(" {}", reading(open, source.definition.kind)));
        }
        Ok(text + "\n")
    })
}

/// The last reading as a number; its text is not kept.
pub(super) fn reading(open: &Open, kind: crate::Kind) -> String {
    open.last_reading(kind).map_or_else(|| "U".to_owned(), |last| last.to_string())
}

/// The open step: rate x seconds so far, and its unknown seconds.
#[expect(clippy::cast_precision_loss, reason = "at most a century of milliseconds")]
pub(super) fn open_step(archive: &Archive, open: &Open) -> (f64, u64) {
    let OpenStep { sum, unknown_ms, .. } = open.open_step();
    let begun_ms = archive
        .last()
        .millis_since(Timestamp::row_end(open.newest_row, archive.step))
        .unsigned_abs();
    let is_unknown = begun_ms > 0 && unknown_ms as f64 >= begun_ms as f64;
    (if is_unknown { f64::NAN } else { sum / 1000.0 }, unknown_ms / 1000)
}

/// What a row being filled has come to, and how many of its steps were unknown.
pub(super) fn open_row(archive: &Archive, view: &View, column: usize) -> (f64, u32) {
    let index = archive.archive_of(view);
    let Some(row) = archive.sources[column].1.open_row(index) else { return (f64::NAN, 0) };
    let begun = view.per_row - row.left;
    let value = match view.function {
        _ if begun == 0 || (row.known == 0 && view.function != Function::Last) => f64::NAN,
        Function::Average => row.sum,
        Function::Min => row.min,
        Function::Max => row.max,
        Function::Last => newest_step(archive, column),
    };
    (value, begun - row.known)
}

/// The newest step of the finest archive, which always keeps one.
fn newest_step(archive: &Archive, column: usize) -> f64 {
    let column = u32::try_from(column).expect("a source of the file");
    archive.file.rows(column, 0).average.last().copied().unwrap_or(f64::NAN)
}

pub(super) fn info(caller: &Caller<'_>, words: &[&str]) -> Output {
    let given = Given::parse(words, &OPTIONS)?;
    let path = given.only_file()?;
    Archive::read(caller, path, |archive| {
        let (step_s, last_s) = (archive.step_s(), archive.last_s());
        let mut text = format!(
            "filename = \"{path}\"\nrrd_version = \"0003\"\nstep = {step_s}\nlast_update = {last_s}\nheader_size = {}\n",
            crate::store::SINGLE_HEAD_LEN
        );
        for index in 0..archive.sources.len() {
            text += &describe_source(archive, index);
        }
        for index in 0..archive.views.len() {
            text += &describe_view(archive, index);
        }
        Ok(text)
    })
}

fn describe_source(archive: &Archive, index: usize) -> String {
    let (source, open) = &archive.sources[index];
    let definition = source.definition;
    let (value, unknown_s) = open_step(archive, open);
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        add(&mut text, format_args!("ds[{}].{name} = {value}\n", source.name));
    };
    line("index", index.to_string());
    line("type", format!("\"{}\"", kind_name(definition.kind)));
    line("minimal_heartbeat", (definition.heartbeat_ms / 1000).to_string());
    line("min", Printed(definition.min, "NaN").to_string());
    line("max", Printed(definition.max, "NaN").to_string());
    line("last_ds", format!("\"{}\"", reading(open, definition.kind)));
    line("value", Printed(value, "NaN").to_string());
    line("unknown_sec", unknown_s.to_string());
    text
}

fn describe_view(archive: &Archive, index: usize) -> String {
    let view = &archive.views[index];
    let newest_row = archive.newest_s(view).div_euclid(view.row_s(archive.step));
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        add(&mut text, format_args!("rra[{index}].{name} = {value}\n"));
    };
    line("cf", format!("\"{}\"", view.function.name()));
    line("rows", view.row_count.to_string());
    line("cur_row", newest_row.rem_euclid(view.row_count.cast_signed()).to_string());
    line("pdp_per_row", view.per_row.to_string());
    line("xff", Printed(view.xff, "NaN").to_string());
    for column in 0..archive.sources.len() {
        let (value, unknown) = open_row(archive, view, column);
        line(&format!("cdp_prep[{column}].value"), Printed(value, "NaN").to_string());
        line(&format!("cdp_prep[{column}].unknown_datapoints"), unknown.to_string());
    }
    text
}
