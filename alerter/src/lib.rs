//! All between a stored row and a person or an autoscaler: rules, judgement, outbox, mail, webhooks.
//!
//! Judgement is pure and uses the journal's time only, so that replay gives the same transitions
//! with the same ids. What must reach somebody is in the journal before the first attempt; delivery
//! is at least once, with stable ids, in order within an incident.

mod codec;
pub mod config;
mod engine;
mod judge;
mod letter;
pub mod mail;
pub mod notify;
mod outbox;
mod phase;
mod problem;
mod rules;
mod threshold;
mod transition;
mod view;
pub mod webhook;
mod written;

#[cfg(test)]
mod tests;

pub use codec::DamagedFrame;
pub use engine::{Engine, FRAME_DELIVERY, FRAME_RULES, FRAME_TRANSITIONS};
pub use judge::{Phases, Reading, judge};
pub use notify::{Channel, Channels, Failure, Ledger};
pub use outbox::{Counts, DeadLetter, Delivery, Outcome, Row};
pub use problem::{Problem, nearest};
pub use rules::{Level, NoData, Rule, Rules, SERVER_RULES, STARTER_RULES};
pub use threshold::{Condition, Operator};
pub use transition::{IncidentId, Reason, State, Transition, TransitionId};
pub use view::{OpenAlert, RuleView, View};
