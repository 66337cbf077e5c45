//! An instance: a machine or target whose series share one file, one name and one set of labels.

use rrd::{InstanceId, Labels, Timestamp};

use super::TokenId;
use crate::native::Facts;
use crate::secret::Digest;

/// An instance as the registry keeps it.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Who it is, for ever.
    pub id: InstanceId,
    /// What people call it: unique among the active instances of its job.
    pub name: String,
    /// Its labels, `instance` and `job` included; queries lay them over those of its series.
    pub labels: Labels,
    /// How it came here.
    pub source: Source,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// When it came.
    pub enrolled_at: Timestamp,
    /// The boot it enrolled in; 0 where nobody said.
    pub boot_id: u128,
    /// What the machine is.
    pub facts: Facts,
    pub(crate) digest: Option<Digest>,
}

/// How an instance came here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// By `POST /v1/enroll`, with this token (`None`: the admin token).
    Enrolled(Option<TokenId>),
    /// Named by a relay.
    Relay(Namespace),
}

/// What a relay calls an instance. Two relays may use the same words for two instances.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    /// The relay token (`None`: the admin token).
    pub relay: Option<TokenId>,
    /// The label `job`; empty when absent.
    pub job: String,
    /// The label `instance`; empty when absent.
    pub instance: String,
}

/// Where an instance is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// It may send.
    Active,
    /// It is gone, and somebody said so.
    Withdrawn {
        /// When.
        at: Timestamp,
        /// Who said so and why.
        evidence: String,
    },
}

impl Instance {
    /// An instance that came with files of another program. Whoever holds the admin token goes on
    /// sending for it under the same `job` and `instance`.
    pub fn imported(id: InstanceId, job: &str, name: &str, at: Timestamp) -> Self {
        let (job, instance) = (job.to_owned(), name.to_owned());
        Self {
            id,
            name: name.to_owned(),
            labels: Labels::default().with("job", &job).with("instance", name),
            source: Source::Relay(Namespace { relay: None, job, instance }),
            lifecycle: Lifecycle::Active,
            enrolled_at: at,
            boot_id: 0,
            facts: Facts::default(),
            digest: None,
        }
    }

    /// True while it may send.
    pub fn is_active(&self) -> bool {
        self.lifecycle == Lifecycle::Active
    }

    /// Its job; empty when it has none.
    pub fn job(&self) -> &str {
        self.labels.get("job").unwrap_or_default()
    }
}
