//! Evidence: who said what, when; and the states an instance came through.

use std::fmt;

use rrd::Timestamp;

use super::State;

/// Bytes of one sentence of evidence: a reason that somebody wrote, and what we say around it.
pub(crate) const WHAT_LIMIT: usize = 300;
/// Former states kept of one instance; older ones are in the events.
const PAST_LIMIT: usize = 12;

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A person, or an operator's automation.
    Operator,
    /// The instance's own agent.
    Agent,
    /// The terms of the token it came by.
    Token,
    /// A join policy.
    Policy,
    /// The cloud it runs in.
    Cloud,
    /// Nobody: time passed, or something came.
    Collector,
}

impl Who {
    /// Its word in answers.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Agent => "agent",
            Self::Token => "token",
            Self::Policy => "policy",
            Self::Cloud => "cloud",
            Self::Collector => "collector",
        }
    }

    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn of_number(number: u8) -> Option<Self> {
        let all = [Self::Operator, Self::Agent, Self::Token, Self::Policy, Self::Cloud];
        all.into_iter().chain([Self::Collector]).find(|who| who.number() == number)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Who said what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Who.
    pub who: Who,
    /// What, as a person reads it.
    pub what: String,
}

impl Evidence {
    /// What `who` says, cut to a bound.
    pub fn of(who: Who, what: impl Into<String>) -> Self {
        let mut what = what.into();
        if what.len() > WHAT_LIMIT {
            let end = (0..=WHAT_LIMIT).rev().find(|at| what.is_char_boundary(*at)).unwrap_or(0);
            what.truncate(end);
        }
        Self { who, what }
    }
}

/// A change of state, not made yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Where to.
    pub to: State,
    /// Why.
    pub evidence: Evidence,
}

impl Move {
    /// To `to`, as `who` says.
    pub fn to(to: State, who: Who, what: impl Into<String>) -> Self {
        Self { to, evidence: Evidence::of(who, what) }
    }
}

/// A state that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Which.
    pub state: State,
    /// Since when it was in it.
    pub since: Timestamp,
    /// What brought it there.
    pub evidence: Evidence,
}

/// How an instance ended, which stays known when it is archived and reclaimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// As what: withdrawn, terminated, revoked, expired.
    pub state: State,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub evidence: Evidence,
}

/// The state of an instance, what brought it there, and where it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// Where it is.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// What brought it there.
    pub evidence: Evidence,
    /// How it ended, while it is gone.
    pub end: Option<End>,
    /// Where it was before, oldest first; a bounded list.
    pub past: Vec<Past>,
}

impl Lifecycle {
    /// A life that begins in `state`.
    pub fn begun(state: State, evidence: Evidence, at: Timestamp) -> Self {
        Self { state, since: at, evidence, end: None, past: Vec::new() }
    }

    /// The life after a move at `at`.
    #[must_use]
    pub fn moved(&self, step: Move, at: Timestamp) -> Self {
        let mut past = self.past.clone();
        if past.len() >= PAST_LIMIT {
            past.remove(0);
        }
        let former = Past { state: self.state, since: self.since, evidence: self.evidence.clone() };
        past.push(former);
        let end = match (&self.end, step.to.is_gone()) {
            (_, false) => None,
            // Being archived or reclaimed is no other end; being revoked is.
            (Some(end), true) if step.to != State::Revoked => Some(end.clone()),
            _ => Some(End { state: step.to, at, evidence: step.evidence.clone() }),
        };
        Self { state: step.to, since: at, evidence: step.evidence, end, past }
    }

    /// True when a person put it out for good, whatever became of its rows since.
    pub fn is_revoked(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.state == State::Revoked)
    }

    /// Its state and the evidence in one line.
    pub fn sentence(&self) -> String {
        match &self.end {
            Some(end) if end.state != self.state => {
                format!("{}; {}: {}", self.evidence.what, end.state, end.evidence.what)
            }
            _ => self.evidence.what.clone(),
        }
    }
}
