//! What somebody's word does to an instance.

use thiserror::Error;

use super::{Lifecycle, Move, Permanence, State, Who};

/// Why an agent says goodbye.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Farewell {
    /// The machine ends for good.
    Terminate,
    /// It will be back in minutes.
    Reboot,
    /// It will be back in minutes, newer.
    Upgrade,
    /// The agent was stopped.
    Stop,
    /// Nobody said why.
    #[default]
    Unknown,
}

impl Farewell {
    const fn word(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Reboot => "reboot",
            Self::Upgrade => "upgrade",
            Self::Stop => "stop",
            Self::Unknown => "no reason",
        }
    }
}

/// Somebody's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Its agent says goodbye, with what it knows of the reason.
    Goodbye(Farewell, String),
    /// It is gone, somebody says.
    Withdraw(Who, String),
    /// It is not to be believed for now.
    Quarantine(String),
    /// It is to be believed again.
    Release(String),
    /// It is put out for good.
    Revoke(String),
    /// It is back, with its key.
    Return,
    /// It sends again under the name that its relay gave it.
    Sends,
    /// Its archive was given back.
    Reclaim(Who, String),
}

/// An instance is in a state that does not allow what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the instance is {state}, which does not allow this")]
pub struct BadState {
    /// The state it is in.
    pub state: State,
}

/// The move that a word brings about; `None` when it is already as the word says.
pub fn after(life: &Lifecycle, permanence: Permanence, act: Act) -> Result<Option<Move>, BadState> {
    let state = life.state;
    let bad = Err(BadState { state });
    match act {
        Act::Goodbye(reason, what) => match state {
            _ if state.is_gone() => Ok(None),
            State::Quarantined | State::Pending => bad,
            _ => Ok(Some(farewell(reason, permanence, &what)).filter(|step| step.to != state)),
        },
        Act::Withdraw(..) if state.is_gone() => Ok(None),
        Act::Withdraw(..) if state == State::Pending => bad,
        // Withdrawn it would come back with its key, and be believed.
        Act::Withdraw(Who::Agent, _) if state == State::Quarantined => bad,
        Act::Withdraw(who, what) => Ok(Some(Move::to(State::Withdrawn, who, what))),
        Act::Quarantine(_) if state.is_gone() || state == State::Pending => bad,
        Act::Quarantine(_) if state == State::Quarantined => Ok(None),
        Act::Quarantine(what) => Ok(Some(by_operator(State::Quarantined, "quarantined", &what))),
        Act::Release(what) if state == State::Quarantined => {
            Ok(Some(by_operator(State::Active, "released", &what)))
        }
        Act::Revoke(_) if life.is_revoked() => Ok(None),
        Act::Revoke(_) if state.is_tombstone() || state == State::Pending => bad,
        Act::Revoke(what) => Ok(Some(by_operator(State::Revoked, "revoked", &what))),
        Act::Return | Act::Sends if life.is_revoked() || state == State::Reclaimed => bad,
        Act::Return if matches!(state, State::Pending | State::Rejected) => bad,
        Act::Return if state.is_gone() => {
            Ok(Some(Move::to(State::Approved, Who::Agent, "it came back with its key")))
        }
        Act::Sends if state.is_gone() => {
            Ok(Some(Move::to(State::Active, Who::Collector, "it sends again")))
        }
        Act::Return | Act::Sends => Ok(None),
        Act::Reclaim(..) if state.is_tombstone() => Ok(None),
        Act::Reclaim(who, what) if state.is_gone() => {
            Ok(Some(Move::to(State::Reclaimed, who, what)))
        }
        Act::Release(_) | Act::Reclaim(..) => bad,
    }
}

fn farewell(reason: Farewell, permanence: Permanence, what: &str) -> Move {
    let said = match what {
        "" => format!("goodbye of its agent ({})", reason.word()),
        what => format!("goodbye of its agent ({}): {what}", reason.word()),
    };
    match (reason, permanence) {
        (Farewell::Terminate, _) => Move::to(State::Withdrawn, Who::Agent, said),
        (Farewell::Reboot | Farewell::Upgrade, _) => Move::to(State::Maintenance, Who::Agent, said),
        (Farewell::Stop | Farewell::Unknown, Permanence::Ephemeral) => {
            Move::to(State::Withdrawn, Who::Token, format!("{said}; it is ephemeral by its token"))
        }
        (Farewell::Stop | Farewell::Unknown, Permanence::Permanent) => {
            Move::to(State::Silent, Who::Agent, said)
        }
    }
}

fn by_operator(to: State, done: &str, what: &str) -> Move {
    let said = match what {
        "" => format!("{done} by an operator"),
        what => format!("{done} by an operator: {what}"),
    };
    Move::to(to, Who::Operator, said)
}
