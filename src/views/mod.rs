//! What the pages see of the other parts: each view translates, and decides nothing.

mod alerts;
mod enrolment;
mod fleet;
mod health;

pub(crate) use alerts::Alerts;
pub(crate) use enrolment::Enrolment;
pub(crate) use fleet::Fleet;
pub(crate) use health::{Health, Pulse};
