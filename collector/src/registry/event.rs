//! Events: what became of instances, newest last, for whoever follows them.

use rrd::{InstanceId, Timestamp};

use crate::lifecycle::{Evidence, State};

/// Something that happened to an instance, a request or a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// 1, 2, 3…, for ever.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What kind of thing it is.
    pub what: What,
    /// Whose; none of a zone.
    pub instance: Option<InstanceId>,
    /// What people call it: the instance's name, or the zone's.
    pub name: String,
    /// Who said so, and what.
    pub evidence: Evidence,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An instance came to another state; from none at its beginning.
    Moved {
        /// Where it was.
        from: Option<State>,
        /// Where it is.
        to: State,
    },
    /// Two machines use one credential; the newer was turned away.
    IdentityConflict,
    /// So many of a zone fell silent at once that the timers are stopped.
    ZoneFault,
    /// They run again.
    ZoneHealed,
    /// A cloud wants something of a person.
    CloudNotice,
}

impl What {
    /// Its word in answers.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Moved { .. } => "state",
            Self::IdentityConflict => "identity_conflict",
            Self::ZoneFault => "zone_fault",
            Self::ZoneHealed => "zone_healed",
            Self::CloudNotice => "cloud_notice",
        }
    }
}
