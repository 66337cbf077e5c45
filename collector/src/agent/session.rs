//! The agent's side of the protocol: what to send next, and (`answers`) what an answer means.
//!
//! Pure: time, randomness and answers come in as arguments; nothing here waits, reads or sends.

mod answers;

use std::collections::BTreeMap;
use std::time::Duration;

use rrd::{Step, Timestamp};
use tracing::warn;

use super::backoff::Backoff;
use super::clock::Timeline;
use super::credential::Credential;
use super::descriptors::Poll;
use super::dictionary::Dictionary;
use super::enrolment::Enrolment;
use super::reading::Readings;
use super::spool::{Losses, Spool};
use crate::native::{Descriptor, Push, Reading};

/// What to do now.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Ask to be enrolled.
    Enrol,
    /// Ask for this machine's descriptor, if it is another than this one.
    Poll(Option<String>),
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
    /// What the machine's work is.
    Told(Descriptor),
    /// Nothing new.
    Unchanged,
    /// Not taken this time; what to tell a person.
    Trouble(String),
    /// Another machine has this one's key: make a new one and enrol with it.
    MakeKey(String),
    /// The credential holds on for a while; it is asked for another later.
    NotRenewed,
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
    enrolment: Enrolment,
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
        let offset_ms = self.timeline.offset_s().map(|offset| (offset * 1000.0) as i64);
        wall.as_millis().saturating_add(offset_ms.unwrap_or(self.enrolment.lead_ms()))
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
        if self.enrolment.is_to_renew(credential.expires_ms, now, self.server_ms(wall)) {
            return Next::Renew;
        }
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
}

#[expect(clippy::cast_precision_loss, reason = "counts of one process stay below 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}
