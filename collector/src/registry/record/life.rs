//! Records of states, their evidence, and events.

use bincode::{Decode, Encode};
use rrd::{InstanceId, Timestamp};

use super::bad;
use crate::codec::CodecError;
use crate::lifecycle::{End, Evidence, Hint, Lifecycle, Past, Permanence, State, Terms, Who};
use crate::registry::{Event, What};

#[derive(Encode, Decode)]
pub(crate) struct EventV1 {
    number: u64,
    at_ms: i64,
    what: WhatV1,
    instance: Option<u128>,
    name: String,
    evidence: EvidenceV1,
}

#[derive(Encode, Decode)]
enum WhatV1 {
    Moved { from: Option<u8>, to: u8 },
    IdentityConflict,
    ZoneFault,
    ZoneHealed,
    CloudNotice,
}

#[derive(Encode, Decode)]
struct EvidenceV1 {
    who: u8,
    what: String,
}

#[derive(Encode, Decode)]
pub(super) struct LifeV2 {
    now: StepV1,
    end: Option<StepV1>,
    past: Vec<StepV1>,
}

#[derive(Encode, Decode)]
struct StepV1 {
    state: u8,
    since_ms: i64,
    evidence: EvidenceV1,
}

#[derive(Encode, Decode)]
pub(super) struct TermsV1 {
    is_ephemeral: bool,
    silent_ms: Option<u64>,
    lost_ms: Option<u64>,
    withdraw_ms: Option<u64>,
}

#[derive(Encode, Decode)]
pub(super) struct HintV1 {
    at_ms: i64,
    is_gone: bool,
    what: String,
}

impl From<&Event> for EventV1 {
    fn from(event: &Event) -> Self {
        Self {
            number: event.number,
            at_ms: event.at.as_millis(),
            what: match event.what {
                What::Moved { from, to } => {
                    WhatV1::Moved { from: from.map(State::number), to: to.number() }
                }
                What::IdentityConflict => WhatV1::IdentityConflict,
                What::ZoneFault => WhatV1::ZoneFault,
                What::ZoneHealed => WhatV1::ZoneHealed,
                What::CloudNotice => WhatV1::CloudNotice,
            },
            instance: event.instance.map(|id| id.0),
            name: event.name.clone(),
            evidence: (&event.evidence).into(),
        }
    }
}

impl EventV1 {
    pub(super) fn event(self) -> Result<Event, CodecError> {
        Ok(Event {
            number: self.number,
            at: Timestamp::from_millis(self.at_ms),
            what: match self.what {
                WhatV1::Moved { from, to } => {
                    What::Moved { from: from.map(state).transpose()?, to: state(to)? }
                }
                WhatV1::IdentityConflict => What::IdentityConflict,
                WhatV1::ZoneFault => What::ZoneFault,
                WhatV1::ZoneHealed => What::ZoneHealed,
                WhatV1::CloudNotice => What::CloudNotice,
            },
            instance: self.instance.map(InstanceId),
            name: self.name,
            evidence: self.evidence.evidence()?,
        })
    }
}

impl From<&Evidence> for EvidenceV1 {
    fn from(evidence: &Evidence) -> Self {
        Self { who: evidence.who.number(), what: evidence.what.clone() }
    }
}

impl EvidenceV1 {
    fn evidence(self) -> Result<Evidence, CodecError> {
        let who = Who::of_number(self.who).ok_or_else(|| bad("evidence of nobody known"))?;
        Ok(Evidence { who, what: self.what })
    }
}

impl From<&Lifecycle> for LifeV2 {
    fn from(life: &Lifecycle) -> Self {
        let step = |state: State, since: Timestamp, evidence: &Evidence| StepV1 {
            state: state.number(),
            since_ms: since.as_millis(),
            evidence: evidence.into(),
        };
        Self {
            now: step(life.state, life.since, &life.evidence),
            end: life.end.as_ref().map(|end| step(end.state, end.at, &end.evidence)),
            past: life.past.iter().map(|one| step(one.state, one.since, &one.evidence)).collect(),
        }
    }
}

impl LifeV2 {
    pub(super) fn life(self) -> Result<Lifecycle, CodecError> {
        let past = |step: StepV1| -> Result<Past, CodecError> {
            let (state, since, evidence) = step.parts()?;
            Ok(Past { state, since, evidence })
        };
        let end = |step: StepV1| -> Result<End, CodecError> {
            let (state, at, evidence) = step.parts()?;
            Ok(End { state, at, evidence })
        };
        let (state, since, evidence) = self.now.parts()?;
        Ok(Lifecycle {
            state,
            since,
            evidence,
            end: self.end.map(end).transpose()?,
            past: self.past.into_iter().map(past).collect::<Result<_, _>>()?,
        })
    }
}

impl StepV1 {
    fn parts(self) -> Result<(State, Timestamp, Evidence), CodecError> {
        let since = Timestamp::from_millis(self.since_ms);
        Ok((state(self.state)?, since, self.evidence.evidence()?))
    }
}

impl From<&Terms> for TermsV1 {
    fn from(terms: &Terms) -> Self {
        let Terms { permanence, silent_ms, lost_ms, withdraw_ms } = *terms;
        let is_ephemeral = permanence == Permanence::Ephemeral;
        Self { is_ephemeral, silent_ms, lost_ms, withdraw_ms }
    }
}

impl TermsV1 {
    pub(super) fn terms(self) -> Terms {
        let Self { is_ephemeral, silent_ms, lost_ms, withdraw_ms } = self;
        let permanence = if is_ephemeral { Permanence::Ephemeral } else { Permanence::Permanent };
        Terms { permanence, silent_ms, lost_ms, withdraw_ms }
    }
}

impl From<&Hint> for HintV1 {
    fn from(hint: &Hint) -> Self {
        Self { at_ms: hint.at.as_millis(), is_gone: hint.is_gone, what: hint.what.clone() }
    }
}

impl HintV1 {
    pub(super) fn hint(self) -> Hint {
        let at = Timestamp::from_millis(self.at_ms);
        Hint { at, is_gone: self.is_gone, what: self.what }
    }
}

fn state(number: u8) -> Result<State, CodecError> {
    State::of_number(number).ok_or_else(|| bad(format!("state {number} is not known here")))
}
