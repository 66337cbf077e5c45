//! `dump`: a file as rrdtool's XML, which `rrdtool restore` reads.

use super::archive::Archive;
use super::arguments::{Flag, Given, Takes};
use super::calendar::Civil;
use super::define::{View, kind_name};
use super::look::{open_row, open_step, reading};
use super::number::{Printed, add};
use super::{Caller, Output, refuse};

pub(super) const HELP: &str = "Print a whole file as XML, which \"rrdtool restore\" reads

Usage: roundel rrd dump FILE [-n]

  -n, --no-header   Leave the XML declaration and the document type out
";

const OPTIONS: [Flag; 2] =
    [Flag('n', "no-header", Takes::Nothing), Flag('d', "daemon", Takes::Value)];

const HEADER: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>
<!DOCTYPE rrd SYSTEM \"https://oss.oetiker.ch/rrdtool/rrdtool.dtd\">
";

pub(super) fn dump(caller: &Caller<'_>, words: &[&str]) -> Output {
    let given = Given::parse(words, &OPTIONS)?;
    let (path, rest) = given.file()?;
    if let [extra, ..] = rest {
        return refuse(format!("{extra:?}: the dump goes to standard output; redirect it"));
    }
    let header = if given.has("no-header") { "" } else { HEADER };
    Archive::read(caller, path, |archive| {
        let mut text = format!(
            "{header}<!-- Round Robin Database Dump -->\n<rrd>\n\t<version>0003</version>\n\t<step>{}</step> <!-- Seconds -->\n\t<lastupdate>{}</lastupdate> <!-- {} -->\n",
            archive.step_s(),
            archive.last_s(),
            Moment(archive.last_s()),
        );
        for column in 0..archive.sources.len() {
            text += &source(archive, column);
        }
        text += "\n\t<!-- Round Robin Archives -->\n";
        for view in &archive.views {
            text += &rows(archive, view);
        }
        Ok(text + "</rrd>\n")
    })
}

fn source(archive: &Archive, column: usize) -> String {
    let (source, open) = &archive.sources[column];
    let definition = source.definition;
    let (value, unknown_s) = open_step(archive, open);
    format!(
        "\n\t<ds>\n\t\t<name> {} </name>\n\t\t<type> {} </type>\n\t\t<minimal_heartbeat>{}</minimal_heartbeat>\n\t\t<min>{}</min>\n\t\t<max>{}</max>\n\n\t\t<!-- PDP Status -->\n\t\t<last_ds>{}</last_ds>\n\t\t<value>{}</value>\n\t\t<unknown_sec> {unknown_s} </unknown_sec>\n\t</ds>\n",
        source.name,
        kind_name(definition.kind),
        definition.heartbeat_ms / 1000,
        Printed(definition.min, "NaN"),
        Printed(definition.max, "NaN"),
        reading(open, definition.kind),
        Printed(value, "NaN"),
    )
}

fn rows(archive: &Archive, view: &View) -> String {
    let mut text = format!(
        "\t<rra>\n\t\t<cf>{}</cf>\n\t\t<pdp_per_row>{}</pdp_per_row> <!-- {} seconds -->\n\n\t\t<params>\n\t\t<xff>{}</xff>\n\t\t</params>\n\t\t<cdp_prep>\n",
        view.function.name(),
        view.per_row,
        view.row_s(archive.step),
        Printed(view.xff, "NaN"),
    );
    for column in 0..archive.sources.len() {
        let (value, unknown) = open_row(archive, view, column);
        add(
            &mut text,
            format_args!(
                "\t\t\t<ds>\n\t\t\t<primary_value>{zero}</primary_value>\n\t\t\t<secondary_value>{zero}</secondary_value>\n\t\t\t<value>{}</value>\n\t\t\t<unknown_datapoints>{unknown}</unknown_datapoints>\n\t\t\t</ds>\n",
                Printed(value, "NaN"),
                zero = Printed(0.0, "NaN")
            ),
        );
    }
    text += "\t\t</cdp_prep>\n\t\t<database>\n";
    let table = archive.whole(view);
    let ends_s = (0..).map(|row| table.first_end_s + row * table.row_s);
    for (row, end_s) in table.rows.iter().zip(ends_s) {
        add(&mut text, format_args!("\t\t\t<!-- {} / {end_s} --> <row>", Moment(end_s)));
        for value in row {
            add(&mut text, format_args!("<v>{}</v>", Printed(*value, "NaN")));
        }
        text += "</row>\n";
    }
    text + "\t\t</database>\n\t</rra>\n"
}

/// Seconds since 1970 as date and time of UTC.
struct Moment(i64);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Civil { year, month, day, second } = Civil::of(self.0);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC", second % 60)
    }
}
