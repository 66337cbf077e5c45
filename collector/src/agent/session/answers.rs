//! What an answer means to the session: what it counts, corrects, gives up or begins anew.

use std::time::Duration;

use super::{Event, Moment, Reply, Sent, Session, Unreachable};
use crate::agent::clock::Exchange;
use crate::agent::credential::Credential;
use crate::agent::descriptors::Polled;
use crate::agent::enrolment::Turn;
use crate::agent::error::AgentError;
use crate::native::{EnrollAnswer, Problem, PushAnswer};

/// Times in a row a 409 is answered at once. A server that began anew may ask for the dictionary and
/// then for older batches; who asks more often is left alone for a while.
const CORRECTIONS_MAX: u32 = 2;

/// What a server calls an instance that somebody decided against.
const PUT_OUT: [&str; 2] = ["revoked", "withdrawn"];

/// Characters of a server's words that are kept for a message.
const MESSAGE_CHARS_MAX: usize = 300;

impl Session {
    /// The answer to a request to be enrolled.
    pub(in crate::agent) fn enrol_answered(
        &mut self,
        outcome: Result<Reply, Unreachable>,
        at: Moment,
    ) -> Result<Event, AgentError> {
        let reply = match outcome {
            Ok(reply) => reply,
            Err(Unreachable(why)) => return Ok(self.failed(None, at, (0, why))),
        };
        let status = reply.status;
        if let Some(turn) = self.enrolment.turned(status, &reply.body, at.wall_ms) {
            return Ok(self.turned(turn, status, at));
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

    fn turned(&mut self, turn: Turn, status: u16, at: Moment) -> Event {
        match turn {
            Turn::Again(why) => self.failed(None, at, (status, why)),
            Turn::Wait { after, why } => self.failed(Some(after), at, (status, why)),
            Turn::MakeKey(why) => Event::MakeKey(why),
        }
    }

    /// The answer to a renewal. The credential holds on meanwhile, so that nothing stops for it.
    pub(in crate::agent) fn renew_answered(
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

    /// The answer to the question for the descriptor.
    pub(in crate::agent) fn polled(
        &mut self,
        outcome: Result<Polled, Unreachable>,
        at: Moment,
    ) -> Event {
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
    pub(in crate::agent) fn push_answered(
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
        self.enrolment.was_accepted = true;
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
        // Withdrawn in an earlier life of the machine: it is back, and its key says so.
        let is_back = word == "withdrawn" && self.enrolment.has_key && !self.enrolment.was_accepted;
        let may_enrol = self.may_enrol || self.enrolment.has_key;
        if (is_put_out && !is_back) || !may_enrol || self.is_untried {
            let (status, message) = (reply.status, message(reply));
            return Err(AgentError::CredentialRefused { status, message });
        }
        self.begin_anew(at.random);
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
