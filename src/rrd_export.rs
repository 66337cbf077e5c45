//! `roundel rrd export`: series of a stopped server as XML for rrdtool, CSV or JSON.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use rrd::import::Dump;
use rrd::tool::write_xml;
use rrd::{Clock, Labels, SeriesInfo};

use crate::clock::SystemClock;
use crate::offline::Offline;
use crate::progress::Progress;
use crate::report::{print, say};

/// A file name, without its ending, has at most this many bytes; file systems take 255.
const LONGEST_NAME: usize = 200;

#[derive(Debug, Clone, Args)]
pub(crate) struct Export {
    /// Data folder of the server, which must not be running
    #[arg(long, value_name = "DIR", default_value = "./roundel-data")]
    data: PathBuf,
    /// The instance, by its name or its id
    #[arg(long, value_name = "NAME")]
    instance: String,
    /// Which of its series, as PromQL selects them [default: all]
    #[arg(long, value_name = "MATCH")]
    series: Option<String>,
    /// Folder for the files, one for each series
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// What the files hold
    #[arg(long, value_enum, default_value_t = Format::Xml)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For "rrdtool restore"
    Xml,
    /// A line for each row and function
    Csv,
    /// Labels, kind and the rows of each archive
    Json,
}

/// Writes a file for each series.
pub(crate) fn export(arguments: &Export) -> Result<()> {
    let matchers = match &arguments.series {
        Some(text) => query::matchers(text).with_context(|| format!("--series {text:?}"))?,
        None => Vec::new(),
    };
    let offline = Offline::open(&arguments.data)?;
    let wanted = &arguments.instance;
    let is_it = |info: &SeriesInfo| {
        let id = info.series.instance;
        let name = offline.registry.instance(id).map(|instance| instance.name.clone());
        name.as_ref() == Some(wanted) || id.to_string() == *wanted
    };
    let mut found = offline.store.select(&matchers);
    found.retain(is_it);
    let mut instances: Vec<_> = found.iter().map(|info| info.series.instance).collect();
    instances.dedup();
    match instances[..] {
        [] => bail!("no series of an instance {wanted:?}; give its name as the pages show it"),
        [_] => {}
        _ => bail!("{} instances are called {wanted:?}; give the id of one", instances.len()),
    }
    std::fs::create_dir_all(&arguments.to).with_context(|| arguments.to.display().to_string())?;
    let clock = SystemClock::start();
    let mut progress = Progress::of("series", found.len());
    let (mut names, mut left_out) = (HashSet::new(), 0);
    for info in &found {
        if let Some(dump) = offline.store.dump_series(info.series) {
            let name = free_name(&mut names, &file_name(&info.labels));
            arguments.write(&name, info, &dump)?;
            if let Some(days) = info.archives.iter().find(|spec| spec.days.is_some()) {
                let (labels, days) = (&info.labels, days.step_name());
                say(&format!(
                    "{labels}: rows of {days} are left out: rrdtool has rows of one width"
                ));
            }
        } else {
            left_out += 1;
            say(&format!("{}: has no reading yet, or no step of whole seconds", info.labels));
        }
        progress.advance(1, clock.monotonic());
    }
    progress.end();
    let written = found.len() - left_out;
    print(&format!("exported {written} series to {}\n", arguments.to.display()));
    Ok(())
}

impl Export {
    fn write(&self, name: &str, info: &SeriesInfo, dump: &Dump) -> Result<()> {
        let extension = match self.format {
            Format::Xml => "xml",
            Format::Csv => "csv",
            Format::Json => "json",
        };
        let path = self.to.join(format!("{name}.{extension}"));
        let write = || {
            let mut out = BufWriter::new(File::create(&path)?);
            match self.format {
                Format::Xml => write_xml(dump, &mut out)?,
                Format::Csv => out.write_all(csv(dump).as_bytes())?,
                Format::Json => out.write_all(json(info, dump).as_bytes())?,
            }
            out.flush()
        };
        write().with_context(|| path.display().to_string())
    }
}

/// END in seconds, width, function, value; nothing where it is unknown.
fn csv(dump: &Dump) -> String {
    let mut text = "end_s,step_s,function,value\n".to_owned();
    for rra in &dump.archives {
        let (width, function) = (dump.width_s(rra), rra.function.name());
        for (end, row) in dump.rows(rra) {
            let value = row.first().filter(|value| !value.is_nan());
            let value = value.map(f64::to_string).unwrap_or_default();
            writeln!(text, "{end},{width},{function},{value}").expect("a text grows");
        }
    }
    text
}

fn json(info: &SeriesInfo, dump: &Dump) -> String {
    let labels: serde_json::Map<String, serde_json::Value> =
        info.labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let archives = dump.archives.iter().map(|rra| {
        let rows = dump.rows(rra).map(|(end, row)| {
            // A number that is none, or infinite, is null in JSON.
            serde_json::json!([end, row.first().copied().filter(|value| value.is_finite())])
        });
        serde_json::json!({
            "function": rra.function.name(),
            "step_s": dump.width_s(rra),
            "rows": rows.collect::<Vec<_>>(),
        })
    });
    let document = serde_json::json!({
        "labels": labels,
        "kind": dump.sources[0].kind.name(),
        "last_update_s": dump.last_update.as_millis().div_euclid(1000),
        "archives": archives.collect::<Vec<_>>(),
    });
    format!("{document}\n")
}

/// Metric and label values, of characters that every file system takes.
fn file_name(labels: &Labels) -> String {
    let own = labels.iter().filter(|(name, _)| !["instance", "job", rrd::NAME].contains(name));
    let words = labels.metric().into_iter().chain(own.map(|(_, value)| value));
    let text = words.collect::<Vec<_>>().join("-");
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let plain = text.chars().map(|c| if good(c) { c } else { '_' }).take(LONGEST_NAME);
    let name: String = plain.collect();
    if name.starts_with('.') || name.is_empty() { format!("_{name}") } else { name }
}

fn free_name(taken: &mut HashSet<String>, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    let mut number = 1;
    while !taken.insert(name.clone()) {
        number += 1;
        name = format!("{wanted}-{number}");
    }
    name
}
