//! Names: what StatsD calls a metric and its tags, in the letters that queries take.

use super::line::MetricKind;

/// Bytes of a name, or of a tag's name or value.
const TEXT_MAX: usize = 200;
/// Tags of one metric.
const TAGS_MAX: usize = 20;
/// What the server says of an instance; a tag of that name would hide it.
const TAKEN: [&str; 3] = ["job", "instance", "quantile"];

/// Writes the key of a series into `key`: its kind, its name, and its tags sorted, each ended by a zero
/// byte. `None` when it is longer than series are.
pub(super) fn write_key(
    kind: MetricKind,
    (name, tags): (&str, &str),
    key: &mut String,
) -> Option<()> {
    key.clear();
    key.push(match kind {
        MetricKind::Counter => 'c',
        MetricKind::Gauge => 'g',
        MetricKind::Timer => 'm',
        MetricKind::Histogram => 'h',
        MetricKind::Set => 's',
    });
    if name.len() > TEXT_MAX {
        return None;
    }
    write_name(name, ":", key);
    key.push('\0');
    let mut labels = labels(tags)?;
    labels.sort();
    // Of two tags of one name the first in order stays, so that a series has one key.
    labels.dedup_by(|later, former| later.0 == former.0);
    for (name, value) in labels {
        key.push_str(&name);
        key.push('\0');
        key.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
        key.push('\0');
    }
    Some(())
}

fn labels(tags: &str) -> Option<Vec<(String, &str)>> {
    let mut labels = Vec::new();
    for tag in tags.split(',').filter(|tag| !tag.is_empty()) {
        // A word alone is a tag that is there or not.
        let (name, value) = tag.split_once(':').unwrap_or((tag, "true"));
        if labels.len() == TAGS_MAX || name.len() > TEXT_MAX || value.len() > TEXT_MAX {
            return None;
        }
        let mut label = String::new();
        if TAKEN.contains(&name) || name.starts_with("__") {
            label.push_str("exported_");
        }
        write_name(name, "", &mut label);
        if !label.is_empty() && !value.is_empty() {
            labels.push((label, value));
        }
    }
    Some(labels)
}

/// Writes a name in letters, digits and underscores, and those in `more`.
fn write_name(name: &str, more: &str, into: &mut String) {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        into.push('_');
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || more.contains(c);
    into.extend(name.chars().map(|c| if plain(c) { c } else { '_' }));
}

/// A series of a key: its name, and its labels.
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    pub(super) labels: Vec<(&'a str, &'a str)>,
    pub(super) kind: MetricKind,
}

/// Reads a key.
pub(super) fn of_key(key: &str) -> Series<'_> {
    let mut parts = key.split_terminator('\0');
    let head = parts.next().unwrap_or_default();
    let (kind, name) = head.split_at_checked(1).unwrap_or_default();
    let kind = match kind {
        "c" => MetricKind::Counter,
        "m" => MetricKind::Timer,
        "h" => MetricKind::Histogram,
        "s" => MetricKind::Set,
        _ => MetricKind::Gauge,
    };
    let labels = std::iter::from_fn(|| Some((parts.next()?, parts.next()?))).collect();
    Series { name, labels, kind }
}

impl Series<'_> {
    /// The name that its readings begin with: without the unit that milliseconds lose, and with the one
    /// they get.
    pub(super) fn base(&self) -> String {
        let name = self.name;
        match self.kind {
            MetricKind::Counter => name.strip_suffix("_total").unwrap_or(name).to_owned(),
            MetricKind::Timer => {
                let units = ["_seconds", "_milliseconds", "_ms"];
                let bare = units.iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name);
                format!("{bare}_seconds")
            }
            _ => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: MetricKind, name: &str, tags: &str) -> Option<String> {
        let mut key = String::new();
        write_key(kind, (name, tags), &mut key)?;
        let series = of_key(&key);
        let labels: Vec<String> = series.labels.iter().map(|(n, v)| format!("{n}={v}")).collect();
        Some(format!("{}{{{}}}", series.base(), labels.join(",")))
    }

    #[test]
    fn names_and_tags_are_written_as_queries_take_them() {
        let gauge = MetricKind::Gauge;
        for (kind, name, tags, expected) in [
            (gauge, "web.requests-open", "", "web_requests_open{}"),
            (gauge, "7up", "", "_7up{}"),
            (gauge, "größe", "", "gr__e{}"),
            (gauge, "a", "z:1,b:x:y,flag", "a{b=x:y,flag=true,z=1}"),
            (gauge, "a", "k:1,k:0,,e:", "a{k=0}"),
            (
                gauge,
                "a",
                "job:x,instance:y,__name__:z",
                "a{exported___name__=z,exported_instance=y,exported_job=x}",
            ),
            (MetricKind::Histogram, "a", "quantile:x", "a{exported_quantile=x}"),
            (MetricKind::Counter, "hits_total", "", "hits{}"),
            (MetricKind::Timer, "db.query", "", "db_query_seconds{}"),
            (MetricKind::Timer, "db.query_ms", "", "db_query_seconds{}"),
            (MetricKind::Set, "users", "a:\u{1}b", "users{a= b}"),
        ] {
            assert_eq!(shown(kind, name, tags).as_deref(), Some(expected), "{name} {tags}");
        }
    }

    #[test]
    fn what_is_too_long_has_no_key() {
        let long = "x".repeat(TEXT_MAX + 1);
        let many: Vec<String> = (0..=TAGS_MAX).map(|n| format!("t{n}:1")).collect();
        for (name, tags) in [
            (long.as_str(), ""),
            ("a", long.as_str()),
            ("a", &format!("k:{long}")),
            ("a", &many.join(",")),
        ] {
            assert_eq!(shown(MetricKind::Gauge, name, tags), None);
        }
    }
}
