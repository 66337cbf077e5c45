//! The agent's side of the protocol: what to send next, and what an answer means.
//!
//! Pure: time, randomness and answers come in as arguments; nothing here waits, reads or sends.

use std::time::Duration;

use rrd::Timestamp;

use super::backoff::Backoff;
use super::credential::Credential;
use super::dictionary::Dictionary;
use super::enrolment::{Enrolment, Turn};
use super::error::AgentError;
use super::reading::Readings;
use super::spool::Spool;
use crate::native::{EnrollAnswer, Problem, Push, PushAnswer, Reading};

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
    /// Send this.
    Push(Push),
    /// Ask for a new credential in good time.
    Renew,
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
    /// The wall clock, milliseconds since 1970.
    pub(super) wall_ms: i64,
}

/// What an answer brought.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// This machine has a credential now; keep it.
    Enrolled(Credential),
    /// The batch was taken, but for this many samples.
    Accepted { refused_samples: u64, first_refusal: Option<String> },
    /// Not taken this time; what to tell a person.
    Trouble(String),
    /// Another machine has this one's key: make a new one and enrol with it.
    MakeKey(String),
    /// The credential holds on for a while; it is asked for another later.
    NotRenewed,
}

/// What a session starts with.
pub(super) struct Start {
    pub(super) boot_id: u128,
    /// Random, for this life of the process.
    pub(super) incarnation: u64,
    pub(super) credential: Option<Credential>,
    /// There is a token to enrol with.
    pub(super) may_enrol: bool,
    pub(super) backoff: Backoff,
    pub(super) spool_bytes: usize,
}

/// The state of the conversation with one collector.
pub(super) struct Session {
    boot_id: u128,
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
    clock_offset_s: Option<f64>,
    enrolment: Enrolment,
}

/// The push that waits for its answer.
struct Sent {
    number: u64,
    entries: Vec<u32>,
    wall: Timestamp,
    now: Duration,
}

#[derive(Default)]
struct Counts {
    send_errors: u64,
    refused_samples: u64,
    unnumbered_samples: u64,
}

impl Session {
    /// A session that has not said anything yet.
    pub(super) fn new(start: Start) -> Self {
        Self {
            boot_id: start.boot_id,
            incarnation: start.incarnation,
            credential: start.credential,
            may_enrol: start.may_enrol,
            is_untried: false,
            backoff: start.backoff,
            dictionary: Dictionary::default(),
            spool: Spool::bounded(start.spool_bytes),
            sent: None,
            corrections: 0,
            counts: Counts::default(),
            clock_offset_s: None,
            enrolment: Enrolment::default(),
        }
    }

    /// Has it sign with a key from now on; it may enrol without a token then.
    pub(super) fn signs(&mut self) {
        self.enrolment.has_key = true;
        self.enrolment.has_history = self.credential.is_some();
    }

    /// Where the enrolment stands.
    pub(super) fn enrolment(&self) -> &Enrolment {
        &self.enrolment
    }

    /// There is another key: the identity is a new one, and all that waits is sent under it.
    pub(super) fn has_new_key(&mut self, random: u64) {
        self.enrolment.has_new_key();
        self.begin_anew(random);
    }

    fn begin_anew(&mut self, random: u64) {
        self.credential = None;
        self.incarnation = random;
        self.spool.renumber();
        self.dictionary.forget();
    }

    /// The collector's clock, as far as it is known.
    pub(super) fn server_ms(&self, wall: Timestamp) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "an offset of clocks in milliseconds")]
        let offset_ms = self.clock_offset_s.map(|offset| (offset * 1000.0) as i64);
        wall.as_millis().saturating_add(offset_ms.unwrap_or(self.enrolment.lead_ms()))
    }

    /// The credential to push with.
    pub(super) fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
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
            self.spool.push(Reading { at_ms: at.as_millis(), values });
        }
    }

    /// Adds what the session knows of itself to the readings of this moment.
    pub(super) fn report(&self, out: &mut Readings) {
        let dropped = self.spool.dropped() + self.counts.unnumbered_samples;
        out.gauge("agent_spool_batches", &[], count(self.spool.len() as u64));
        out.gauge("agent_spool_bytes", &[], count(self.spool.byte_count() as u64));
        out.total("agent_send_errors_total", &[], count(self.counts.send_errors));
        out.total("agent_dropped_samples_total", &[], count(dropped));
        out.total("agent_refused_samples_total", &[], count(self.counts.refused_samples));
        if let Some(offset) = self.clock_offset_s {
            out.gauge("agent_clock_offset_seconds", &[], offset);
        }
    }

    /// What to do at this moment. Asked again only after the answer to what it said was told.
    pub(super) fn next(&mut self, now: Duration, wall: Timestamp) -> Next {
        if let Some(until) = self.backoff.until(now) {
            return Next::Wait(until);
        }
        let Some(credential) = &self.credential else { return Next::Enrol };
        if self.enrolment.is_to_renew(credential.expires_ms, now, self.server_ms(wall)) {
            return Next::Renew;
        }
        let Some(batch) = self.spool.next() else { return Next::Idle };
        let dictionary = self.dictionary.unknown_in(&batch.readings);
        let entries = dictionary.iter().map(|entry| entry.id).collect();
        let (number, readings) = (batch.number, batch.readings.clone());
        self.sent = Some(Sent { number, entries, wall, now });
        Next::Push(Push {
            instance: credential.instance,
            incarnation: self.incarnation,
            boot_id: self.boot_id,
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
            Err(Unreachable(why)) => return Ok(self.failed(None, at, why)),
        };
        let status = reply.status;
        if let Some(turn) = self.enrolment.turned(status, &reply.body, at.wall_ms) {
            return Ok(self.turned(turn, at));
        }
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

    fn turned(&mut self, turn: Turn, at: Moment) -> Event {
        match turn {
            Turn::Again(why) => self.failed(None, at, why),
            Turn::Wait { after, why } => self.failed(Some(after), at, why),
            Turn::MakeKey(why) => Event::MakeKey(why),
        }
    }

    /// The answer to a renewal. The credential holds on meanwhile, so that nothing stops for it.
    pub(super) fn renew_answered(
        &mut self,
        outcome: Result<Reply, Unreachable>,
        at: Moment,
    ) -> Event {
        let reply = match outcome {
            Ok(reply) if (200..300).contains(&reply.status) => reply,
            Ok(reply) => {
                self.enrolment.renewal_failed(Some(reply.status), at.now);
                return Event::NotRenewed;
            }
            Err(_) => {
                self.enrolment.renewal_failed(None, at.now);
                return Event::NotRenewed;
            }
        };
        let Ok(answer) = serde_json::from_slice::<EnrollAnswer>(&reply.body) else {
            self.enrolment.renewal_failed(None, at.now);
            return Event::NotRenewed;
        };
        let credential = Credential::from(answer);
        self.credential = Some(credential.clone());
        Event::Enrolled(credential)
    }

    fn enrolled(&mut self, answer: EnrollAnswer) -> Event {
        self.enrolment.done();
        let credential = Credential::from(answer);
        self.credential = Some(credential.clone());
        self.is_untried = true;
        self.backoff.succeeded();
        Event::Enrolled(credential)
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
            Err(Unreachable(why)) => return Ok(self.failed(None, at, why)),
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
                Ok(self.counted(format!("batch {}: {}", sent.number, message(&reply))))
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
        self.enrolment.was_accepted = true;
        self.counts.refused_samples += answer.refused_samples;
        self.clock_offset_s = Some(clock_offset_s(sent, answer.server_ms, at.now));
        let first_refusal = answer
            .refused
            .first()
            .map(|refused| format!("{}: {}", refused.series, refused.message));
        Event::Accepted { refused_samples: answer.refused_samples, first_refusal }
    }

    /// The server lacks something that is still here: batches, or the dictionary.
    fn corrected(&mut self, sent: &Sent, reply: &Reply, at: Moment) -> Event {
        let problem: Problem = serde_json::from_slice(&reply.body).unwrap_or_default();
        if problem.make_key && self.enrolment.has_key {
            return Event::MakeKey(message(reply));
        }
        self.corrections += 1;
        let mut is_corrected = problem.resend_dictionary;
        if problem.resend_dictionary {
            self.dictionary.forget();
        }
        if let Some(number) = problem.resend_from {
            is_corrected |= self.spool.resend_from(number) < sent.number;
        }
        if is_corrected && self.corrections <= CORRECTIONS_MAX {
            return self.counted(message(reply));
        }
        self.refused(reply, at)
    }

    /// The server does not take the credential. When it merely does not know it, a machine with a
    /// token enrols again and sends all that waits under its new identity. Whom a person put out
    /// does not come back by itself.
    fn disowned(&mut self, reply: &Reply, at: Moment) -> Result<Event, AgentError> {
        let word = serde_json::from_slice::<Problem>(&reply.body).unwrap_or_default().error;
        let is_put_out = reply.status == 403 || PUT_OUT.contains(&word.as_str());
        // Withdrawn in an earlier life of the machine: it is back, and its key says so.
        let is_back = word == "withdrawn" && self.enrolment.has_key && !self.enrolment.was_accepted;
        let may_enrol = self.may_enrol || self.enrolment.has_key;
        if (is_put_out && !is_back) || !may_enrol || self.is_untried {
            let (status, message) = (reply.status, message(reply));
            return Err(AgentError::CredentialRefused { status, message });
        }
        self.begin_anew(at.random);
        Ok(self.counted(format!("credential refused, enrolling again: {}", message(reply))))
    }

    fn refused(&mut self, reply: &Reply, at: Moment) -> Event {
        let why = format!("status {}: {}", reply.status, message(reply));
        self.failed(reply.retry_after, at, why)
    }

    fn failed(&mut self, retry_after: Option<Duration>, at: Moment, why: String) -> Event {
        self.backoff.failed(at.now, retry_after, at.random);
        self.counted(why)
    }

    fn counted(&mut self, why: String) -> Event {
        self.counts.send_errors += 1;
        Event::Trouble(why)
    }
}

/// How far the server's clock is ahead of ours, taking the way there and back as equally long.
fn clock_offset_s(sent: &Sent, server_ms: i64, now: Duration) -> f64 {
    let half_way = now.saturating_sub(sent.now) / 2;
    let server = Timestamp::from_millis(server_ms);
    server.as_secs_f64() - sent.wall.as_secs_f64() - half_way.as_secs_f64()
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
