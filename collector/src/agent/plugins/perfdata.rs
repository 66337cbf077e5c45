//! Performance data of a Nagios plugin: `'label'=value[UOM];[warn];[crit];[min];[max]`, blank between two.

/// Values of one check that are taken; more come of a plugin that lists what has no end.
const VALUES_MAX: usize = 256;
/// Bytes of a label; the mount points and queues that plugins name are shorter.
const LABEL_MAX: usize = 200;

/// One value in base units.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Perfdata {
    pub(super) label: String,
    /// `None` where the plugin could not tell (`U`).
    pub(super) value: Option<f64>,
    pub(super) unit: Unit,
    pub(super) warning: Option<Range>,
    pub(super) critical: Option<Range>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

/// What a value counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Unit {
    None,
    Seconds,
    Bytes,
    /// 0 to 1, written in per cent.
    Ratio,
    /// A count that only rises.
    Count,
    /// A unit that we do not know, as it was written.
    Other(String),
}

/// The values that are good: within both ends, or without when it is turned round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) is_inverted: bool,
}

impl Unit {
    /// The unit as a label says it; empty where the value has none.
    pub(super) fn word(&self) -> &str {
        match self {
            Self::None | Self::Count => "",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
            Self::Other(word) => word,
        }
    }

    /// The unit written so, and what a value in it is multiplied with.
    ///
    /// The multiples of bytes are those of 1024, as the plugins that write them count.
    fn written(uom: &str) -> (Self, f64) {
        let bytes = |power: i32| (Self::Bytes, 1024_f64.powi(power));
        match uom {
            "" => (Self::None, 1.0),
            "s" => (Self::Seconds, 1.0),
            "ms" => (Self::Seconds, 1e-3),
            "us" => (Self::Seconds, 1e-6),
            "ns" => (Self::Seconds, 1e-9),
            "%" => (Self::Ratio, 0.01),
            "c" => (Self::Count, 1.0),
            "B" => bytes(0),
            "KB" | "kB" | "KiB" => bytes(1),
            "MB" | "MiB" => bytes(2),
            "GB" | "GiB" => bytes(3),
            "TB" | "TiB" => bytes(4),
            "PB" | "PiB" => bytes(5),
            other => (Self::Other(other.chars().take(32).collect()), 1.0),
        }
    }
}

impl Range {
    /// `10`, `10:`, `~:10`, `10:20` or `@10:20`; `None` for anything else.
    fn written(text: &str, factor: f64) -> Option<Self> {
        let (is_inverted, ends) = match text.strip_prefix('@') {
            Some(ends) => (true, ends),
            None => (false, text),
        };
        let (low, high) = ends.split_once(':').unwrap_or(("", ends));
        let end = |text: &str, open: f64| match text {
            "" => Some(open),
            text => number(text).map(|end| end * factor),
        };
        let low = if low == "~" { f64::NEG_INFINITY } else { end(low, 0.0)? };
        let high = end(high, f64::INFINITY)?;
        (!ends.is_empty() && low <= high).then_some(Self { low, high, is_inverted })
    }
}

/// The values in a text, each label once, and how many could not be read.
pub(super) fn parse(text: &str) -> (Vec<Perfdata>, usize) {
    let mut found: Vec<Perfdata> = Vec::new();
    let mut bad = 0;
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (token, tail) = token(rest);
        rest = tail.trim_start();
        match one(token) {
            Some(one)
                if found.len() >= VALUES_MAX || found.iter().any(|x| x.label == one.label) =>
            {
                bad += 1;
            }
            Some(one) => found.push(one),
            None => bad += 1,
        }
    }
    (found, bad)
}

/// The first token of a text, to the next blank outside of quotes, and what follows it.
fn token(text: &str) -> (&str, &str) {
    let mut is_quoted = false;
    // A quote inside of quotes is written twice, so that it ends and begins them at once.
    let end = text.find(|c: char| {
        is_quoted ^= c == '\'';
        !is_quoted && c.is_whitespace()
    });
    text.split_at(end.unwrap_or(text.len()))
}

fn one(token: &str) -> Option<Perfdata> {
    let (label, rest) = labelled(token)?;
    let mut fields = rest.split(';');
    let value = fields.next()?;
    let (value, uom) = if value.starts_with('U') { (None, "") } else { measured(value)? };
    let (unit, factor) = Unit::written(uom);
    let mut range = || Range::written(fields.next().unwrap_or_default(), factor);
    let (warning, critical) = (range(), range());
    let mut limit = || number(fields.next()?).map(|limit| limit * factor);
    let (min, max) = (limit(), limit());
    let value = value.map(|value| value * factor);
    Some(Perfdata { label, value, unit, warning, critical, min, max })
}

fn labelled(token: &str) -> Option<(String, &str)> {
    let (label, rest) = match token.strip_prefix('\'') {
        None => token.split_once('=').map(|(label, rest)| (label.to_owned(), rest))?,
        Some(quoted) => {
            let end = quoted.rfind("'=")?;
            (quoted.get(..end)?.replace("''", "'"), quoted.get(end + 2..)?)
        }
    };
    let good = !label.is_empty() && label.len() <= LABEL_MAX;
    (good && !label.chars().any(char::is_control)).then_some((label, rest))
}

/// A number and the unit behind it.
fn measured(text: &str) -> Option<(Option<f64>, &str)> {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or_default();
    let digits = |from: usize| {
        let len = bytes.iter().skip(from);
        from + len.take_while(|byte| matches!(byte, b'0'..=b'9' | b'.' | b',')).count()
    };
    let mut end = digits(usize::from(matches!(at(0), b'-' | b'+')));
    let exponent = end + 1 + usize::from(matches!(at(end + 1), b'-' | b'+'));
    if matches!(at(end), b'e' | b'E') && at(exponent).is_ascii_digit() {
        end = digits(exponent);
    }
    let (value, unit) = text.split_at_checked(end)?;
    Some((Some(number(value)?), unit.trim()))
}

/// A finite number, also one of a plugin that writes a comma for the point.
fn number(text: &str) -> Option<f64> {
    let begins =
        text.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let plain = match text.matches(',').count() {
        0 => text.parse(),
        1 if !text.contains('.') => text.replace(',', ".").parse(),
        _ => return None,
    };
    plain.ok().filter(|number: &f64| begins && number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn single(text: &str) -> Perfdata {
        let (mut found, bad) = parse(text);
        assert_eq!((found.len(), bad), (1, 0), "{text}: {found:?}");
        found.remove(0)
    }

    #[test]
    fn labels_are_read_with_their_quotes() {
        for (text, label) in [
            ("load1=1", "load1"),
            ("'load 1'=1", "load 1"),
            ("'it''s'=1", "it's"),
            ("'a=b;c'=1", "a=b;c"),
            ("/=1", "/"),
            ("'C:\\'=1", "C:\\"),
            ("größe=1", "größe"),
        ] {
            assert_eq!(single(text).label, label, "{text}");
        }
    }

    #[test]
    fn values_are_in_base_units() {
        for (text, value, unit) in [
            ("a=0.061ms;200.000;500.000;0;", 0.000_061, Unit::Seconds),
            ("a=7us", 0.000_007, Unit::Seconds),
            ("a=1.5s", 1.5, Unit::Seconds),
            ("a=1,5s", 1.5, Unit::Seconds),
            ("a=36%", 0.36, Unit::Ratio),
            ("a=2KB", 2048.0, Unit::Bytes),
            ("a=3MB;;;0;9", 3_145_728.0, Unit::Bytes),
            ("a=1TB", 1_099_511_627_776.0, Unit::Bytes),
            ("a=35915825152B;243497277849", 35_915_825_152.0, Unit::Bytes),
            ("a=-5c", -5.0, Unit::Count),
            ("a=1.2e-05s", 1.2e-5, Unit::Seconds),
            ("a=1e3", 1000.0, Unit::None),
            ("a=4e", 4.0, Unit::Other("e".into())),
            ("a=40C", 40.0, Unit::Other("C".into())),
            ("a=.5", 0.5, Unit::None),
        ] {
            let found = single(text);
            assert!(
                (found.value.unwrap() - value).abs() <= value.abs() * 1e-12,
                "{text}: {found:?}"
            );
            assert_eq!(found.unit, unit, "{text}");
        }
    }

    #[test]
    fn what_a_plugin_could_not_tell_is_unknown_and_no_number() {
        assert_eq!(single("a=U;1;2").value, None);
    }

    #[test]
    fn ranges_have_two_ends_and_may_be_turned_round() {
        let all = |low: f64, high: f64| Some(Range { low, high, is_inverted: false });
        for (text, range) in [
            ("10", all(0.0, 10.0)),
            ("10:", all(10.0, f64::INFINITY)),
            ("~:10", all(f64::NEG_INFINITY, 10.0)),
            ("10:20", all(10.0, 20.0)),
            ("-5:-1", all(-5.0, -1.0)),
            ("1,5:2,5", all(1.5, 2.5)),
            ("@10:20", Some(Range { low: 10.0, high: 20.0, is_inverted: true })),
            ("", None),
            ("20:10", None),
            ("ten", None),
        ] {
            assert_eq!(single(&format!("a=1;{text}")).warning, range, "{text}");
        }
        assert_eq!(single("a=1ms;10:20").warning, all(0.01, 0.02), "in the unit of the value");
    }

    #[test]
    fn limits_are_read_behind_empty_thresholds() {
        let found = single("procs=77;;;0;100");
        assert_eq!((found.warning, found.critical), (None, None));
        assert_eq!((found.min, found.max), (Some(0.0), Some(100.0)));
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_the_rest_is_taken() {
        for (text, labels, bad) in [
            ("load1=1.810;5.000;9.000;0; load5=1.140;4.000;8.000;0; ", "load1 load5", 0),
            ("rta=0.061ms;200.000;500.000;0; pl=0%;40;80;; rtmax=0.266ms;;;; ", "rta pl rtmax", 0),
            ("used memory=12 a=1", "memory a", 1),
            ("a=x b=1", "b", 1),
            ("a=1.2.3 b=1,2,3 c=inf d=nan e=- f=--1 g=", "", 7),
            ("a=1 a=2", "a", 1),
            ("'open=1 b=2", "", 1),
            ("='1 =2", "", 1),
        ] {
            let (found, dropped) = parse(text);
            let found: Vec<&str> = found.iter().map(|one| one.label.as_str()).collect();
            assert_eq!((found.join(" ").as_str(), dropped), (labels, bad), "{text}");
        }
        let many: Vec<String> = (0..=VALUES_MAX).map(|n| format!("v{n}=1")).collect();
        let (found, bad) = parse(&many.join(" "));
        assert_eq!((found.len(), bad), (VALUES_MAX, 1));
    }
}
