//! A round-robin database as rrdtool's XML, which `rrdtool restore` takes and goes on from.

use std::fmt;
use std::io::{self, Write};

use super::calendar::Civil;
use super::number::Printed;
use crate::Kind;
use crate::import::{Dump, Rra, Source, SourceKind};

/// How many digits numbers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digits {
    /// As many as rrdtool prints.
    Eleven,
    /// As many as tell the number from all others.
    All,
}

/// The declaration and the document type, as rrdtool has them.
pub(super) const HEADER: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>
<!DOCTYPE rrd SYSTEM \"https://oss.oetiker.ch/rrdtool/rrdtool.dtd\">
";

/// Writes `dump` as `rrdtool dump` does, with all digits of its numbers. Archives whose function is
/// none that we keep are left out.
pub fn write_xml(dump: &Dump, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(HEADER.as_bytes())?;
    write_body(dump, Digits::All, out)
}

/// All but the header.
pub(super) fn write_body(dump: &Dump, digits: Digits, out: &mut dyn Write) -> io::Result<()> {
    let last_s = dump.last_update.as_millis().div_euclid(1000);
    writeln!(out, "<!-- Round Robin Database Dump -->\n<rrd>")?;
    writeln!(out, "\t<version>{}</version>", version(dump))?;
    writeln!(out, "\t<step>{}</step> <!-- Seconds -->", dump.step_s)?;
    writeln!(out, "\t<lastupdate>{last_s}</lastupdate> <!-- {} -->", Moment(last_s))?;
    for source in &dump.sources {
        write_source(source, digits, out)?;
    }
    writeln!(out, "\n\t<!-- Round Robin Archives -->")?;
    for rra in dump.archives.iter().filter(|rra| rra.function.is_kept()) {
        write_rra(dump, rra, digits, out)?;
    }
    writeln!(out, "</rrd>")
}

/// Decimal counters came with 0005; an rrdtool that does not know them says so.
fn version(dump: &Dump) -> &'static str {
    let is_decimal = |source: &Source| {
        matches!(source.kind, SourceKind::Known(Kind::DCounter | Kind::DDerive | Kind::Total))
    };
    if dump.sources.iter().any(is_decimal) { "0005" } else { "0003" }
}

fn write_source(source: &Source, digits: Digits, out: &mut dyn Write) -> io::Result<()> {
    let number = |value| Number(value, digits);
    writeln!(out, "\n\t<ds>\n\t\t<name> {} </name>", source.name)?;
    writeln!(out, "\t\t<type> {} </type>", source.kind.name())?;
    writeln!(out, "\t\t<minimal_heartbeat>{}</minimal_heartbeat>", source.heartbeat_s)?;
    writeln!(out, "\t\t<min>{}</min>", number(source.min))?;
    writeln!(out, "\t\t<max>{}</max>", number(source.max))?;
    writeln!(out, "\n\t\t<!-- PDP Status -->")?;
    writeln!(out, "\t\t<last_ds>{}</last_ds>", source.last_reading)?;
    writeln!(out, "\t\t<value>{}</value>", number(source.value))?;
    writeln!(out, "\t\t<unknown_sec> {} </unknown_sec>\n\t</ds>", source.unknown_s)
}

fn write_rra(dump: &Dump, rra: &Rra, digits: Digits, out: &mut dyn Write) -> io::Result<()> {
    let number = |value| Number(value, digits);
    let Rra { function, steps_per_row, xff, prepared, .. } = rra;
    writeln!(out, "\t<rra>\n\t\t<cf>{}</cf>", function.name())?;
    let width_s = dump.width_s(rra);
    writeln!(out, "\t\t<pdp_per_row>{steps_per_row}</pdp_per_row> <!-- {width_s} seconds -->")?;
    writeln!(
        out,
        "\n\t\t<params>\n\t\t<xff>{}</xff>\n\t\t</params>\n\t\t<cdp_prep>",
        number(*xff)
    )?;
    for open in prepared {
        let zero = number(0.0);
        writeln!(out, "\t\t\t<ds>\n\t\t\t<primary_value>{zero}</primary_value>")?;
        writeln!(out, "\t\t\t<secondary_value>{zero}</secondary_value>")?;
        writeln!(out, "\t\t\t<value>{}</value>", number(open.value))?;
        let unknown = open.unknown_steps;
        writeln!(out, "\t\t\t<unknown_datapoints>{unknown}</unknown_datapoints>\n\t\t\t</ds>")?;
    }
    writeln!(out, "\t\t</cdp_prep>\n\t\t<database>")?;
    for (end_s, row) in dump.rows(rra) {
        write!(out, "\t\t\t<!-- {} / {end_s} --> <row>", Moment(end_s))?;
        for value in row {
            write!(out, "<v>{}</v>", number(*value))?;
        }
        writeln!(out, "</row>")?;
    }
    writeln!(out, "\t\t</database>\n\t</rra>")
}

/// A number as rrdtool writes and reads it.
#[derive(Clone, Copy)]
struct Number(f64, Digits);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, digits) = *self;
        if digits == Digits::All && value.is_finite() {
            return write!(f, "{value:e}");
        }
        Printed(value, "NaN").fmt(f)
    }
}

/// Seconds since 1970 as date and time of UTC.
struct Moment(i64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, second } = Civil::of(self.0);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC", second % 60)
    }
}
