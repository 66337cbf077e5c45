//! Reading a day of one series at one minute.

use anyhow::Result;
use rrd::Span;

use crate::apply::{self, Applied};
use crate::data::{moment, value};
use crate::meter::{median, micros, timed};
use crate::peer::Rrdtool;
use crate::table::{Table, Theirs};

const READS: usize = 1001;
const PEER_READS: usize = 101;
const DAY_MS: i64 = 86_400_000;
const DAY_MINUTES: i64 = 1440;

pub(crate) fn run(applied: &Applied, peer: Option<&mut Rrdtool>, table: &mut Table) -> Result<()> {
    let end = Applied::end();
    let span = Span::new(end.plus_millis(-DAY_MS), end).expect("a day ends after it starts");
    let mut times = Vec::with_capacity(READS);
    for number in 0..READS {
        let series = applied.series(number);
        let (rows, time) = timed(|| applied.store.rows(series, 0, span));
        anyhow::ensure!(rows.average.len() == 1440, "{} rows of a day", rows.average.len());
        anyhow::ensure!(rows.average.iter().all(|value| value.is_finite()), "an unknown row");
        times.push(time);
    }
    let ours = median(times);
    let theirs = match peer {
        None => Theirs::NotRun,
        Some(peer) => {
            let theirs = read_peer(peer)?;
            let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
            Theirs::Measured { figure: micros(theirs), ratio }
        }
    };
    let note =
        "median, files warm, ours in process; rrdtool: fetch by pipe, its text answer read whole";
    table.add("read 24 h of one series at 1 min", micros(ours), theirs, note);
    Ok(())
}

/// The file that graphs are drawn from, too.
pub(crate) fn read_peer(peer: &mut Rrdtool) -> Result<std::time::Duration> {
    fill(peer, "day0.rrd", 0)?;
    let (start, end) = (moment(1).as_millis() / 1000, moment(DAY_MINUTES).as_millis() / 1000);
    let command = format!("fetch day0.rrd AVERAGE -r 60 -s {start} -e {}", end - 1);
    let mut times = Vec::with_capacity(PEER_READS);
    for _ in 0..PEER_READS {
        let (answer, time) = timed(|| peer.run(&command));
        let rows = answer?.lines().filter(|line| line.contains(": ")).count();
        anyhow::ensure!(rows >= 1439, "{rows} rows of a day");
        times.push(time);
    }
    Ok(median(times))
}

/// An rrdtool file of a day of one series.
pub(crate) fn fill(peer: &mut Rrdtool, file: &str, series: usize) -> Result<()> {
    peer.run(&apply::create(file))?;
    for hour in 0..24 {
        let steps = hour * 60 + 1..=hour * 60 + 60;
        let reading = |step| format!("{}:{}", moment(step).as_millis() / 1000, value(series, step));
        let readings: Vec<String> = steps.map(reading).collect();
        peer.run(&format!("update {file} {}", readings.join(" ")))?;
    }
    Ok(())
}
