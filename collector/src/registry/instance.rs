//! An instance: a machine or target whose series share one file, one name and one set of labels.

use rrd::{InstanceId, Labels, Timestamp};

use super::TokenId;
use crate::identity::PublicKey;
use crate::lifecycle::{Evidence, Hint, Lifecycle, State, Terms, Who};
use crate::native::Facts;
use crate::secret::Digest;

/// An instance as the registry keeps it.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Who it is, for ever.
    pub id: InstanceId,
    /// What people call it: unique among those of its job that are not gone.
    pub name: String,
    /// Its labels, `instance` and `job` included; queries lay them over those of its series.
    pub labels: Labels,
    /// How it came here.
    pub source: Source,
    /// Where it is in its life, and why.
    pub lifecycle: Lifecycle,
    /// When it came.
    pub enrolled_at: Timestamp,
    /// The boot it enrolled in; 0 where nobody said.
    pub boot_id: u128,
    /// What the machine is.
    pub facts: Facts,
    /// What its token says of its silence.
    pub terms: Terms,
    /// Its key, which alone makes it this instance.
    pub key: Option<PublicKey>,
    /// Series it may have, where its token or the person who approved it said.
    pub series_quota: Option<u32>,
    /// The instance that this machine was before it was reclaimed.
    pub predecessor: Option<InstanceId>,
    /// The last word of its cloud.
    pub hint: Option<Hint>,
    pub(crate) credential: Option<Credential>,
    /// The one before, which holds until the new one was used or its time is over.
    pub(crate) former_credential: Option<Credential>,
}

/// What an instance shows to be taken for itself.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) digest: Digest,
    /// When it ends; never where its holder has no key to renew it with.
    pub(crate) expires_at: Option<Timestamp>,
}

/// How an instance came here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// By `POST /v1/enroll`, with this token (`None`: the admin token, or none and a policy or a person).
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

impl Instance {
    /// An instance of a relay, which reports from now on.
    pub(crate) fn relayed(id: InstanceId, space: Namespace, at: Timestamp) -> Self {
        let evidence = Evidence::of(Who::Collector, "its relay sends for it");
        Self {
            id,
            name: String::new(),
            labels: Labels::default(),
            source: Source::Relay(space),
            lifecycle: Lifecycle::begun(State::Active, evidence, at),
            enrolled_at: at,
            boot_id: 0,
            facts: Facts::default(),
            terms: Terms::default(),
            key: None,
            series_quota: None,
            predecessor: None,
            hint: None,
            credential: None,
            former_credential: None,
        }
    }

    /// An instance that came with files of another program. Whoever holds the admin token goes on
    /// sending for it under the same `job` and `instance`.
    pub fn imported(id: InstanceId, job: &str, name: &str, at: Timestamp) -> Self {
        let space = Namespace { relay: None, job: job.to_owned(), instance: name.to_owned() };
        Self {
            name: name.to_owned(),
            labels: Labels::default().with("job", job).with("instance", name),
            ..Self::relayed(id, space, at)
        }
    }

    /// True until it is gone: its samples are taken, and its name is its own.
    pub fn is_active(&self) -> bool {
        !self.lifecycle.state.is_gone()
    }

    /// Its job; empty when it has none.
    pub fn job(&self) -> &str {
        self.labels.get("job").unwrap_or_default()
    }

    /// The zone it is in, by its labels; empty when they do not say.
    pub fn zone(&self) -> &str {
        let named = |name: &&str| self.labels.get(name).filter(|zone| !zone.is_empty());
        ZONE_LABELS.iter().find_map(named).unwrap_or_default()
    }
}

/// Labels that name the place whose network or power instances share, the narrowest first.
const ZONE_LABELS: [&str; 4] = ["zone", "availability_zone", "cloud_zone", "region"];
