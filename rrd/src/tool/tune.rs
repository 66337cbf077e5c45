//! `tune`: another name, type, heartbeat or limit for a data source.

use super::archive::Archive;
use super::arguments::{Flag, Given, NO_LETTER, Takes};
use super::define::{
    Source, check_name, check_sources, parse_heartbeat_ms, parse_kind, parse_limit,
};
use super::{Caller, Output, ToolError, refuse};
use crate::store::Access;
use crate::{Labels, NAME};

pub(super) const HELP: &str = "Change the data sources of a file

Usage: roundel rrd tune FILE [OPTIONS]

  -h, --heartbeat NAME:TIME          Longest time that a sample covers
  -i, --minimum NAME:MIN             Least rate that is known, U for no limit
  -a, --maximum NAME:MAX             Greatest rate that is known, U for no limit
  -d, --data-source-type NAME:TYPE   What the samples mean; the last one is
                                     forgotten
  -r, --data-source-rename OLD:NEW   Another name

Options apply in the order given. Rows that are kept already stay as they are.
";

const OPTIONS: [Flag; 6] = [
    Flag('h', "heartbeat", Takes::Value),
    Flag('i', "minimum", Takes::Value),
    Flag('a', "maximum", Takes::Value),
    Flag('d', "data-source-type", Takes::Value),
    Flag('r', "data-source-rename", Takes::Value),
    Flag(NO_LETTER, "daemon", Takes::Value),
];

pub(super) fn tune(caller: &Caller<'_>, words: &[&str]) -> Output {
    let given = Given::parse(words, &OPTIONS)?;
    let path = given.only_file()?;
    if given.all().next().is_none() {
        return refuse("nothing to change; \"roundel rrd tune --help\" names what can be");
    }
    let archive = Archive::open(caller, path, Access::Write)?;
    let mut sources: Vec<Source> =
        archive.sources.iter().map(|(source, _)| source.clone()).collect();
    for (option, text) in given.all() {
        change(&mut sources, option, text)
            .map_err(|error| ToolError::Refused(format!("--{option} {text:?}: {error}")))?;
    }
    check_sources(&sources)?;
    for (index, (source, (before, _))) in sources.iter().zip(&archive.sources).enumerate() {
        let (min, max) = (source.definition.min, source.definition.max);
        if min >= max {
            return refuse(format!("{:?}: min {min} must be less than max {max}", source.name));
        }
        if source != before {
            let labels = Labels::from_pairs([(NAME, source.name.as_str())]);
            let labels = labels.expect("one label with a name");
            archive.file.redefine(index, &labels, source.definition);
        }
    }
    archive.file.commit(&caller.disk)?;
    Ok(String::new())
}

fn change(sources: &mut [Source], option: &str, text: &str) -> Result<(), ToolError> {
    let Some((name, value)) = text.split_once(':') else {
        return refuse("write the data source's name, a colon and what it shall be");
    };
    let Some(source) = sources.iter_mut().find(|source| source.name == name) else {
        return refuse(format!("no data source {name:?} here; \"roundel rrd info\" names them"));
    };
    let definition = &mut source.definition;
    match option {
        "heartbeat" => definition.heartbeat_ms = parse_heartbeat_ms(value)?,
        "minimum" => definition.min = parse_limit(value)?,
        "maximum" => definition.max = parse_limit(value)?,
        "data-source-type" => definition.kind = parse_kind(value)?,
        _ => {
            check_name(value)?;
            value.clone_into(&mut source.name);
        }
    }
    Ok(())
}
