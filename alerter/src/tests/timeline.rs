//! Timelines: values in, states out, minute by minute.

use rrd::{Labels, Timestamp};

use crate::State::{Critical, Ok, Unknown, Warning};
use crate::judge::Phases;
use crate::{Reading, Reason, Rules, State, Transition};

/// One rule and one series, judged at the moments a test names. Moments are in minutes.
struct Timeline {
    rules: Rules,
    phases: Phases,
    state: State,
    told: Vec<Transition>,
}

struct Minute<'t> {
    timeline: &'t mut Timeline,
    at: Timestamp,
}

struct Judged<'t> {
    timeline: &'t mut Timeline,
    transitions: Vec<Transition>,
}

fn web_1() -> Labels {
    Labels::from_pairs([("instance", "web-1")]).unwrap()
}

impl Timeline {
    fn of(rule: &str) -> Self {
        let text = format!("[[rule]]\nname = \"cpu\"\nexpr = \"up\"\nevery = \"1m\"\n{rule}");
        let rules = Rules::check(&[("test.toml".to_owned(), text)]).unwrap();
        Self { rules, phases: Phases::default(), state: Ok, told: Vec::new() }
    }

    fn at(&mut self, minute: i64) -> Minute<'_> {
        Minute { timeline: self, at: Timestamp::from_secs(60 * minute) }
    }

    /// Judges `values` minute after minute from 0, and gives the states it went through.
    fn run(&mut self, values: &[f64]) -> Vec<(i64, State)> {
        for (minute, value) in (0..).zip(values) {
            self.at(minute).value(*value);
        }
        self.told.iter().map(|t| (t.at.as_millis() / 60_000, t.to)).collect()
    }

    /// Everything told belongs to one incident, numbered without gaps.
    #[track_caller]
    fn expect_one_incident(&self) {
        for (sequence, transition) in (1..).zip(&self.told) {
            assert_eq!(transition.incident, self.told[0].incident);
            assert_eq!(transition.sequence, sequence);
        }
    }
}

impl<'t> Minute<'t> {
    fn judge(self, readings: Vec<Reading>) -> Judged<'t> {
        let Self { timeline, at } = self;
        let rule = timeline.rules.iter().next().unwrap();
        let transitions = timeline.phases.judge(rule, readings, at);
        if let Some(last) = transitions.last() {
            timeline.state = last.to;
        }
        timeline.told.extend(transitions.iter().cloned());
        Judged { timeline, transitions }
    }

    fn value(self, value: f64) -> Judged<'t> {
        self.judge(vec![Reading { labels: web_1(), value }])
    }

    fn nothing(self) -> Judged<'t> {
        self.judge(Vec::new())
    }
}

impl Judged<'_> {
    /// The state after the evaluation.
    #[track_caller]
    fn expect(self, state: State) -> Vec<Transition> {
        assert_eq!(self.timeline.state, state);
        self.transitions
    }

    /// The state, and that it was not reached just now.
    #[track_caller]
    fn still(self, state: State) {
        assert_eq!(self.transitions, [], "nothing was to change");
        assert_eq!(self.timeline.state, state);
    }
}

#[test]
fn a_breach_is_pending_until_its_for_has_passed() {
    let mut t = Timeline::of("warning = \"> 80\"\nfor = \"2m\"");
    t.at(0).value(95.0).still(Ok);
    t.at(1).value(95.0).still(Ok);
    let told = t.at(2).value(95.0).expect(Warning);
    assert_eq!(told[0].since, Timestamp::from_secs(0), "since the first breach");
    t.at(3).value(95.0).still(Warning);
}

/// V12 and V13: one good value deletes what was pending, and the wait begins again.
#[test]
fn a_good_value_while_pending_starts_the_wait_again() {
    let mut t = Timeline::of("warning = \"> 80\"\nfor = \"2m\"");
    t.at(0).value(95.0).still(Ok);
    t.at(1).value(20.0).still(Ok);
    t.at(2).value(95.0).still(Ok);
    t.at(3).value(95.0).still(Ok);
    t.at(4).value(95.0).expect(Warning);
}

#[test]
fn critical_preempts_warning_within_one_incident() {
    let mut t = Timeline::of("warning = \"> 80\"\ncritical = \"> 95\"");
    t.at(0).value(90.0).expect(Warning);
    t.at(1).value(97.0).expect(Critical);
    t.at(2).value(90.0).still(Critical);
    t.at(3).value(85.0).expect(Warning);
    t.at(4).value(75.0).still(Warning);
    t.at(5).value(72.0).expect(Ok);
    t.expect_one_incident();
}

/// V24: the problem lasts until the value is inside the recovery condition.
#[test]
fn an_alarm_lasts_until_its_clearing_condition_holds() {
    let mut t = Timeline::of("warning = \"> 20\"\nclear = \"<= 15\"");
    let told = t.run(&[19.0, 21.0, 19.0, 16.0, 15.0]);
    assert_eq!(told, [(1, Warning), (4, Ok)]);
}

/// V25: netdata's warn 85/75 and crit 95/85; thresholds are strict, 75 clears.
#[test]
fn thresholds_are_strict_and_each_level_has_its_own_clear() {
    let mut t = Timeline::of(
        "warning = \"> 85\"\ncritical = \"> 95\"\n\
         clear = { warning = \"<= 75\", critical = \"<= 85\" }",
    );
    let told = t.run(&[80.0, 86.0, 80.0, 96.0, 86.0, 84.0, 76.0, 75.0]);
    assert_eq!(told, [(1, Warning), (3, Critical), (5, Warning), (7, Ok)]);
}

/// V44, with durations for its M of N: 3/3 is two minutes, 2/2 one.
#[test]
fn a_rise_and_a_fall_are_four_steps_of_one_incident() {
    let mut t = Timeline::of(
        "warning = \"> 70\"\ncritical = \"> 90\"\n\
         for = { warning = \"2m\", critical = \"1m\" }\n\
         clear = { warning = \"< 60\", critical = \"< 80\" }\nclear_for = \"2m\"",
    );
    let told = t.run(&[75.0, 75.0, 75.0, 95.0, 95.0, 85.0, 75.0, 75.0, 75.0, 55.0, 55.0, 55.0]);
    assert_eq!(told, [(2, Warning), (4, Critical), (8, Warning), (11, Ok)]);
    t.expect_one_incident();
}

#[test]
fn low_values_can_be_the_bad_ones() {
    let mut t = Timeline::of("warning = \"< 10\"\ncritical = \"< 5\"");
    let told = t.run(&[12.0, 9.0, 4.0, 5.4, 5.5, 10.9, 11.0]);
    assert_eq!(told, [(1, Warning), (2, Critical), (4, Warning), (6, Ok)]);
}

#[test]
fn a_new_breach_after_all_is_well_is_a_new_incident() {
    let mut t = Timeline::of("critical = \"> 90\"");
    t.run(&[95.0, 10.0, 95.0]);
    assert_ne!(t.told[0].incident, t.told[2].incident);
    assert_eq!(t.told[2].sequence, 1);
}

#[test]
fn a_vanished_series_is_unknown_after_three_evaluations_and_never_recovered() {
    let mut t = Timeline::of("critical = \"> 90\"");
    t.at(0).value(95.0).expect(Critical);
    t.at(1).nothing().still(Critical);
    t.at(2).nothing().still(Critical);
    let told = t.at(3).nothing().expect(Unknown);
    assert_eq!((told[0].reason, told[0].value, told[0].notify), (Reason::NoData, None, true));
    assert_eq!(told[0].since, Timestamp::from_secs(60), "since the first one missed");
    t.at(4).value(95.0).expect(Critical);
    t.at(5).value(10.0).expect(Ok);
    t.expect_one_incident();
}

#[test]
fn not_a_number_is_no_data() {
    let mut t = Timeline::of("warning = \"> 80\"");
    t.at(0).value(10.0).still(Ok);
    t.at(1).value(f64::NAN).still(Ok);
    t.at(2).value(f64::NAN).still(Ok);
    t.at(3).value(f64::NAN).expect(Unknown);
}

#[test]
fn two_missed_evaluations_do_not_restart_a_pending_breach_but_unknown_does() {
    let mut t = Timeline::of("warning = \"> 80\"\nfor = \"3m\"");
    t.at(0).value(95.0).still(Ok);
    t.at(1).nothing().still(Ok);
    t.at(2).nothing().still(Ok);
    t.at(3).value(95.0).expect(Warning);
    let mut t = Timeline::of("warning = \"> 80\"\nfor = \"3m\"");
    t.at(0).value(95.0).still(Ok);
    for minute in 1..4 {
        t.at(minute).nothing();
    }
    t.at(4).value(95.0).expect(Ok);
    t.at(6).value(95.0).still(Ok);
    t.at(7).value(95.0).expect(Warning);
}

#[test]
fn unknown_without_an_alarm_is_kept_on_record_but_told_to_nobody() {
    let mut t = Timeline::of("warning = \"> 80\"");
    t.at(0).value(10.0).still(Ok);
    for minute in 1..4 {
        t.at(minute).nothing();
    }
    let told = t.at(4).value(10.0).expect(Ok);
    assert_eq!(t.told.len(), 2);
    assert!(t.told.iter().all(|transition| !transition.notify), "{told:?}");
}

#[test]
fn no_data_means_what_the_rule_says() {
    for (policy, before, after) in [
        ("keep", 95.0, Critical),
        ("keep", 10.0, Ok),
        ("ok", 95.0, Ok),
        ("breach", 10.0, Critical),
        ("unknown", 95.0, Unknown),
    ] {
        let mut t = Timeline::of(&format!("critical = \"> 90\"\nno_data = \"{policy}\""));
        t.at(0).value(before);
        for minute in 1..5 {
            t.at(minute).nothing();
        }
        assert_eq!(t.state, after, "{policy} after {before}");
    }
}

#[test]
fn what_stayed_away_for_a_day_is_forgotten_only_if_it_never_alarmed() {
    let mut quiet = Timeline::of("warning = \"> 80\"");
    quiet.at(0).value(10.0);
    let mut loud = Timeline::of("warning = \"> 80\"");
    loud.at(0).value(95.0);
    for minute in [1, 2, 3, 24 * 60 + 1] {
        quiet.at(minute).nothing();
        loud.at(minute).nothing();
    }
    assert_eq!((quiet.state, quiet.told[1].reason), (Ok, Reason::Forgotten));
    assert_eq!(quiet.phases.census("cpu"), [0, 0, 0, 0]);
    assert_eq!(loud.state, Unknown);
}

/// V42: a withdrawn instance closes as withdrawn: neither unknown nor recovered.
#[test]
fn a_withdrawn_instance_closes_its_alerts_once() {
    let mut t = Timeline::of("critical = \"> 90\"");
    t.at(0).value(95.0).expect(Critical);
    let closed = t.phases.withdraw(&web_1(), Timestamp::from_secs(120));
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].to, closed[0].reason), (Ok, Reason::Withdrawn));
    assert!(closed[0].title().contains("closed (withdrawn)"), "{}", closed[0].title());
    for minute in 3..10 {
        assert_eq!(t.at(minute).nothing().transitions, []);
    }
}

#[test]
fn a_removed_rule_closes_its_alerts_without_calling_it_a_recovery() {
    let mut t = Timeline::of("critical = \"> 90\"");
    t.at(0).value(95.0).expect(Critical);
    let closed = t.phases.close_removed(&Rules::default(), Timestamp::from_secs(60));
    assert_eq!((closed[0].to, closed[0].reason, closed[0].notify), (Ok, Reason::RuleRemoved, true));
    assert_eq!(t.phases.close_removed(&Rules::default(), Timestamp::from_secs(70)), []);
}

#[test]
fn series_are_judged_apart() {
    let mut t = Timeline::of("critical = \"> 90\"");
    let reading = |name: &str, value: f64| Reading {
        labels: Labels::from_pairs([("instance", name)]).unwrap(),
        value,
    };
    t.at(0).judge(vec![reading("a", 95.0), reading("b", 10.0), reading("c", 99.0)]);
    let who: Vec<_> = t.told.iter().map(Transition::subject).collect();
    assert_eq!(who, ["a", "c"]);
    assert_ne!(t.told[0].incident, t.told[1].incident);
    assert_eq!(t.phases.census("cpu"), [1, 0, 0, 2]);
}

#[test]
fn labels_and_summary_of_the_rule_go_with_the_transition() {
    let mut t = Timeline::of(
        "critical = \"> 90\"\nunit = \"%\"\nlabels = { team = \"web\" }\n\
         annotations = { summary = \"{instance} of {team} is at {value} ({threshold}), {nobody}\" }",
    );
    let told = t.at(0).value(97.04).expect(Critical);
    assert_eq!(told[0].labels.to_string(), r#"{instance="web-1",team="web"}"#);
    assert_eq!(told[0].summary, "web-1 of web is at 97 % (> 90), {nobody}");
    assert_eq!(told[0].title(), "[CRITICAL] web-1: cpu 97 % (> 90)");
}
