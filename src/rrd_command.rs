//! `roundel rrd`: rrdtool's commands, which take their words as typed.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rrd::tool::{self, Answer, Caller};
use rrd::{Clock as _, OsDisk};

use crate::clock::SystemClock;

/// Commands beside those of rrdtool's.
const OWN: [&str; 2] = ["import", "export"];

/// The words after `roundel rrd`, if that is what was typed and the command is one of rrdtool's: their
/// options may stand anywhere, so that nobody else may read them first.
pub(crate) fn words() -> Option<Vec<OsString>> {
    let mut typed = std::env::args_os().skip(1);
    let words: Vec<OsString> = (typed.next()? == "rrd").then(|| typed.collect())?;
    let command = words.iter().find(|word| *word != "help");
    let is_own = command.is_some_and(|command| OWN.iter().any(|own| command == own));
    (!is_own).then_some(words)
}

/// Runs a command, says what it says and ends as it does.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let zone = TimeZone::system();
    let offset_s = |seconds| offset_s(&zone, seconds);
    let caller =
        Caller { disk: Arc::new(OsDisk), now: SystemClock::start().wall(), offset_s: &offset_s };
    let answer = match words.iter().map(|word| word.to_str()).collect::<Option<Vec<_>>>() {
        Some(words) => tool::run(&caller, &words),
        None => Answer { output: String::new(), error: not_utf8(words) },
    };
    // A reader that has seen enough, as `head` has, is no failure worth words.
    let is_said = std::io::stdout().write_all(answer.output.as_bytes()).is_ok()
        && std::io::stderr().write_all(answer.error.as_bytes()).is_ok();
    if answer.is_ok() && is_said { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Names the word that cannot be read as text.
fn not_utf8(words: &[OsString]) -> String {
    let word = words.iter().find(|word| word.to_str().is_none());
    let word = word.map(|word| word.to_string_lossy()).unwrap_or_default();
    format!("ERROR: {word:?}: not UTF-8; rename the file, or make a link with another name\n")
}

/// Seconds that local time is ahead of UTC; none where the moment is beyond the calendar.
fn offset_s(zone: &TimeZone, seconds: i64) -> i64 {
    let offset = Timestamp::from_second(seconds).map(|moment| zone.to_offset(moment).seconds());
    offset.map_or(0, i64::from)
}
