//! Fairness: what each sender may bring in a second, and whose turn it is when there is more to do
//! than processors.

mod meters;
mod turns;

use rrd::InstanceId;

pub(super) use meters::Meters;
pub use meters::{Rate, Rates};
pub(super) use turns::{Turn, Turns};

use crate::registry::{Instance, TokenId};

/// Whose work it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sender {
    /// An instance with a credential of its own.
    Instance(InstanceId),
    /// A relay; `None` is the operator's token.
    Relay(Option<TokenId>),
}

impl From<&Instance> for Sender {
    fn from(instance: &Instance) -> Self {
        Self::Instance(instance.id)
    }
}
