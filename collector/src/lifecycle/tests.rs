//! Tables of lives: what time does, what words do, and the verdict on who is silent.

use rrd::Timestamp;

use super::*;

const START: Timestamp = Timestamp::from_secs(1_000_000);
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// So many seconds after the start.
fn at(secs: i64) -> Timestamp {
    START.plus_millis(secs * 1000)
}

fn life(state: State, since_secs: i64) -> Lifecycle {
    let came = Evidence::of(Who::Token, "its token approves by itself");
    let life = Lifecycle::begun(State::Active, came, at(0));
    life.moved(Move::to(state, Who::Collector, "for this test"), at(since_secs))
}

fn terms(permanence: Permanence) -> Terms {
    Terms { permanence, ..Terms::default() }
}

fn sight(heard: Option<i64>) -> Sight<'static> {
    Sight {
        heard: heard.map(at),
        silent_ms: 30_000,
        listening_since: at(0),
        is_frozen: false,
        hint: None,
        kept: Kept::Unknown,
    }
}

/// One instance on a timeline: its state, moved by time, words and batches.
struct Line<'a> {
    life: Lifecycle,
    terms: Terms,
    sight: Sight<'a>,
}

impl<'a> Line<'a> {
    fn active(permanence: Permanence) -> Self {
        Self { life: life(State::Active, 0), terms: terms(permanence), sight: sight(Some(0)) }
    }

    fn hears(mut self, hint: &'a Hint) -> Self {
        self.sight.hint = Some(hint);
        self
    }

    fn says(mut self, secs: i64, act: Act) -> Self {
        if let Some(step) = after(&self.life, self.terms.permanence, act).unwrap() {
            self.life = self.life.moved(step, at(secs));
        }
        self
    }

    /// Lets time pass, two seconds at once as the sweep does.
    fn until(mut self, from_secs: i64, to_secs: i64) -> Self {
        for secs in (from_secs..=to_secs).step_by(2) {
            if let Some(step) = due(&self.life, &self.terms, &self.sight, at(secs)) {
                self.life = self.life.moved(step, at(secs));
            }
        }
        self
    }

    #[track_caller]
    fn is(self, state: State, evidence: &str) -> Self {
        assert_eq!(self.life.state, state, "{:?}", self.life);
        assert!(self.life.sentence().contains(evidence), "{}", self.life.sentence());
        self
    }
}

fn hint(secs: i64, is_gone: bool) -> Hint {
    let what = if is_gone { "i-1 is terminated" } else { "i-1 is running" };
    Hint { at: at(secs), is_gone, what: format!("the cloud says that {what}") }
}

/// Section 4.4, row by row.
#[test]
fn gone_needs_evidence_and_dead_is_what_is_left() {
    use Permanence::{Ephemeral, Permanent};
    let goodbye = |reason, what: &str| Act::Goodbye(reason, what.to_owned());
    let active = Line::active;

    // A goodbye for good, with what the machine knows; or an operator's word.
    for permanence in [Permanent, Ephemeral] {
        let notice = goodbye(Farewell::Terminate, "spot notice");
        active(permanence).says(5, notice).is(State::Withdrawn, "(terminate): spot notice");
        let operator = Act::Withdraw(Who::Operator, "withdrawn by an operator".to_owned());
        active(permanence).says(5, operator).is(State::Withdrawn, "operator");
    }
    // A goodbye for minutes: back in time, or a loss.
    for reason in [Farewell::Reboot, Farewell::Upgrade] {
        let away = || active(Permanent).says(6, goodbye(reason, "")).until(8, 604);
        away().is(State::Maintenance, "goodbye of its agent");
        away().until(606, 606).is(State::Lost, "not back within ten minutes");
        let mut back = away();
        back.sight.heard = Some(at(300));
        back.until(606, 606).is(State::Active, "heard again");
    }
    // A goodbye without a reason: what the token says.
    for reason in [Farewell::Stop, Farewell::Unknown] {
        active(Ephemeral).says(6, goodbye(reason, "")).is(State::Withdrawn, "ephemeral");
        let silent = active(Permanent).says(6, goodbye(reason, "")).is(State::Silent, "goodbye");
        silent.until(8, 306).is(State::Lost, "nothing says that it is gone");
    }
    // Silence, and the cloud says that it is gone: before or after.
    for told in [-60, 20, 200] {
        let gone = hint(told, true);
        let line = active(Permanent).hears(&gone).until(0, 28).is(State::Active, "");
        line.until(30, 34)
            .is(State::Terminated, "silent, and the cloud says that i-1 is terminated");
    }
    let long_ago = hint(-2 * HOUR, true);
    active(Permanent).hears(&long_ago).until(0, 40).is(State::Silent, "nothing came since");
    // Silence, and the cloud says that it runs.
    let runs = hint(100, false);
    active(Permanent)
        .hears(&runs)
        .until(0, 332)
        .is(State::Lost, "its agent is dead and its host is not");
    // Silence of a third of the zone.
    let mut frozen = active(Ephemeral);
    frozen.sight.is_frozen = true;
    let mut frozen = frozen.until(0, 3 * HOUR).is(State::Silent, "");
    frozen.sight.is_frozen = false;
    frozen.sight.listening_since = at(3 * HOUR);
    let thawed = frozen.until(3 * HOUR, 3 * HOUR + 298).is(State::Silent, "");
    thawed.until(3 * HOUR + 300, 3 * HOUR + 300).is(State::Lost, "");
    // Silence, nothing else.
    active(Permanent).until(0, 28).is(State::Active, "");
    active(Permanent).until(0, 30).is(State::Silent, "nothing came since");
    active(Permanent).until(0, 328).is(State::Silent, "");
    active(Permanent).until(0, 330).is(State::Lost, "nothing says that it is gone");
    active(Permanent).until(0, 30 * DAY).is(State::Lost, "");
    active(Ephemeral).until(0, 330 + HOUR - 2).is(State::Lost, "");
    active(Ephemeral).until(0, 330 + HOUR).is(State::Withdrawn, "ephemeral by its token");
}

#[test]
fn time_moves_a_life_as_the_table_says() {
    let rows = Kept::Until(at(5 * DAY));
    for (state, since, heard, kept, now, expected) in [
        (State::Approved, 0, None, rows, HOUR - 1, None),
        (State::Approved, 0, None, rows, HOUR, Some(State::Expired)),
        (State::Approved, 5, Some(5), rows, 6, Some(State::Active)),
        (State::Approved, 5, Some(4), rows, 6, None),
        (State::Active, 0, Some(100), rows, 129, None),
        (State::Active, 0, Some(100), rows, 130, Some(State::Silent)),
        (State::Active, 120, Some(100), rows, 140, None),
        (State::Silent, 130, Some(131), rows, 132, Some(State::Active)),
        (State::Silent, 130, Some(130), rows, 132, None),
        (State::Lost, 130, Some(131), rows, 132, Some(State::Active)),
        (State::Lost, 130, Some(100), rows, 30 * DAY, None),
        (State::Quarantined, 0, Some(5), rows, 30 * DAY, None),
        (State::Withdrawn, 0, Some(5), rows, DAY - 1, None),
        (State::Withdrawn, 0, Some(5), rows, DAY, Some(State::Archived)),
        (State::Terminated, 0, None, rows, DAY, Some(State::Archived)),
        (State::Revoked, 0, None, rows, DAY, Some(State::Archived)),
        (State::Archived, 0, None, rows, 5 * DAY - 1, None),
        (State::Archived, 0, None, rows, 5 * DAY, Some(State::Reclaimed)),
        (State::Archived, 0, None, Kept::Nothing, 1, Some(State::Reclaimed)),
        (State::Archived, 0, None, Kept::Unknown, 50 * DAY, None),
        (State::Reclaimed, 0, None, rows, 50 * DAY, None),
        (State::Expired, 0, None, rows, 50 * DAY, None),
    ] {
        let seen = Sight { kept, ..sight(heard) };
        let step = due(&life(state, since), &Terms::default(), &seen, at(now));
        assert_eq!(step.map(|step| step.to), expected, "{state} since {since}, at {now}");
    }
}

#[test]
fn a_collector_that_was_away_has_heard_nobody() {
    let back_at = 1_000;
    let seen = Sight { listening_since: at(back_at), ..sight(None) };
    let step = |state, since, now| {
        due(&life(state, since), &Terms::default(), &seen, at(now)).map(|step| step.to)
    };
    assert_eq!(step(State::Active, 0, back_at + 29), None);
    assert_eq!(step(State::Active, 0, back_at + 30), Some(State::Silent));
    assert_eq!(step(State::Silent, 0, back_at + 299), None);
    assert_eq!(step(State::Silent, 0, back_at + 300), Some(State::Lost));
}

#[test]
fn words_move_a_life_or_are_refused() {
    type Make = fn() -> Act;
    let words: [(&str, Make); 7] = [
        ("goodbye", || Act::Goodbye(Farewell::Reboot, String::new())),
        ("withdraw", || Act::Withdraw(Who::Operator, String::new())),
        ("quarantine", || Act::Quarantine(String::new())),
        ("release", || Act::Release(String::new())),
        ("revoke", || Act::Revoke(String::new())),
        ("return", || Act::Return),
        ("reclaim", || Act::Reclaim(Who::Operator, String::new())),
    ];
    // Expected: where to, `=` for no change, `!` for refused.
    for (state, expected) in [
        (State::Pending, ["!", "!", "!", "!", "!", "!", "!"]),
        (State::Approved, ["maintenance", "withdrawn", "quarantined", "!", "revoked", "=", "!"]),
        (State::Active, ["maintenance", "withdrawn", "quarantined", "!", "revoked", "=", "!"]),
        (State::Silent, ["maintenance", "withdrawn", "quarantined", "!", "revoked", "=", "!"]),
        (State::Maintenance, ["=", "withdrawn", "quarantined", "!", "revoked", "=", "!"]),
        (State::Lost, ["maintenance", "withdrawn", "quarantined", "!", "revoked", "=", "!"]),
        (State::Quarantined, ["!", "withdrawn", "=", "active", "revoked", "=", "!"]),
        (State::Withdrawn, ["=", "=", "!", "!", "revoked", "approved", "reclaimed"]),
        (State::Terminated, ["=", "=", "!", "!", "revoked", "approved", "reclaimed"]),
        (State::Archived, ["=", "=", "!", "!", "revoked", "approved", "reclaimed"]),
        (State::Reclaimed, ["=", "=", "!", "!", "!", "!", "="]),
        (State::Revoked, ["=", "=", "!", "!", "=", "!", "reclaimed"]),
        (State::Expired, ["=", "=", "!", "!", "!", "approved", "="]),
        (State::Rejected, ["=", "=", "!", "!", "!", "!", "="]),
    ] {
        for ((word, act), expected) in words.iter().zip(expected) {
            let came = Evidence::of(Who::Token, "for this test");
            let life = if state == State::Pending {
                Lifecycle::begun(state, came, at(0))
            } else {
                life(state, 1)
            };
            let found = match after(&life, Permanence::Permanent, act()) {
                Ok(Some(step)) => step.to.word(),
                Ok(None) => "=",
                Err(BadState { state: found }) => {
                    assert_eq!(found, state);
                    "!"
                }
            };
            assert_eq!(found, expected, "{word} of {state}");
        }
    }
}

#[test]
fn only_a_person_withdraws_who_is_quarantined() {
    for (state, expected) in [
        (State::Active, Ok(Some(State::Withdrawn))),
        (State::Withdrawn, Ok(None)),
        (State::Quarantined, Err(BadState { state: State::Quarantined })),
    ] {
        let own = Act::Withdraw(Who::Agent, "goodbye of its agent".to_owned());
        let step = after(&life(state, 1), Permanence::Permanent, own);
        assert_eq!(step.map(|step| step.map(|step| step.to)), expected, "{state}");
    }
}

#[test]
fn an_end_stays_known_when_the_rows_are_gone() {
    let gone = life(State::Terminated, 10);
    let archived =
        gone.moved(Move::to(State::Archived, Who::Collector, "a day has passed"), at(20));
    let reclaimed = archived.moved(Move::to(State::Reclaimed, Who::Collector, "no room"), at(30));
    assert_eq!(
        reclaimed.end.as_ref().map(|end| (end.state, end.at)),
        Some((State::Terminated, at(10)))
    );
    assert_eq!(reclaimed.sentence(), "no room; terminated: for this test");
    let revoked = archived.moved(Move::to(State::Revoked, Who::Operator, "stolen"), at(30));
    assert!(revoked.is_revoked() && !archived.is_revoked());
    let archived = revoked.moved(Move::to(State::Archived, Who::Collector, "a day"), at(40));
    assert!(archived.is_revoked(), "whoever was put out does not come back as archived");
    let back = gone.moved(Move::to(State::Approved, Who::Agent, "back"), at(20));
    assert_eq!(back.end, None);
    let mut long = gone;
    for turn in 0..100 {
        long = long.moved(Move::to(State::Active, Who::Collector, "x".repeat(1000)), at(turn));
    }
    assert_eq!((long.past.len(), long.evidence.what.len()), (12, 300));
}

#[test]
fn silence_is_measured_by_the_sender_s_own_pace_unless_the_token_says() {
    let usual = Terms::default();
    assert_eq!(usual.silent_ms(30_000, None), 90_000, "nobody knows its pace yet");
    assert_eq!(usual.silent_ms(30_000, Some(10_000)), 30_000);
    assert_eq!(usual.silent_ms(30_000, Some(60_000)), 180_000);
    assert_eq!(usual.silent_ms(30_000, Some(86_400_000)), 900_000);
    let strict = Terms { silent_ms: Some(15_000), ..usual };
    assert_eq!(strict.silent_ms(30_000, Some(60_000)), 15_000);
}

mod zones {
    use super::*;

    /// A zone of so many, of whom these fell silent at these moments.
    fn look(zones: &mut Zones, of: usize, silent: &[i64], now: i64) -> Vec<(bool, usize, usize)> {
        let member = |number: usize| Member {
            zone: "a",
            silent_since: silent.get(number).map(|secs| at(*secs)),
        };
        let found = zones.look((0..of).map(member), at(now));
        found.iter().map(|fault| (fault.has_begun, fault.silent, fault.of)).collect()
    }

    #[test]
    fn a_third_that_falls_silent_at_once_stops_the_timers_until_it_is_back() {
        let mut zones = Zones::default();
        assert_eq!(look(&mut zones, 20, &[0; 5], 10), [], "a quarter is none");
        assert_eq!(look(&mut zones, 20, &[0; 6], 10), [(true, 6, 20)]);
        assert!(zones.is_frozen("a") && !zones.is_frozen("b"));
        assert_eq!(look(&mut zones, 20, &[0; 6], 1_000), [], "told once");
        assert_eq!(look(&mut zones, 20, &[0; 5], 1_002), [(false, 5, 20)]);
        assert_eq!((zones.is_frozen("a"), zones.healed_at("a")), (false, Some(at(1_002))));
    }

    #[test]
    fn few_or_slow_losses_are_no_fault_of_the_zone() {
        let mut zones = Zones::default();
        assert_eq!(look(&mut zones, 4, &[0; 4], 10), [], "four are too few to tell");
        let one_by_one: Vec<i64> = (0..10).map(|number| number * 100).collect();
        assert_eq!(look(&mut zones, 10, &one_by_one, 1_000), []);
        assert_eq!(look(&mut zones, 5, &[0; 5], 10), [(true, 5, 5)]);
    }

    #[test]
    fn a_fault_ends_after_an_hour_though_nobody_is_back() {
        let mut zones = Zones::default();
        assert_eq!(look(&mut zones, 10, &[0; 10], 10), [(true, 10, 10)]);
        assert_eq!(look(&mut zones, 10, &[0; 10], 10 + HOUR - 1), []);
        assert_eq!(look(&mut zones, 10, &[0; 10], 10 + HOUR), [(false, 10, 10)]);
        assert_eq!(look(&mut zones, 10, &[0; 10], 20 + HOUR), []);
        let mut empty = Zones::default();
        assert_eq!(look(&mut empty, 10, &[0; 10], 10).len(), 1);
        assert_eq!(look(&mut empty, 0, &[], 20), [(false, 0, 0)], "nobody is left of it");
    }
}
