//! A Nagios plugin's answer: its state is the exit code, its text and performance data are what it wrote.

use rrd::Kind;

use super::exec::{Failure, Output};
use super::finding::Finding;
use super::perfdata::{self, Perfdata, Range, Unit};

/// Characters of a plugin's first line that are kept for a message.
const MESSAGE_CHARS: usize = 300;

/// What a check says of what it looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl State {
    /// Any other code, and an end by a signal, are no answer.
    fn of(code: Option<i32>) -> Self {
        match code {
            Some(0) => Self::Ok,
            Some(1) => Self::Warning,
            Some(2) => Self::Critical,
            _ => Self::Unknown,
        }
    }

    /// As plugins write it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// One answer of a check.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) state: State,
    /// The first line, for a person.
    pub(super) message: String,
    pub(super) perfdata: Vec<Perfdata>,
    /// Performance data that could not be read.
    pub(super) unreadable: usize,
}

impl Answer {
    /// What a run means. One that failed is UNKNOWN.
    pub(super) fn of(run: &Result<Output, Failure>) -> Self {
        let output = match run {
            Ok(output) => output,
            Err(failure) => {
                let message = failure.to_string();
                return Self {
                    state: State::Unknown,
                    message,
                    perfdata: Vec::new(),
                    unreadable: 0,
                };
            }
        };
        let (message, data) = divided(&output.text);
        let (perfdata, unreadable) = perfdata::parse(&data);
        let message = match (message.is_empty(), output.code) {
            (false, _) => message,
            (true, None) => "a signal ended it",
            (true, _) => output.errors.lines().next().unwrap_or_default(),
        };
        let message = message.chars().take(MESSAGE_CHARS).collect();
        Self { state: State::of(output.code), message, perfdata, unreadable }
    }

    /// The answer as series of `check`; thresholds only where they are asked for.
    pub(super) fn findings(&self, check: &str, with_thresholds: bool) -> Vec<Finding> {
        let state = f64::from(self.state as u8);
        let mut all = vec![Finding::gauge("nagios_state", &[("check", check)], state)];
        for one in &self.perfdata {
            let labels =
                [("check", check), ("label", one.label.as_str()), ("unit", one.unit.word())];
            let (metric, kind) = match one.unit {
                Unit::Count => ("nagios_perfdata_total", Kind::Total),
                _ => ("nagios_perfdata", Kind::Gauge),
            };
            all.extend(one.value.map(|value| Finding::of(metric, &labels, (kind, value))));
            if with_thresholds {
                let bounds = bounds(one).into_iter();
                let bounds = bounds.filter_map(|(metric, bound)| Some((metric, bound?)));
                all.extend(bounds.map(|(metric, bound)| Finding::gauge(metric, &labels, bound)));
            }
        }
        all
    }
}

/// The ends of good values: a level that is passed on the way up, or on the way down.
fn bounds(one: &Perfdata) -> [(&'static str, Option<f64>); 6] {
    let good = |range: Option<Range>| range.filter(|range| !range.is_inverted);
    let above = |range| good(range).map(|range| range.high).filter(|end| end.is_finite());
    let below = |range| good(range).map(|range| range.low).filter(|end| end.is_finite());
    [
        ("nagios_perfdata_warning_above", above(one.warning)),
        ("nagios_perfdata_warning_below", below(one.warning)),
        ("nagios_perfdata_critical_above", above(one.critical)),
        ("nagios_perfdata_critical_below", below(one.critical)),
        ("nagios_perfdata_min", one.min),
        ("nagios_perfdata_max", one.max),
    ]
}

/// The first line's text, and all performance data: behind the first line's bar, and behind the first bar
/// of the lines after it to the end.
fn divided(text: &str) -> (&str, String) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (message, data) = first.split_once('|').unwrap_or((first, ""));
    let more = rest.split_once('|').map_or("", |(_, more)| more);
    (message.trim(), format!("{data} {more}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(code: Option<i32>, text: &str) -> Answer {
        let errors = "no such file\nmore".to_owned();
        Answer::of(&Ok(Output { code, text: text.to_owned(), errors }))
    }

    #[test]
    fn the_exit_code_is_the_state_and_all_else_is_unknown() {
        for (code, state) in [
            (Some(0), State::Ok),
            (Some(1), State::Warning),
            (Some(2), State::Critical),
            (Some(3), State::Unknown),
            (Some(127), State::Unknown),
            (Some(-1), State::Unknown),
            (None, State::Unknown),
        ] {
            assert_eq!(answer(code, "x").state, state, "{code:?}");
        }
        let late = Answer::of(&Err(Failure::TimedOut(Duration::from_secs(9))));
        assert_eq!(late.state, State::Unknown);
        assert_eq!(late.message, "it did not end in 9 s and was killed");
    }

    #[test]
    fn performance_data_of_several_lines_are_one() {
        let text = "DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968\n\
            / 15272 MB (77%);\n/boot 68 MB (69%);\n\
            /var/log 819 MB (84%); | /boot=68MB;88;93;0;98\n/home=69357MB;253404;253409;0;253414\n\
            '/var/log'=818MB;970;975;0;980\n";
        let answer = answer(Some(0), text);
        assert_eq!(answer.message, "DISK OK - free space: / 3326 MB (56%);");
        let labels: Vec<_> = answer.perfdata.iter().map(|one| one.label.as_str()).collect();
        assert_eq!((labels, answer.unreadable), (vec!["/", "/boot", "/home", "/var/log"], 0));
    }

    #[test]
    fn a_plugin_that_writes_nothing_is_explained_by_its_errors() {
        assert_eq!(answer(Some(3), "").message, "no such file");
        assert_eq!(answer(None, " \n").message, "a signal ended it");
        assert_eq!(answer(Some(0), "plain").message, "plain");
    }

    #[test]
    fn an_answer_becomes_a_state_and_a_series_for_each_value() {
        let answer = answer(Some(1), "W | 'a b'=5ms;10;@1:2;0; n=7c x=U;1;2 p=50%;10:20;~:90");
        let texts = |thresholds| {
            answer.findings("web", thresholds).iter().map(Finding::text).collect::<Vec<_>>()
        };
        assert_eq!(
            texts(false),
            [
                r#"nagios_state{check="web"} 1"#,
                r#"nagios_perfdata{check="web",label="a b",unit="seconds"} 0.005"#,
                r#"nagios_perfdata_total{check="web",label="n"} 7"#,
                r#"nagios_perfdata{check="web",label="p",unit="ratio"} 0.5"#,
            ]
        );
        let bounds = [
            r#"nagios_perfdata_warning_above{check="web",label="p",unit="ratio"} 0.2"#,
            r#"nagios_perfdata_warning_below{check="web",label="p",unit="ratio"} 0.1"#,
            r#"nagios_perfdata_critical_above{check="web",label="p",unit="ratio"} 0.9"#,
        ];
        assert_eq!(texts(true)[texts(true).len() - 3..], bounds);
    }
}
