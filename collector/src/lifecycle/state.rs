//! The states of an instance, and what each of them allows.

use std::fmt;
use std::str::FromStr;

/// Where an instance, or the request to become one, is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// It asked to be enrolled, and a person has to decide.
    Pending = 0,
    /// It is enrolled; its first batch is awaited.
    Approved = 1,
    /// It reports.
    Active = 2,
    /// Nothing came for a while.
    Silent = 3,
    /// It said that it would be back: a reboot, an upgrade.
    Maintenance = 4,
    /// It is silent for long, and nothing says that it is gone.
    Lost = 5,
    /// It, its token or a person said that it is gone.
    Withdrawn = 6,
    /// It is silent, and the cloud says that it is gone.
    Terminated = 7,
    /// It is gone for a while: its rows can be read, and it stands in no list of the living.
    Archived = 8,
    /// Its rows are gone too; this line is what is left.
    Reclaimed = 9,
    /// It is not believed: what it sends is kept, and nothing is judged by it.
    Quarantined = 10,
    /// A person put it out for good.
    Revoked = 11,
    /// Its request was refused, or nobody decided in time.
    Rejected = 12,
    /// It was enrolled and never sent anything.
    Expired = 13,
}

/// Every state, in order of its number.
const ALL: [State; 14] = [
    State::Pending,
    State::Approved,
    State::Active,
    State::Silent,
    State::Maintenance,
    State::Lost,
    State::Withdrawn,
    State::Terminated,
    State::Archived,
    State::Reclaimed,
    State::Quarantined,
    State::Revoked,
    State::Rejected,
    State::Expired,
];

impl State {
    /// Its word, in answers and on pages.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Active => "active",
            Self::Silent => "silent",
            Self::Maintenance => "maintenance",
            Self::Lost => "lost",
            Self::Withdrawn => "withdrawn",
            Self::Terminated => "terminated",
            Self::Archived => "archived",
            Self::Reclaimed => "reclaimed",
            Self::Quarantined => "quarantined",
            Self::Revoked => "revoked",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }

    /// True when nothing is expected from it any more. Of all others samples are taken.
    pub const fn is_gone(self) -> bool {
        matches!(
            self,
            Self::Withdrawn
                | Self::Terminated
                | Self::Archived
                | Self::Reclaimed
                | Self::Revoked
                | Self::Rejected
                | Self::Expired
        )
    }

    /// True when rules judge its series.
    pub const fn is_judged(self) -> bool {
        matches!(self, Self::Approved | Self::Active | Self::Silent | Self::Lost)
    }

    /// True when nothing but a line is left of it, or ever was.
    pub const fn is_tombstone(self) -> bool {
        matches!(self, Self::Reclaimed | Self::Expired | Self::Rejected)
    }

    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn of_number(number: u8) -> Option<Self> {
        ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A word is no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no state is called so; states are pending, approved, active, silent, maintenance, lost, withdrawn, terminated, archived, reclaimed, quarantined, revoked, rejected and expired"
)]
pub struct StateError;

impl FromStr for State {
    type Err = StateError;

    fn from_str(word: &str) -> Result<Self, StateError> {
        ALL.into_iter().find(|state| state.word() == word).ok_or(StateError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_name_one_state_each() {
        for (number, state) in ALL.into_iter().enumerate() {
            assert_eq!(usize::from(state.number()), number);
            assert_eq!(State::of_number(state.number()), Some(state));
            assert_eq!(state.word().parse(), Ok(state));
        }
        assert_eq!(State::of_number(14), None);
        assert_eq!("gone".parse::<State>(), Err(StateError));
    }
}
