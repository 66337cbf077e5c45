//! `roundel size`: the disk that so many series take, before the first of them is there.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use rrd::size::{FileSize, USUAL_KEY_BYTES};
use rrd::{Cell, Policy};

use super::words::{bytes, count, reach};
use crate::args::Size;
use crate::config::JOURNAL_BYTES;
use crate::recovery::shape;
use crate::report;

/// Prints the sizes.
pub(crate) fn run(arguments: &Size) -> Result<ExitCode> {
    let policy = Policy::parse(&arguments.policy)
        .with_context(|| format!("--policy {:?}", arguments.policy))?;
    let cell = if policy.all_f64() { Cell::F64 } else { arguments.cell };
    let file = FileSize::of(&policy, arguments.series, cell).with_context(|| {
        format!("--series {}: an instance has at most {}", arguments.series, rrd::MAX_COLUMNS)
    })?;
    let plan = Plan {
        policy,
        cell,
        series: u64::try_from(arguments.series)?,
        instances: arguments.instances,
        journal: shape(arguments.journal.unwrap_or(JOURNAL_BYTES)).folder_bytes(),
        file,
    };
    let all = plan.all().context("--instances: more bytes than can be counted; ask for fewer")?;
    report::print(&if arguments.json { plan.json(all) } else { plan.text(all) });
    Ok(ExitCode::SUCCESS)
}

/// What was asked, and what it takes.
struct Plan {
    policy: Policy,
    cell: Cell,
    series: u64,
    instances: u64,
    journal: u64,
    file: FileSize,
}

impl Plan {
    /// Bytes of the archives and of everything.
    fn all(&self) -> Option<(u64, u64)> {
        let archives = self.file.bytes.checked_mul(self.instances)?;
        Some((archives, archives.checked_add(self.journal)?))
    }

    const fn cell(&self) -> &'static str {
        match self.cell {
            Cell::F32 => "f32",
            Cell::F64 => "f64",
        }
    }

    fn text(&self, (archives, total): (u64, u64)) -> String {
        let mut out = String::new();
        let line = |out: &mut String, name: &str, number: u64, note: &str| {
            // Writing to a string cannot fail.
            let _written = writeln!(out, "  {name:<22} {:>19}  {note}", count(number));
        };
        let (series, instances) = (count(self.series), count(self.instances));
        let plural = |number| if number == 1 { "" } else { "s" };
        let _written = writeln!(
            out,
            "{series} series in {}, {instances} instance{}, policy {}\n",
            self.cell(),
            plural(self.instances),
            self.policy
        );
        let names = self.policy.archives().iter().map(|archive| archive.step_name().len());
        let width = names.max().unwrap_or(0).max(8);
        let _written = writeln!(out, "  {:<width$} {:>10}   reaches back", "step", "rows");
        for archive in self.policy.archives() {
            let span = archive.row_count.saturating_mul(archive.step.as_millis());
            let _written = writeln!(
                out,
                "  {:<width$} {:>10}   {}",
                archive.step_name(),
                count(archive.row_count),
                reach(span)
            );
        }
        let _written = writeln!(out, "\n  {:<22} {:>19}", "", "bytes");
        let per_series = self.file.bytes.checked_div(self.series).unwrap_or_default();
        line(&mut out, "a series, on average", per_series, &bytes(per_series));
        line(&mut out, "an instance's file", self.file.bytes, &self.blocks());
        line(&mut out, "all archives", archives, &bytes(archives));
        line(&mut out, "the journal", self.journal, &bytes(self.journal));
        line(&mut out, "together", total, &bytes(total));
        let _written = writeln!(
            out,
            "\nThis never grows with time: all of it is allocated before the first sample is acknowledged.\n\
             Beside it come about two times 500 bytes an instance for the registry's snapshots, and the\n\
             mail files. A series whose labels take over {USUAL_KEY_BYTES} bytes may need a block more."
        );
        out
    }

    /// Such as `20,480 + blocks of 4, 16 and 2 x 64 columns`.
    fn blocks(&self) -> String {
        let mut widths: Vec<(u32, usize)> = Vec::new();
        for block in &self.file.blocks {
            match widths.last_mut().filter(|(width, _)| *width == block.columns) {
                Some((_, times)) => *times += 1,
                None => widths.push((block.columns, 1)),
            }
        }
        if widths.is_empty() {
            return "no series, no file".to_owned();
        }
        let words: Vec<String> = widths
            .iter()
            .map(|(width, times)| match times {
                1 => width.to_string(),
                _ => format!("{times} x {width}"),
            })
            .collect();
        format!("{}; blocks of {} columns", bytes(self.file.bytes), words.join(" + "))
    }

    fn json(&self, (archives, total): (u64, u64)) -> String {
        let rows = self.policy.archives().iter().map(|archive| {
            serde_json::json!({
                "step_ms": archive.step.as_millis(),
                "zone": archive.days.map(rrd::Calendar::zone),
                "rows": archive.row_count,
                "reach_ms": archive.row_count.saturating_mul(archive.step.as_millis()),
            })
        });
        let blocks = self
            .file
            .blocks
            .iter()
            .map(|block| serde_json::json!({ "columns": block.columns, "bytes": block.bytes }));
        let json = serde_json::json!({
            "policy": self.policy.to_string(),
            "cell": self.cell(),
            "series": self.series,
            "instances": self.instances,
            "archives": rows.collect::<Vec<_>>(),
            "head_bytes": self.file.head_bytes,
            "blocks": blocks.collect::<Vec<_>>(),
            "instance_bytes": self.file.bytes,
            "archives_bytes": archives,
            "journal_bytes": self.journal,
            "total_bytes": total,
        });
        format!("{json:#}\n")
    }
}
