//! InfluxDB's line protocol: from the text of a write to series.
//!
//! A field is a series: `{measurement}_{field}`, the field `value` just `{measurement}`. Tags are
//! labels, the tag `host` names the instance, the database or bucket is the job.

mod line;

use rrd::{Labels, Timestamp};

use crate::accounting::Reason;
use crate::foreign::spelling::{Pairs, label_name, metric_name, place};
use crate::foreign::{Named, Sorted, Sorter, Unread, checked_pairs, shown_pairs};
use crate::limits::LABEL_COUNT_LIMIT;
use line::{Line, Lines, Value, tags, unescaped};

/// Fields of one write: a batch of 5,000 lines, as clients send at most, has some ten each.
pub(crate) const FIELD_LIMIT: usize = 100_000;
/// Series of one write that were not seen before; the client sends the rest in the next.
pub(crate) const STRANGER_LIMIT: usize = 20_000;

/// The job of a write that names no database.
const NAMELESS: &str = "influx";

/// The unit of a write's timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// Parts of a millisecond.
    Finer(i64),
    /// Milliseconds in one.
    Coarser(i64),
}

impl Precision {
    /// The unit that a client's parameter names, in either version's words.
    pub(crate) fn of(text: &str) -> Option<Self> {
        Some(match text {
            "" | "n" | "ns" => Self::Finer(1_000_000),
            "u" | "us" | "µ" => Self::Finer(1_000),
            "ms" => Self::Finer(1),
            "s" => Self::Coarser(1_000),
            "m" => Self::Coarser(60_000),
            "h" => Self::Coarser(3_600_000),
            _ => return None,
        })
    }

    /// A moment beyond all time is the end of it: the window of samples refuses that.
    fn moment(self, count: i64) -> Timestamp {
        Timestamp::from_millis(match self {
            Self::Finer(parts) => count.div_euclid(parts),
            Self::Coarser(millis) => count.saturating_mul(millis),
        })
    }
}

/// What a write says beside its lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) database: &'a str,
    pub(crate) precision: Precision,
    /// The time of lines without one.
    pub(crate) now: Timestamp,
}

/// The write holds more than is taken at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMuch;

/// Reads the lines in `text` into `sorter`; a line that cannot be read is refused by itself, texts
/// are passed over and counted.
pub(crate) fn sort(
    text: &[u8],
    context: Context<'_>,
    mut sorter: Sorter<'_>,
) -> Result<Sorted, TooMuch> {
    let job = if context.database.is_empty() { NAMELESS } else { context.database };
    let mut lines = Lines::of(text);
    let (mut fields, mut key) = (0, Vec::new());
    while let Some(read) = lines.next() {
        let line = match read {
            Ok(line) => line,
            Err(bad) => {
                sorter.refuse(Reason::Malformed, 1, &Unread(bad.text), bad.why);
                continue;
            }
        };
        fields += line.fields.len();
        if fields > FIELD_LIMIT || sorter.sorted.strangers.len() > STRANGER_LIMIT {
            return Err(TooMuch);
        }
        let at = line.at.map_or(context.now, |count| context.precision.moment(count));
        take(&mut sorter, job, &line, (at, &mut key));
    }
    Ok(sorter.sorted)
}

fn take(sorter: &mut Sorter<'_>, job: &str, line: &Line<'_>, (at, key): (Timestamp, &mut Vec<u8>)) {
    key.clear();
    for part in [job.as_bytes(), line.measurement, line.tags] {
        key.extend_from_slice(part);
        key.push(0);
    }
    let front = key.len();
    for (field, value) in line.fields {
        let Value::Number(value) = *value else {
            sorter.sorted.refusals.pass_over(Reason::Text, 1);
            continue;
        };
        key.truncate(front);
        key.extend_from_slice(field);
        let name = Series { job, measurement: line.measurement, tags: line.tags, field };
        sorter.series(key, &name, (&[(at, value)], None));
    }
}

/// A field of a line, as it was written.
struct Series<'a> {
    job: &'a str,
    measurement: &'a [u8],
    tags: &'a [u8],
    field: &'a [u8],
}

impl Series<'_> {
    /// Names and values of all labels, as sent but for spelling.
    fn pairs(&self) -> Pairs {
        let text = |bytes| String::from_utf8_lossy(&unescaped(bytes)).into_owned();
        let (measurement, field) = (text(self.measurement), text(self.field));
        let name = if field == "value" { measurement } else { format!("{measurement}_{field}") };
        let mut pairs = vec![(rrd::NAME.to_owned(), metric_name(&name))];
        // One more than is taken, for the limit to see.
        pairs.extend(
            tags(self.tags)
                .take(LABEL_COUNT_LIMIT + 1)
                .map(|(name, value)| (label_name(&text(name)), text(value))),
        );
        place(&mut pairs, self.job);
        pairs
    }
}

impl Named for Series<'_> {
    fn labels(&self) -> Result<Labels, (Reason, String)> {
        let parts = [self.measurement, self.tags, self.field];
        if parts.iter().any(|part| str::from_utf8(part).is_err()) {
            let message = "the line cannot be read as UTF-8; send it as UTF-8";
            return Err((Reason::BadLabel, message.to_owned()));
        }
        checked_pairs(&self.pairs())
    }

    fn shown(&self) -> String {
        shown_pairs(self.pairs().into_iter())
    }
}

#[cfg(test)]
mod tests;
