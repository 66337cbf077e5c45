//! `create`: a new file from data sources and archives.

use std::path::Path;

use super::arguments::{Flag, Given, Takes};
use super::define::{Source, View, check_sources, parse_step_s, policy};
use super::{Caller, Output, refuse, when};
use crate::store::{SingleFile, SinglePlan};
use crate::{Labels, NAME, Timestamp};

pub(super) const HELP: &str = "Make a file

Usage: roundel rrd create FILE [OPTIONS]
         DS:NAME:TYPE:HEARTBEAT:MIN:MAX ... RRA:FUNCTION:XFF:STEPS:ROWS ...

  DS    a data source. TYPE is GAUGE, COUNTER, DERIVE, ABSOLUTE, DCOUNTER or
        DDERIVE; MIN and MAX are limits of the rate, U for none
  RRA   an archive. FUNCTION is AVERAGE, MIN, MAX or LAST; a row of STEPS steps
        is unknown if more than the share XFF of them is

  -b, --start TIME     Nothing before is known [default: 10 seconds ago]
  -s, --step TIME      Width of a step [default: 300]
  -O, --no-overwrite   Refuse if the file exists

STEP, HEARTBEAT, STEPS and ROWS may be times: 90s, 5m, 1h, 1d, 1w, 1M, 1y.

  roundel rrd create load.rrd --step 1m DS:load:GAUGE:2m:0:U \\
    RRA:AVERAGE:0.5:1m:2d RRA:MAX:0.5:1h:90d
";

const OPTIONS: [Flag; 6] = [
    Flag('b', "start", Takes::Value),
    Flag('s', "step", Takes::Value),
    Flag('O', "no-overwrite", Takes::Nothing),
    Flag('d', "daemon", Takes::Value),
    Flag('r', "source", Takes::Value),
    Flag('t', "template", Takes::Value),
];

/// rrdtool's step where none is given.
const USUAL_STEP_S: &str = "300";
/// A file begins after 1980, so that a mistyped start is noticed.
const EARLIEST_S: i64 = 315_360_000;

pub(super) fn create(caller: &Caller<'_>, words: &[&str]) -> Output {
    let given = Given::parse(words, &OPTIONS)?;
    let (path, definitions) = given.file()?;
    for other in ["source", "template"] {
        if given.has(other) {
            return refuse(format!("--{other}: files are not made from others; name DS and RRA"));
        }
    }
    let start_s = when::moment(caller, "--start", given.get("start").unwrap_or("now-10s"))?;
    if start_s < EARLIEST_S {
        return refuse(format!("--start {start_s}: a file begins after 1980"));
    }
    let step_s = parse_step_s("--step", given.get("step").unwrap_or(USUAL_STEP_S))?;
    let (mut sources, mut views) = (Vec::new(), Vec::new());
    for text in definitions {
        if text.starts_with("DS:") {
            sources.push(Source::parse(text)?);
        } else if text.starts_with("RRA:") {
            views.push(View::parse(text, step_s)?);
        } else {
            return refuse(format!("{text:?}: neither DS:... nor RRA:..."));
        }
    }
    check_sources(&sources)?;
    if views.is_empty() {
        return refuse("no archive; name at least one, as in RRA:AVERAGE:0.5:1:1440");
    }
    if given.has("no-overwrite") && caller.disk.open(Path::new(path)).is_ok() {
        return refuse(format!("{path}: it exists; leave -O out to make it anew"));
    }
    let series: Vec<_> = sources
        .iter()
        .map(|source| {
            let labels = Labels::from_pairs([(NAME, source.name.as_str())]);
            (labels.expect("one label with a name"), source.definition)
        })
        .collect();
    let kept: Vec<String> = views.iter().map(View::to_string).collect();
    let plan = SinglePlan {
        policy: policy(step_s, &views)?,
        views: kept.join(";"),
        series: &series,
        start: Timestamp::from_secs(start_s),
    };
    SingleFile::create(&caller.disk, Path::new(path), &plan)?;
    Ok(String::new())
}
