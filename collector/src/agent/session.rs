//! The agent's side of the protocol: what to send next, and what an answer means.
//!
//! Pure: time, randomness and answers come in as arguments; nothing here waits, reads or sends.

use std::collections::BTreeMap;
use std::time::Duration;

use rrd::{Step, Timestamp};
use tracing::warn;

use super::backoff::Backoff;
use super::clock::{Exchange, Timeline};
use super::credential::Credential;
use super::descriptors::{Poll, Polled};
use super::dictionary::Dictionary;
use super::error::AgentError;
use super::reading::Readings;
use super::spool::{Losses, Spool};
use crate::native::{Descriptor, EnrollAnswer, Problem, Push, PushAnswer, Reading};

/// Times in a row a 409 is answered at once. A server that began anew may ask for the dictionary and
/// then for older batches; who asks more often is left alone for a while.
const CORRECTIONS_MAX: u32 = 2;

/// What a server calls an instance that somebody decided against.
const PUT_OUT: [&str; 2] = ["revoked", "withdrawn"];

/// Characters of a server's words that are kept for a message.
const MESSAGE_CHARS_MAX: usize = 300;

/// What to do now.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Ask to be enrolled.
    Enrol,
    /// Ask for this machine's descriptor, if it is another than this one.
    Poll(Option<String>),
    /// Send this.
    Push(Push),
    /// Nothing before this moment of the monotonic clock.
    Wait(Duration),
    /// Nothing until there are readings.
    Idle,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug)]
pub(super) struct Unreachable(pub(super) String);

/// The circumstances of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The monotonic clock.
    pub(super) now: Duration,
    /// A fresh random number.
    pub(super) random: u64,
}

/// What an answer brought.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// This machine has a credential now; keep it.
    Enrolled(Credential),
    /// The batch was taken, but for this many samples.
    Accepted { refused_samples: u64, first_refusal: Option<String> },
    /// What the machine's work is.
    Told(Descriptor),
    /// Nothing new.
    Unchanged,
    /// Not taken this time; what to tell a person.
    Trouble(String),
}

/// What a session starts with.
pub(super) struct Start {
    /// Random, for this life of the process.
    pub(super) incarnation: u64,
    pub(super) credential: Option<Credential>,
    /// There is a token to enrol with.
    pub(super) may_enrol: bool,
    pub(super) backoff: Backoff,
    pub(super) spool: Spool,
    /// What the spool's last segment has named already.
    pub(super) dictionary: Dictionary,
    pub(super) timeline: Timeline,
    /// Asks for descriptors, if it does.
    pub(super) poll: Option<Poll>,
}

/// The state of the conversation with one collector.
pub(super) struct Session {
    incarnation: u64,
    credential: Option<Credential>,
    may_enrol: bool,
    /// The credential was given in this life of the process and no push was taken with it yet.
    is_untried: bool,
    backoff: Backoff,
    dictionary: Dictionary,
    spool: Spool,
    sent: Option<Sent>,
    corrections: u32,
    counts: Counts,
    timeline: Timeline,
    poll: Option<Poll>,
}

/// The push that waits for its answer.
struct Sent {
    number: u64,
    entries: Vec<u32>,
    now: Duration,
}

#[derive(Default)]
struct Counts {
    /// By the status of the answer; 0 where there was none.
    send_errors: BTreeMap<u16, u64>,
    refused_samples: u64,
    unnumbered_samples: u64,
}

impl Session {
    /// A session that has not said anything yet.
    pub(super) fn new(start: Start) -> Self {
        Self {
            incarnation: start.incarnation,
            credential: start.credential,
            may_enrol: start.may_enrol,
            is_untried: false,
            backoff: start.backoff,
            dictionary: start.dictionary,
            spool: start.spool,
            sent: None,
            corrections: 0,
            counts: Counts::default(),
            timeline: start.timeline,
            poll: start.poll,
        }
    }

    /// The credential to push with.
    pub(super) fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    /// What waits to be sent.
    pub(super) fn spool(&mut self) -> &mut Spool {
        &mut self.spool
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// Puts the readings of the moment `at` into the spool.
    pub(super) fn take(&mut self, at: Timestamp, readings: &Readings) {
        let mut values = Vec::with_capacity(readings.len());
        for reading in readings.iter() {
            match self.dictionary.id(&reading) {
                Some(id) => values.push((id, reading.value)),
                None => self.counts.unnumbered_samples += 1,
            }
        }
        if !values.is_empty() {
            self.spool.push(&Reading { at_ms: at.as_millis(), values }, &self.dictionary);
        }
    }

    /// The agent's time.
    pub(super) fn time(&self, now: Duration) -> Timestamp {
        self.timeline.at(now)
    }

    /// Follows the machine's clock and the server's. True when the agent's time was moved, and the
    /// readings that wait with it.
    pub(super) fn follow(&mut self, wall: Timestamp, now: Duration) -> bool {
        let moved_ms = self.timeline.follow(wall, now);
        if let Some(moved_ms) = moved_ms {
            warn!(
                by_s = moved_ms / 1000,
                "this machine's clock is wrong; readings are moved to the collector's time"
            );
            self.spool.queue().shift(moved_ms);
        }
        moved_ms.is_some()
    }

    /// Readings are made at another step from now on.
    pub(super) fn set_step(&mut self, step: Step) {
        self.spool.queue().set_step(step.as_millis());
    }

    /// Adds what the session knows of itself to the readings of this moment.
    pub(super) fn report(&mut self, now: Duration, out: &mut Readings) {
        out.gauge("agent_queue_batches", &[], count(self.spool.len() as u64));
        out.gauge("agent_queue_bytes", &[], count(self.spool.byte_count() as u64));
        let oldest_ms = self.spool.oldest_ms(&mut self.dictionary);
        let age_ms = oldest_ms.map_or(0, |at| self.timeline.at(now).as_millis().saturating_sub(at));
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
        out.gauge("agent_queue_oldest_seconds", &[], age.as_secs_f64());
        let Losses { dropped, degraded, refused } = self.spool.losses();
        for (reason, samples) in [
            ("full", dropped),
            ("rejected", refused),
            ("too_many_series", self.counts.unnumbered_samples),
        ] {
            out.total("agent_dropped_samples_total", &[("reason", reason)], count(samples));
        }
        out.total("agent_degraded_samples_total", &[], count(degraded));
        for (code, errors) in &self.counts.send_errors {
            let code = if *code == 0 { "unreachable".to_owned() } else { code.to_string() };
            out.total("agent_send_errors_total", &[("code", &code)], count(*errors));
        }
        out.total("agent_refused_samples_total", &[], count(self.counts.refused_samples));
        if let Some(offset_s) = self.timeline.offset_s() {
            out.gauge("agent_clock_offset_seconds", &[], offset_s);
        }
        out.gauge("agent_clock_skew", &[], self.timeline.skew().number());
    }

    /// What to do at this moment. Asked again only after the answer to what it said was told.
    pub(super) fn next(&mut self, now: Duration, wall: Timestamp) -> Next {
        if let Some(until) = self.backoff.until(now) {
            return Next::Wait(until);
        }
        let Some(credential) = &self.credential else { return Next::Enrol };
        // The first question goes before the first readings: its answer tells the time.
        if let Some(poll) = self.poll.as_mut().filter(|poll| poll.is_due(now)) {
            poll.sent = now;
            return Next::Poll(poll.tag().map(str::to_owned));
        }
        let Some(batch) = self.spool.next(&mut self.dictionary) else { return Next::Idle };
        let dictionary = self.dictionary.unknown_in(&batch.readings);
        let entries = dictionary.iter().map(|entry| entry.id).collect();
        let (number, boot_id, readings) = (batch.number, batch.boot_id, batch.readings.clone());
        self.sent = Some(Sent { number, entries, now });
        Next::Push(Push {
            instance: credential.instance,
            incarnation: self.incarnation,
            boot_id,
            number,
            floor: self.spool.floor(),
            sent_ms: wall.as_millis(),
            dictionary,
            readings,
        })
    }

    /// The answer to a request to be enrolled.
    pub(super) fn enrol_answered(
        &mut self,
        outcome: Result<Reply, Unreachable>,
        at: Moment,
    ) -> Result<Event, AgentError> {
        let reply = match outcome {
            Ok(reply) => reply,
            Err(Unreachable(why)) => return Ok(self.failed(None, at, (0, why))),
        };
        let status = reply.status;
        match status {
            200 | 201 => match serde_json::from_slice::<EnrollAnswer>(&reply.body) {
                Ok(answer) => Ok(self.enrolled(answer)),
                Err(_) => Ok(self.refused(&reply, at)),
            },
            401 | 403 | 410 => Err(AgentError::TokenRefused { status, message: message(&reply) }),
            400 | 409 | 413 | 422 => {
                Err(AgentError::EnrolmentRefused { status, message: message(&reply) })
            }
            _ => Ok(self.refused(&reply, at)),
        }
    }

    fn enrolled(&mut self, answer: EnrollAnswer) -> Event {
        let credential = Credential::from(answer);
        self.credential = Some(credential.clone());
        self.is_untried = true;
        self.backoff.succeeded();
        Event::Enrolled(credential)
    }

    /// The answer to the question for the descriptor.
    pub(super) fn polled(&mut self, outcome: Result<Polled, Unreachable>, at: Moment) -> Event {
        let Some(poll) = &mut self.poll else { return Event::Unchanged };
        let polled = match outcome {
            Ok(polled) => polled,
            Err(Unreachable(why)) => return self.failed(None, at, (0, why)),
        };
        poll.answered(&polled, at.now, at.random);
        if let Some(server_ms) = polled.server_ms {
            self.timeline.answered(Exchange { sent: poll.sent, answered: at.now, server_ms });
        }
        match polled.reply.status {
            200 => serde_json::from_slice(&polled.reply.body).map_or(Event::Unchanged, Event::Told),
            _ => Event::Unchanged,
        }
    }

    /// The answer to the push that [`Session::next`] gave last.
    pub(super) fn push_answered(
        &mut self,
        outcome: Result<Reply, Unreachable>,
        at: Moment,
    ) -> Result<Event, AgentError> {
        let Some(sent) = self.sent.take() else {
            return Ok(Event::Trouble("an answer came to nothing that was sent".to_owned()));
        };
        let reply = match outcome {
            Ok(reply) => reply,
            Err(Unreachable(why)) => return Ok(self.failed(None, at, (0, why))),
        };
        match reply.status {
            200..=299 => Ok(match serde_json::from_slice::<PushAnswer>(&reply.body) {
                Ok(answer) => self.accepted(&sent, &answer, at),
                Err(_) => self.refused(&reply, at),
            }),
            409 => Ok(self.corrected(&sent, &reply, at)),
            401 | 403 => self.disowned(&reply, at),
            413 => {
                self.spool.split(sent.number);
                Ok(self.counted(413, format!("batch {}: {}", sent.number, message(&reply))))
            }
            400 => {
                self.spool.drop_batch(sent.number);
                Ok(self.refused(&reply, at))
            }
            _ => Ok(self.refused(&reply, at)),
        }
    }

    fn accepted(&mut self, sent: &Sent, answer: &PushAnswer, at: Moment) -> Event {
        self.dictionary.acknowledge(&sent.entries);
        self.spool.accept(sent.number, answer.accepted, answer.durable);
        self.backoff.succeeded();
        (self.is_untried, self.corrections) = (false, 0);
        self.counts.refused_samples += answer.refused_samples;
        let exchange = Exchange { sent: sent.now, answered: at.now, server_ms: answer.server_ms };
        self.timeline.answered(exchange);
        let first_refusal = answer
            .refused
            .first()
            .map(|refused| format!("{}: {}", refused.series, refused.message));
        Event::Accepted { refused_samples: answer.refused_samples, first_refusal }
    }

    /// The server lacks something that is still here: batches, or the dictionary.
    fn corrected(&mut self, sent: &Sent, reply: &Reply, at: Moment) -> Event {
        let problem: Problem = serde_json::from_slice(&reply.body).unwrap_or_default();
        self.corrections += 1;
        let mut is_corrected = problem.resend_dictionary;
        if problem.resend_dictionary {
            self.dictionary.forget();
        }
        if let Some(number) = problem.resend_from {
            is_corrected |= self.spool.resend_from(number) < sent.number;
        }
        if is_corrected && self.corrections <= CORRECTIONS_MAX {
            return self.counted(reply.status, message(reply));
        }
        self.refused(reply, at)
    }

    /// The server does not take the credential. When it merely does not know it, a machine with a
    /// token enrols again and sends all that waits under its new identity. Whom a person put out
    /// does not come back by itself.
    fn disowned(&mut self, reply: &Reply, at: Moment) -> Result<Event, AgentError> {
        let word = serde_json::from_slice::<Problem>(&reply.body).unwrap_or_default().error;
        let is_put_out = reply.status == 403 || PUT_OUT.contains(&word.as_str());
        if is_put_out || !self.may_enrol || self.is_untried {
            let (status, message) = (reply.status, message(reply));
            return Err(AgentError::CredentialRefused { status, message });
        }
        self.credential = None;
        self.incarnation = at.random;
        self.spool.renumber();
        self.dictionary.forget();
        let why = format!("credential refused, enrolling again: {}", message(reply));
        Ok(self.counted(reply.status, why))
    }

    fn refused(&mut self, reply: &Reply, at: Moment) -> Event {
        let why = format!("status {}: {}", reply.status, message(reply));
        self.failed(reply.retry_after, at, (reply.status, why))
    }

    fn failed(
        &mut self,
        retry_after: Option<Duration>,
        at: Moment,
        (status, why): (u16, String),
    ) -> Event {
        self.backoff.failed(at.now, retry_after, at.random);
        self.counted(status, why)
    }

    fn counted(&mut self, status: u16, why: String) -> Event {
        *self.counts.send_errors.entry(status).or_default() += 1;
        Event::Trouble(why)
    }
}

/// What the server said, for a person.
fn message(reply: &Reply) -> String {
    let said = match serde_json::from_slice::<Problem>(&reply.body) {
        Ok(problem) => problem.message,
        Err(_) => String::from_utf8_lossy(&reply.body).trim().to_owned(),
    };
    match said.char_indices().nth(MESSAGE_CHARS_MAX) {
        _ if said.is_empty() => "no reason given".to_owned(),
        Some((end, _)) => format!("{}…", said.get(..end).unwrap_or_default()),
        None => said,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one process stay below 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}
