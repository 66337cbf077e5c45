//! The XML form, written: what `rrdtool restore` takes and goes on from.

use std::io::{self, Write};

use super::{Dump, Rra, Source, SourceKind};
use crate::Kind;

/// Writes `dump` as `rrdtool dump` would. Its archives hold functions that are kept alone.
pub fn write_xml(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    let is_decimal = |source: &Source| {
        matches!(source.kind, SourceKind::Known(Kind::DCounter | Kind::DDerive | Kind::Total))
    };
    // Decimal counters came with 0005; an rrdtool that does not know them says so.
    let version = if dump.sources.iter().any(is_decimal) { "0005" } else { "0003" };
    writeln!(out, "<?xml version=\"1.0\" encoding=\"utf-8\"?>")?;
    writeln!(out, "<rrd>\n\t<version>{version}</version>\n\t<step>{}</step>", dump.step_s)?;
    writeln!(out, "\t<lastupdate>{}</lastupdate>", dump.last_update.as_millis().div_euclid(1000))?;
    for source in &dump.sources {
        write_source(source, out)?;
    }
    for rra in dump.archives.iter().filter(|rra| rra.function.is_kept()) {
        write_rra(dump, rra, out)?;
    }
    writeln!(out, "</rrd>")
}

fn write_source(source: &Source, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\t<ds>\n\t\t<name> {} </name>", source.name)?;
    writeln!(out, "\t\t<type> {} </type>", source.kind.name())?;
    writeln!(out, "\t\t<minimal_heartbeat>{}</minimal_heartbeat>", source.heartbeat_s)?;
    writeln!(out, "\t\t<min>{}</min>", Number(source.min))?;
    writeln!(out, "\t\t<max>{}</max>", Number(source.max))?;
    writeln!(out, "\t\t<last_ds>{}</last_ds>", source.last_reading)?;
    writeln!(out, "\t\t<value>{}</value>", Number(source.value))?;
    writeln!(out, "\t\t<unknown_sec> {} </unknown_sec>\n\t</ds>", source.unknown_s)
}

fn write_rra(dump: &Dump, rra: &Rra, out: &mut dyn Write) -> io::Result<()> {
    let Rra { function, steps_per_row, xff, prepared, .. } = rra;
    writeln!(out, "\t<rra>\n\t\t<cf>{}</cf>", function.name())?;
    writeln!(out, "\t\t<pdp_per_row>{steps_per_row}</pdp_per_row>")?;
    writeln!(out, "\t\t<params>\n\t\t<xff>{}</xff>\n\t\t</params>\n\t\t<cdp_prep>", Number(*xff))?;
    for open in prepared {
        writeln!(out, "\t\t\t<ds>\n\t\t\t<primary_value>NaN</primary_value>")?;
        writeln!(out, "\t\t\t<secondary_value>NaN</secondary_value>")?;
        writeln!(out, "\t\t\t<value>{}</value>", Number(open.value))?;
        let unknown = open.unknown_steps;
        writeln!(out, "\t\t\t<unknown_datapoints>{unknown}</unknown_datapoints>\n\t\t\t</ds>")?;
    }
    writeln!(out, "\t\t</cdp_prep>\n\t\t<database>")?;
    for (end, row) in dump.rows(rra) {
        write!(out, "\t\t\t<!-- {end} --> <row>")?;
        for value in row {
            write!(out, "<v>{}</v>", Number(*value))?;
        }
        writeln!(out, "</row>")?;
    }
    writeln!(out, "\t\t</database>\n\t</rra>")
}

/// A number as rrdtool writes and reads it, with every digit it has.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            value if value.is_infinite() => f.write_str(if value > 0.0 { "inf" } else { "-inf" }),
            value => write!(f, "{value:e}"),
        }
    }
}
