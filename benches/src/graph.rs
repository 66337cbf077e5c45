//! Drawing a day of four series as SVG.

use anyhow::Result;

use crate::data::moment;
use crate::meter::{median, micros, timed};
use crate::peer::Rrdtool;
use crate::read;
use crate::table::{Table, Theirs};

const DRAWINGS: usize = 101;
const PEER_DRAWINGS: usize = 21;
const COLOURS: [&str; 4] = ["0000ff", "ff8800", "008800", "880088"];

pub(crate) fn run(peer: Option<&mut Rrdtool>, table: &mut Table) -> Result<()> {
    let mut times = Vec::with_capacity(DRAWINGS);
    for _ in 0..DRAWINGS {
        let (svg, time) = timed(web::render_sample_svg);
        anyhow::ensure!(svg.starts_with("<svg"), "no SVG");
        times.push(time);
    }
    let ours = median(times);
    let theirs = match peer {
        None => Theirs::NotRun,
        Some(peer) => {
            let theirs = draw_peer(peer)?;
            let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
            Theirs::Measured { figure: micros(theirs), ratio }
        }
    };
    let note = "median, 1,440 points a line, 800 x 300; rrdtool: graph by pipe, reading four files";
    table.add("SVG of 24 h of four series", micros(ours), theirs, note);
    Ok(())
}

fn draw_peer(peer: &mut Rrdtool) -> Result<std::time::Duration> {
    for series in 1..4 {
        read::fill(peer, &format!("day{series}.rrd"), series)?;
    }
    let (start, end) = (moment(0).as_millis() / 1000, moment(1440).as_millis() / 1000);
    let lines = [0, 1, 2, 3].map(|n| {
        let colour = COLOURS[n];
        format!(" DEF:v{n}=day{n}.rrd:v:AVERAGE LINE1:v{n}#{colour}:\"series {n}\"")
    });
    let lines = lines.concat();
    let command =
        format!("graph day.svg -a SVG -s {start} -e {end} -w 800 -h 300 -t Sample{lines}");
    let mut times = Vec::with_capacity(PEER_DRAWINGS);
    for _ in 0..PEER_DRAWINGS {
        let (answer, time) = timed(|| peer.run(&command));
        answer?;
        times.push(time);
    }
    Ok(median(times))
}
