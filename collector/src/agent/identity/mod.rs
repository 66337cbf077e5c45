//! Who this machine is to the cloud it runs in: asked of the cloud's metadata service, never waited for.
//!
//! EC2, GCE and Azure are asked at the same time; the first that knows the machine names it. Nothing
//! here is proof, but for the document that the cloud signs, which the server checks.

mod imds;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub(super) use imds::Imds;
pub(super) use watch::{Ending, Watch};

/// Where every cloud has its metadata service.
pub(super) const ENDPOINT: &str = "http://169.254.169.254";

/// The file that keeps the answer, so that a restart asks nobody.
const CACHE_NAME: &str = "cloud.json";

/// Which cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Cloud {
    Ec2,
    Gce,
    Azure,
}

/// What the cloud calls this machine. What it did not say is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) cloud: Cloud,
    pub(super) instance_id: String,
    pub(super) account: String,
    pub(super) region: String,
    pub(super) zone: String,
    pub(super) machine_type: String,
    /// Azure's path of the machine, by which its events name it.
    #[serde(default)]
    pub(super) resource_id: String,
    /// The cloud may take it away at any time.
    pub(super) is_spot: bool,
}

/// What is kept between two lives of the process in one boot.
#[derive(Serialize, Deserialize)]
struct Cached {
    boot_id: String,
    identity: Identity,
}

impl Identity {
    /// As labels of the instance.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let provider = match self.cloud {
            Cloud::Ec2 => "aws",
            Cloud::Gce => "gcp",
            Cloud::Azure => "azure",
        };
        let lifecycle = if self.is_spot { "spot" } else { "normal" };
        let pairs = [
            ("cloud_provider", provider),
            ("cloud_instance_id", &self.instance_id),
            ("cloud_account", &self.account),
            ("cloud_region", &self.region),
            ("cloud_zone", &self.zone),
            ("cloud_type", &self.machine_type),
            ("cloud_resource_id", &self.resource_id),
            ("cloud_lifecycle", lifecycle),
        ];
        let known = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        known.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// What an earlier life in this boot found out.
    pub(super) fn cached(dir: &Path, boot_id: u128) -> Option<Self> {
        let text = fs::read(dir.join(CACHE_NAME)).ok()?;
        let cached: Cached = serde_json::from_slice(&text).ok()?;
        (boot_id != 0 && cached.boot_id == format!("{boot_id:032x}")).then_some(cached.identity)
    }

    /// Keeps it for the next life in this boot; one that cannot be kept is asked for again.
    pub(super) fn cache(&self, dir: &Path, boot_id: u128) {
        let cached = Cached { boot_id: format!("{boot_id:032x}"), identity: self.clone() };
        if let Ok(text) = serde_json::to_vec_pretty(&cached) {
            fs::write(dir.join(CACHE_NAME), text).unwrap_or_default();
        }
    }
}
