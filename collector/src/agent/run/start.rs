//! How an agent starts: what its state folder keeps is read, its spool opened, its cloud asked for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rrd::disk::{DirLock, Disk as _, OsDisk, lock_dir};
use rrd::{Clock, Step};
use tokio::sync::watch;
use tracing::warn;

use super::Agent;
use crate::agent::backoff::Backoff;
use crate::agent::client::Client;
use crate::agent::clock::Timeline;
use crate::agent::config::AgentConfig;
use crate::agent::credential::Credential;
use crate::agent::descriptors::Poll;
use crate::agent::dictionary::Dictionary;
use crate::agent::error::AgentError;
use crate::agent::identity::{Ending, Identity, Imds};
use crate::agent::key::{self, Key};
use crate::agent::proc::Host;
use crate::agent::reading::Readings;
use crate::agent::session::{Session, Start};
use crate::agent::sources::{self, Sources, When};
use crate::agent::spool::{Life, Queue, Spool};

/// The step until the collector has said another.
const STEP_MS: u64 = 10_000;

impl Agent {
    /// Reads the credential and prepares all else; sends nothing yet.
    pub(in crate::agent) fn start(
        config: AgentConfig,
        clock: Arc<dyn Clock>,
        backoff: Backoff,
    ) -> Result<Self, AgentError> {
        let client = Client::trusting(&config.collector_url, &config.trust)?;
        if client.is_in_the_clear() {
            warn!(
                collector = config.collector_url,
                "the credential travels unencrypted; use https"
            );
        }
        let (credential, key) = match &config.state_dir {
            Some(dir) => kept_in(dir)?,
            None => (None, None),
        };
        if credential.is_none() && config.token.is_none() && key.is_none() {
            return Err(AgentError::NoToken);
        }
        if let (None, Some(dir)) = (&credential, &config.state_dir) {
            Credential::prepare(dir)?;
        }
        let request = config.request();
        let cloud = cloud_of(&config, request.boot_id);
        let told = credential.as_ref().and_then(|credential| credential.step);
        let step = config.step.or(told).unwrap_or_else(usual_step);
        let life = Life { boot_id: request.boot_id, step_ms: step.as_millis(), salt: random()? };
        let mut dictionary = Dictionary::default();
        let (spool, lock) = open_spool(&config, life, &mut dictionary)?;
        let mut session = Session::new(Start {
            incarnation: random()?,
            credential,
            may_enrol: config.token.is_some(),
            backoff,
            spool,
            dictionary,
            timeline: Timeline::start(clock.wall(), clock.monotonic()),
            poll: Some(Poll::default()),
        });
        if key.is_some() {
            session.signs();
        }
        Ok(Self {
            client,
            session,
            host: Some(Box::new((Host::under(&config.proc_root), Readings::default()))),
            sources: sources_of(&config)?,
            gathering_until: Duration::ZERO,
            due: clock.wall(),
            clock,
            step,
            usual_step: step,
            allowed: config.sources.clone(),
            _lock: lock,
            is_step_fixed: config.step.is_some(),
            token: config.token,
            state_dir: config.state_dir,
            request,
            is_troubled: false,
            is_refused: false,
            key,
            goodbye: config.goodbye,
            synced_at: Duration::ZERO,
            cloud,
            ending: Ending::default(),
        })
    }
}

/// The sources that are read from the start.
pub(super) fn sources_of(config: &AgentConfig) -> Result<Sources, AgentError> {
    let mut sources = Sources::default();
    for (name, table) in &config.sources {
        let source = sources::build(name, table)?;
        if sources::when(name, table)? == When::Always {
            sources.set(name, source);
        }
    }
    Ok(sources)
}

/// What was found out of this machine's cloud: none, or one and how to ask it.
pub(super) type Found = Option<(Identity, Imds)>;

/// Asks the cloud who this machine is, in a task of its own. Nobody is asked where no service is
/// configured, nor again in the same boot.
fn cloud_of(config: &AgentConfig, boot_id: u128) -> watch::Receiver<Option<Found>> {
    let Some(base) = &config.imds else { return watch::channel(Some(None)).1 };
    let mut imds = Imds::at(base);
    let dir = config.state_dir.clone();
    if let Some(identity) = dir.as_deref().and_then(|dir| Identity::cached(dir, boot_id)) {
        return watch::channel(Some(Some((identity, imds)))).1;
    }
    let (told, found) = watch::channel(None);
    tokio::spawn(async move {
        let identity = imds.identity().await;
        if let (Some(identity), Some(dir)) = (&identity, &dir) {
            identity.cache(dir, boot_id);
        }
        told.send_replace(Some(identity.map(|identity| (identity, imds))));
    });
    found
}

/// The spool of this configuration, and what keeps other agents away from it.
fn open_spool(
    config: &AgentConfig,
    life: Life,
    dictionary: &mut Dictionary,
) -> Result<(Spool, Option<DirLock>), AgentError> {
    let bytes = config.spool_bytes;
    let Some(dir) = &config.spool_dir else {
        return Ok((Spool::of(Queue::in_memory(bytes, life)), None));
    };
    let failed = |problem| AgentError::Spool { path: dir.clone(), mib: bytes >> 20, problem };
    OsDisk.create_dir(dir).map_err(failed)?;
    let lock = lock_dir(dir).map_err(|problem| AgentError::StateInUse { problem })?;
    let queue = Queue::open(&OsDisk, dir, bytes, life, dictionary).map_err(failed)?;
    Ok((Spool::of(queue), Some(lock)))
}

/// The step where nobody says one.
pub(super) fn usual_step() -> Step {
    Step::from_millis(STEP_MS).expect("ten seconds are a step")
}

/// Who this machine is, by its state folder. What a copy of another machine's disk brought along is
/// forgotten.
fn kept_in(dir: &Path) -> Result<(Option<Credential>, Option<Key>), AgentError> {
    let machine = key::machine();
    match Key::load(dir, &machine)? {
        key::Found::Own(key) => Ok((Credential::load(dir)?, Some(key))),
        key::Found::None => Ok((Credential::load(dir)?, Some(Key::create(dir, &machine)?))),
        key::Found::Copied => {
            warn!("the state folder is another machine's: a new key is made");
            Credential::remove(dir)?;
            Ok((None, Some(Key::create(dir, &machine)?)))
        }
    }
}

/// A fresh random number.
pub(super) fn random() -> Result<u64, AgentError> {
    getrandom::u64().map_err(AgentError::Random)
}
