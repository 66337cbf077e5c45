//! `dump`: a file as rrdtool's XML, which `rrdtool restore` reads.

use super::archive::Archive;
use super::arguments::{Flag, Given, Takes};
use super::define::{self, View};
use super::look::{open_row, open_step, reading};
use super::xml::{Digits, HEADER, write_body};
use super::{Caller, Output, refuse};
use crate::import::{Dump, Function, Prepared, Rra, Source, SourceKind};
use crate::series::Open;

pub(super) const HELP: &str = "Print a whole file as XML, which \"rrdtool restore\" reads

Usage: roundel rrd dump FILE [-n]

  -n, --no-header   Leave the XML declaration and the document type out
";

const OPTIONS: [Flag; 2] =
    [Flag('n', "no-header", Takes::Nothing), Flag('d', "daemon", Takes::Value)];

pub(super) fn dump(caller: &Caller<'_>, words: &[&str]) -> Output {
    let given = Given::parse(words, &OPTIONS)?;
    let (path, rest) = given.file()?;
    if let [extra, ..] = rest {
        return refuse(format!("{extra:?}: the dump goes to standard output; redirect it"));
    }
    let header = if given.has("no-header") { "" } else { HEADER };
    Archive::read(caller, path, |archive| {
        let mut text = header.as_bytes().to_vec();
        write_body(&whole(archive), Digits::Eleven, &mut text).expect("memory takes all");
        Ok(String::from_utf8(text).expect("names are ASCII, and so is all else"))
    })
}

/// All of the file, as rrdtool would hold it.
fn whole(archive: &Archive) -> Dump {
    let sources = archive.sources.iter().map(|one| source(archive, one));
    Dump {
        step_s: archive.step_s().unsigned_abs(),
        last_update: archive.last(),
        sources: sources.collect(),
        archives: archive.views.iter().map(|view| rra(archive, view)).collect(),
    }
}

fn source(archive: &Archive, (source, open): &(define::Source, Open)) -> Source {
    let definition = source.definition;
    let (value, unknown_s) = open_step(archive, open);
    Source {
        name: source.name.clone(),
        kind: SourceKind::Known(definition.kind),
        heartbeat_s: definition.heartbeat_ms / 1000,
        min: definition.min,
        max: definition.max,
        last_reading: reading(open, definition.kind),
        value,
        unknown_s,
    }
}

fn rra(archive: &Archive, view: &View) -> Rra {
    let prepared = |column| {
        let (value, unknown) = open_row(archive, view, column);
        Prepared { value, unknown_steps: unknown.into() }
    };
    Rra {
        function: Function::named(view.function.name()),
        steps_per_row: view.per_row.into(),
        xff: view.xff,
        prepared: (0..archive.sources.len()).map(prepared).collect(),
        values: archive.whole(view).rows.concat(),
    }
}
