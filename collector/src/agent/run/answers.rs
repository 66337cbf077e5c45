//! What the collector's answers make an agent do.

use rrd::Step;
use tokio::task::spawn_blocking;
use tracing::{debug, info, warn};

use super::exchange::Answer;
use super::start::random;
use super::{Agent, next_boundary};
use crate::agent::credential::Credential;
use crate::agent::error::AgentError;
use crate::agent::key::{self, Key};
use crate::agent::session::{Event, Moment};
use crate::agent::settings::STEP_RANGE_MS;
use crate::agent::sources::{self, When};
use crate::native::Descriptor;

impl Agent {
    /// Works as the descriptor says, as far as this machine allows it.
    fn told(&mut self, descriptor: &Descriptor) {
        let told = descriptor.step_ms.filter(|millis| STEP_RANGE_MS.contains(millis));
        if let (false, step) = (self.is_step_fixed, told.and_then(Step::from_millis)) {
            self.set_step(step.unwrap_or(self.usual_step));
        }
        for (name, table) in &self.allowed {
            let is_asked = matches!(sources::when(name, table), Ok(When::Asked));
            match (is_asked, descriptor.sources.contains(name), self.sources.has(name)) {
                (true, true, false) => match sources::build(name, table) {
                    Ok(source) => {
                        info!(source = name, "the collector turns it on");
                        self.sources.set(name, source);
                    }
                    Err(error) => warn!(%error, "cannot be turned on"),
                },
                (true, false, true) => {
                    info!(source = name, "the collector turns it off");
                    self.sources.remove(name);
                }
                _ => {}
            }
        }
        let is_unknown = |name: &&String| !self.allowed.contains_key(*name);
        for name in descriptor.sources.iter().filter(is_unknown) {
            warn!(source = name, "the collector asks for a source that agent.toml does not have");
        }
    }

    fn set_step(&mut self, step: Step) {
        if step != self.step {
            info!(step_ms = step.as_millis(), "another step");
            self.step = step;
            self.due = self.due.min(next_boundary(self.now(), step));
            self.session.set_step(step);
        }
    }

    /// Takes what came of a question.
    pub(super) async fn answered(&mut self, answer: Answer) -> Result<(), AgentError> {
        let wall_ms = self.clock.wall().as_millis();
        let at = Moment { now: self.clock.monotonic(), random: random()?, wall_ms };
        let event = match answer {
            Answer::Enrol(outcome) => self.session.enrol_answered(outcome, at)?,
            Answer::Push(outcome) => self.session.push_answered(outcome, at)?,
            Answer::Renew(outcome) => self.session.renew_answered(outcome, at),
            Answer::Poll(outcome) => self.session.polled(outcome, at),
        };
        self.follow();
        match event {
            Event::Enrolled(credential) => self.enrolled(credential).await?,
            Event::Accepted { refused_samples, first_refusal } => {
                self.accepted(refused_samples, first_refusal.as_deref());
            }
            Event::Told(descriptor) => self.told(&descriptor),
            Event::Unchanged => {}
            Event::Trouble(why) => self.trouble(&why),
            Event::MakeKey(why) => self.make_key(&why, at.random).await?,
            Event::NotRenewed => debug!("the credential was not renewed yet"),
        }
        Ok(())
    }

    async fn enrolled(&mut self, credential: Credential) -> Result<(), AgentError> {
        info!(instance = format!("{:032x}", credential.instance), "enrolled");
        self.is_troubled = false;
        if let (false, Some(step)) = (self.is_step_fixed, credential.step) {
            self.usual_step = step;
            self.set_step(step);
        }
        let Some(dir) = self.state_dir.clone() else { return Ok(()) };
        let saved = spawn_blocking(move || credential.save(&dir)).await;
        saved.map_err(|error| AgentError::Reader(error.to_string()))?
    }

    /// Becomes another machine to the collector, because there are two of this one.
    async fn make_key(&mut self, why: &str, random: u64) -> Result<(), AgentError> {
        let Some(dir) = self.state_dir.clone() else { return Ok(()) };
        let made = spawn_blocking(move || {
            Credential::remove(&dir)?;
            Key::create(&dir, &key::machine())
        });
        let key = made.await.map_err(|error| AgentError::Reader(error.to_string()))??;
        warn!(
            why,
            fingerprint = key.fingerprint(),
            "this machine has a new key and enrols with it"
        );
        self.key = Some(key);
        self.session.has_new_key(random);
        Ok(())
    }

    /// Logs what changed; a state that lasts is not repeated at every step.
    fn accepted(&mut self, refused_samples: u64, first_refusal: Option<&str>) {
        if std::mem::take(&mut self.is_troubled) {
            info!("the collector takes readings again");
        }
        let is_refused = refused_samples > 0;
        if is_refused && !self.is_refused {
            let first = first_refusal.unwrap_or_default();
            warn!(samples = refused_samples, first, "the collector refuses some series");
        }
        self.is_refused = is_refused;
    }

    fn trouble(&mut self, why: &str) {
        if self.is_troubled {
            debug!(failures = self.session.failures(), why, "the collector does not take readings");
        } else {
            warn!(why, "the collector does not take readings; they are kept and sent later");
        }
        self.is_troubled = true;
    }
}
