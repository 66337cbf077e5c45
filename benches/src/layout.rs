//! Where cells lie: rows of a tile (K) and columns of a block (W), measured in files: `cargo xtask bench layout`.
//!
//! Cell number `((row / K) * W + column) * K + row % K`, for a day of one-minute rows (average) and a day
//! of five-minute rows (average, minimum, maximum, known), the functions in arrays of their own or side
//! by side. Reads are `pread`s; that of maps is measured with the store itself.

mod files;
mod plan;
mod sums;

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{cold, procfs};
use files::{Files, Measured};
use plan::Plan;

/// Narrow instances, each of 128 columns.
pub(crate) const INSTANCES: u32 = 2000;
const NARROW: u64 = 128;
/// One instance of a large exporter.
const WIDE: u64 = 5000;
const ROWS_OF_TILE: [u64; 5] = [1, 4, 16, 64, 160];
const WIDTHS: [u64; 2] = [64, 128];
const MOST_BYTES: u64 = 12 << 30;

/// Measures every layout, one after the other, each in files of its own.
pub(crate) fn run(parent: &Path, instances: u32) -> Result<()> {
    let longest = WIDTHS.map(|w| Plan { k: 160, w, is_side_by_side: false }.file_len(NARROW));
    let needed = longest.iter().max().copied().unwrap_or_default() * u64::from(instances);
    ensure!(needed <= MOST_BYTES, "{instances} instances take more than 12 GiB; take fewer");
    procfs::check_space(parent, needed)?;
    let out = &mut io::stdout().lock();
    writeln!(out, "{instances} instances x {NARROW} columns, and one of {WIDE}; {}", cold::HOW)?;
    writeln!(out, "round: mean of five minutes; reads by pread, median; times in wall time\n")?;
    head(out)?;
    for w in WIDTHS {
        for k in ROWS_OF_TILE {
            for is_side_by_side in [false, true] {
                one(out, parent, Plan { k, w, is_side_by_side }, instances)?;
            }
        }
    }
    writeln!(out)?;
    sums::run(out, &ROWS_OF_TILE)
}

fn one(out: &mut dyn io::Write, parent: &Path, plan: Plan, instances: u32) -> Result<()> {
    let narrow = measured(parent, plan, instances, NARROW)?;
    row(out, plan, "narrow", &narrow)?;
    let wide = measured(parent, plan, 1, WIDE)?;
    row(out, plan, "wide", &wide)
}

fn measured(parent: &Path, plan: Plan, count: u32, columns: u64) -> Result<Measured> {
    let folder = tempfile::tempdir_in(parent).context("a folder for the data")?;
    Files::make(folder.path(), plan, count, columns)?.measure()
}

const HEADS: [&str; 11] = [
    "W",
    "K",
    "functions",
    "files",
    "written/min",
    "round",
    "day warm",
    "day cold",
    "5 min warm",
    "all warm",
    "all cold",
];

fn head(out: &mut dyn io::Write) -> Result<()> {
    line(out, &HEADS.map(str::to_owned))
}

fn row(out: &mut dyn io::Write, plan: Plan, files: &str, measured: &Measured) -> Result<()> {
    let functions = if plan.is_side_by_side { "side by side" } else { "arrays" };
    line(
        out,
        &[
            plan.w.to_string(),
            plan.k.to_string(),
            functions.to_owned(),
            files.to_owned(),
            format!("{} KiB", measured.written >> 10),
            time(measured.round),
            time(measured.day_warm),
            time(measured.day_cold),
            time(measured.coarse_warm),
            time(measured.all_warm),
            time(measured.all_cold),
        ],
    )
}

fn line(out: &mut dyn io::Write, cells: &[String; 11]) -> Result<()> {
    let widths = [5, 5, 14, 8, 13, 11, 11, 11, 11, 11, 11];
    for (cell, width) in cells.iter().zip(widths) {
        write!(out, "{cell:>width$}")?;
    }
    Ok(writeln!(out)?)
}

fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 1000.0 { format!("{micros:.1} us") } else { format!("{:.1} ms", micros / 1e3) }
}
