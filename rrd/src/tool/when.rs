//! Times as people write them: seconds since 1970, dates, and offsets from now, start or end.

use super::calendar::Civil;
use super::{Caller, ToolError, refuse};

/// A day and a second of it are 8 digits; numbers from ten years after 1970 on are seconds.
const FIRST_EPOCH_S: i64 = 315_360_000;
/// Beyond a million years a time is a mistake, and sums of times could overflow.
const LAST_S: i64 = 1 << 45;
const DAY_S: i64 = 86_400;

/// What an offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anchor {
    At(i64),
    Start,
    End,
}

/// A time as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct When {
    anchor: Anchor,
    months: i64,
    seconds: i64,
}

/// The texts of a span of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanText<'a> {
    pub(super) start: &'a str,
    pub(super) end: &'a str,
}

impl SpanText<'_> {
    /// Start and end in seconds since 1970.
    pub(super) fn resolve(&self, caller: &Caller<'_>) -> Result<(i64, i64), ToolError> {
        let start = When::parse(caller, "start", self.start)?;
        let end = When::parse(caller, "end", self.end)?;
        let (start_s, end_s) = match (start.anchor, end.anchor) {
            (Anchor::Start, _) => return refuse("--start: it cannot count from itself"),
            (_, Anchor::End) => return refuse("--end: it cannot count from itself"),
            (Anchor::End, Anchor::Start) => {
                return refuse("--start and --end count from each other; fix one of them");
            }
            (Anchor::End, Anchor::At(end_at)) => {
                let end_s = end.from(caller, end_at);
                (start.from(caller, end_s), end_s)
            }
            (Anchor::At(start_at), Anchor::Start) => {
                let start_s = start.from(caller, start_at);
                (start_s, end.from(caller, start_s))
            }
            (Anchor::At(start_at), Anchor::At(end_at)) => {
                (start.from(caller, start_at), end.from(caller, end_at))
            }
        };
        check("start", self.start, start_s)?;
        check("end", self.end, end_s)?;
        Ok((start_s, end_s))
    }
}

/// One time that stands alone, in seconds since 1970.
pub(super) fn moment(caller: &Caller<'_>, what: &str, text: &str) -> Result<i64, ToolError> {
    let when = When::parse(caller, what, text)?;
    let Anchor::At(at) = when.anchor else {
        return refuse(format!("{what} {text:?}: there is no span to count from"));
    };
    check(what, text, when.from(caller, at))
}

fn check(what: &str, text: &str, seconds: i64) -> Result<i64, ToolError> {
    if seconds.abs() > LAST_S {
        return refuse(format!("{what} {text:?}: that is further than a million years away"));
    }
    Ok(seconds)
}

impl When {
    fn from(self, caller: &Caller<'_>, anchor_s: i64) -> i64 {
        let moved = match self.months {
            0 => anchor_s,
            months => caller.moment(caller.civil(anchor_s).plus_months(months)),
        };
        moved + self.seconds
    }

    fn parse(caller: &Caller<'_>, what: &str, text: &str) -> Result<Self, ToolError> {
        let wrong = || {
            ToolError::Refused(format!(
                "{what} {text:?}: write seconds since 1970, now, YYYYMMDD or HH:MM YYYYMMDD, with an offset as in now-1d"
            ))
        };
        let lower = text.to_ascii_lowercase();
        let offset_at = lower.find(['+', '-']).unwrap_or(lower.len());
        let (reference, offset) = lower.split_at(offset_at);
        let anchor = match reference.trim() {
            "" if offset.is_empty() => return Err(wrong()),
            "" | "now" | "n" => Anchor::At(caller.now.as_millis().div_euclid(1000)),
            "start" | "s" if !offset.is_empty() => Anchor::Start,
            "end" | "e" if !offset.is_empty() => Anchor::End,
            "epoch" if !offset.is_empty() => Anchor::At(0),
            other => Anchor::At(date(caller, other).ok_or_else(wrong)?),
        };
        let (months, seconds) = parse_offset(offset).ok_or_else(wrong)?;
        Ok(Self { anchor, months, seconds })
    }
}

/// A number of seconds, a day, a time of day, or both.
fn date(caller: &Caller<'_>, text: &str) -> Option<i64> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let today = Civil { second: 0, ..caller.civil(caller.now.as_millis().div_euclid(1000)) };
    match words[..] {
        [word] => {
            if let Some(seconds) = epoch(word) {
                return Some(seconds);
            }
            let civil = match (day(word), time_of_day(word)) {
                (Some(day), _) => day,
                (None, Some(second)) => Civil { second, ..today },
                (None, None) => return None,
            };
            Some(caller.moment(civil))
        }
        [first, second] => {
            let (date, time) = match (day(first), day(second)) {
                (Some(day), None) => (day, second),
                (None, Some(day)) => (day, first),
                _ => return None,
            };
            Some(caller.moment(Civil { second: time_of_day(time)?, ..date }))
        }
        _ => None,
    }
}

fn epoch(word: &str) -> Option<i64> {
    let is_digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = word.parse().ok().filter(|_| is_digits)?;
    (FIRST_EPOCH_S..=LAST_S).contains(&seconds).then_some(seconds)
}

fn day(word: &str) -> Option<Civil> {
    let number: i64 = word.parse().ok().filter(|_| word.len() == 8)?;
    let civil =
        Civil { year: number / 10_000, month: number / 100 % 100, day: number % 100, second: 0 };
    // A day that is not in the calendar comes back as another one.
    let is_one = civil.year >= 1971 && (1..=12).contains(&civil.month) && civil.day > 0;
    (is_one && Civil::of(civil.seconds()) == civil).then_some(civil)
}

/// `HH:MM`, the hour alone, or a word for it, as seconds since midnight.
fn time_of_day(word: &str) -> Option<i64> {
    match word {
        "midnight" => return Some(0),
        "noon" => return Some(DAY_S / 2),
        _ => {}
    }
    let (hour, minute) = word.split_once(':').unwrap_or((word, "0"));
    let number = |text: &str| {
        let is_plain = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|_| is_plain)
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    (hour < 24 && minute < 60).then_some(hour * 3600 + minute * 60)
}

/// Months and seconds of `-1d`, `+2h30min` or `-1y2mon`: a sign holds until the next one.
fn parse_offset(text: &str) -> Option<(i64, i64)> {
    let (mut months, mut seconds, mut sign) = (0_i64, 0_i64, 1_i64);
    let mut rest = text.trim_end();
    while !rest.is_empty() {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(['+', '-']) {
            sign = if rest.starts_with('-') { -1 } else { 1 };
            rest = after.trim_start();
        }
        let digits_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (digits, after) = rest.split_at(digits_end);
        let after = after.trim_start();
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let number = digits.parse::<i64>().ok().filter(|number| *number <= LAST_S)? * sign;
        match unit_of(unit, number.abs())? {
            Unit::Months(width) => months = months.checked_add(number.checked_mul(width)?)?,
            Unit::Seconds(width) => seconds = seconds.checked_add(number.checked_mul(width)?)?,
        }
        rest = after;
    }
    let is_near = months.abs() < LAST_S / (31 * DAY_S) && seconds.abs() <= LAST_S;
    is_near.then_some((months, seconds))
}

enum Unit {
    Months(i64),
    Seconds(i64),
}

/// `m` alone is months below six and minutes from there on, as rrdtool guesses.
fn unit_of(word: &str, number: i64) -> Option<Unit> {
    let one = word.strip_suffix('s').filter(|one| !one.is_empty()).unwrap_or(word);
    Some(match one {
        "" | "s" | "sec" | "second" => Unit::Seconds(1),
        "m" if number < 6 => Unit::Months(1),
        "m" | "min" | "minute" => Unit::Seconds(60),
        "h" | "hour" => Unit::Seconds(3600),
        "d" | "day" => Unit::Seconds(DAY_S),
        "w" | "week" => Unit::Seconds(7 * DAY_S),
        "mon" | "month" => Unit::Months(1),
        "y" | "year" => Unit::Months(12),
        _ => return None,
    })
}
