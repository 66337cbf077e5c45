//! What an agent is told at its start, by the command line and by `agent.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rrd::Step;

use super::error::AgentError;
use super::facts::{boot_id, facts_under};
use super::identity;
use super::secret::Secret;
use super::settings::Settings;
use super::spool::SPOOL_BYTES;
use super::trust::Trust;
use crate::lifecycle::Farewell;
use crate::native::EnrollRequest;

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where the collector is: `http://HOST:PORT` or `https://HOST`.
    pub collector_url: String,
    /// What to enrol with; not needed once there is a credential in `state_dir`.
    pub token: Option<Secret>,
    /// Where `agent.json` is kept; without it the machine enrols anew at every start.
    pub state_dir: Option<PathBuf>,
    /// Where the spool is kept; without it readings that wait end with the process.
    pub spool_dir: Option<PathBuf>,
    /// Bytes the spool may take, all of them reserved at the start when it is on disk.
    pub spool_bytes: usize,
    /// Where the cloud's metadata service is; without it the agent knows of no cloud.
    pub imds: Option<String>,
    /// The name to ask for; the host name when there is none.
    pub name: Option<String>,
    /// Labels the machine declares of itself.
    pub labels: BTreeMap<String, String>,
    /// Time between looks; what the collector says when there is none.
    pub step: Option<Step>,
    /// Where `/proc` is mounted.
    pub proc_root: PathBuf,
    /// Sources besides the kernel: their tables in `agent.toml`, by name.
    pub sources: BTreeMap<String, toml::Table>,
    /// How the collector is known, and what it is shown.
    pub trust: Trust,
    /// What to say of the reason when it is told to stop; nothing at all when there is none.
    pub goodbye: Option<Farewell>,
}

impl AgentConfig {
    /// An agent for the collector at `collector_url`, everything else as usual.
    pub fn to(collector_url: impl Into<String>) -> Self {
        Self {
            collector_url: collector_url.into(),
            token: None,
            state_dir: None,
            spool_dir: None,
            spool_bytes: SPOOL_BYTES,
            imds: None,
            name: None,
            labels: BTreeMap::new(),
            step: None,
            proc_root: PathBuf::from("/proc"),
            sources: BTreeMap::new(),
            trust: Trust::default(),
            goodbye: None,
        }
    }

    /// What a configuration file says, where it says something. Errors when its token cannot be read.
    pub fn with(mut self, settings: Settings) -> Result<Self, AgentError> {
        if let Some(url) = settings.collector {
            self.collector_url = url;
        }
        if let Some(path) = settings.token_file {
            let token = std::fs::read_to_string(&path);
            let token = token.map_err(|problem| AgentError::State { path, problem })?;
            self.token = Some(Secret::new(&token));
        }
        self.state_dir = settings.state.or(self.state_dir);
        self.spool_dir.clone_from(&self.state_dir);
        self.spool_bytes = settings.spool.unwrap_or(self.spool_bytes);
        let imds = settings.imds.unwrap_or_else(|| identity::ENDPOINT.to_owned());
        self.imds = (imds != "off").then_some(imds);
        self.name = settings.name.or(self.name);
        self.step = settings.step.or(self.step);
        self.proc_root = settings.proc.unwrap_or(self.proc_root);
        self.labels.extend(settings.labels);
        self.sources = settings.sources;
        let identity = settings.cert.zip(settings.key);
        self.trust = Trust { authority: settings.ca, pin: settings.ca_hash, identity };
        Ok(self)
    }

    /// What this machine asks to be enrolled as.
    pub(super) fn request(&self) -> EnrollRequest {
        let facts = facts_under(&self.proc_root, Path::new("/etc/os-release"));
        let name = self.name.clone().unwrap_or_else(|| facts.hostname.clone());
        let boot_id = boot_id(&self.proc_root);
        EnrollRequest { name, boot_id, facts, labels: self.labels.clone(), document: None }
    }
}
