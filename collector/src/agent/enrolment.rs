//! Where this machine's enrolment stands: which question to ask, and what an answer changes.

use std::time::Duration;

use http::Method;

use crate::native::{ENROLL_PATH, PendingAnswer, Problem};

/// How long before its end a credential is renewed: half of its day.
const RENEW_BEFORE_MS: i64 = 12 * 3_600_000;
/// How long a renewal that failed is left alone.
const RENEW_AGAIN: Duration = Duration::from_mins(10);

/// The state of the enrolment. Without a key it is a token for a credential, once.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Enrolment {
    /// The machine has a key to sign with.
    pub(super) has_key: bool,
    /// It was enrolled before, with this key or another.
    pub(super) has_history: bool,
    /// A push was accepted in this life of the process.
    pub(super) was_accepted: bool,
    /// The request that waits for a person.
    request: Option<u128>,
    /// The token is of no use any more.
    is_token_over: bool,
    /// How far the collector's clock is ahead of ours, where a proof was refused for that.
    lead_ms: i64,
    renew_from: Option<Duration>,
    cannot_renew: bool,
}

/// What an answer to the question means, where it is neither yes nor trouble.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Ask again: what stood in the way is put right.
    Again(String),
    /// Ask again after this, a person has to decide.
    Wait { after: Duration, why: String },
    /// Make a new key and ask with it.
    MakeKey(String),
}

impl Enrolment {
    /// Method and path of the question.
    pub(super) fn question(&self) -> (Method, String) {
        match self.request {
            None => (Method::POST, ENROLL_PATH.to_owned()),
            Some(id) => (Method::GET, format!("{ENROLL_PATH}/{id:032x}")),
        }
    }

    /// True when the token is to be shown.
    pub(super) fn shows_token(&self) -> bool {
        self.request.is_none() && !self.is_token_over
    }

    /// How far the collector's clock is ahead.
    pub(super) fn lead_ms(&self) -> i64 {
        self.lead_ms
    }

    /// What an answer turns; `None` when it is an ordinary one.
    pub(super) fn turned(&mut self, status: u16, body: &[u8], wall_ms: i64) -> Option<Turn> {
        if !self.has_key {
            return None;
        }
        if let (200 | 202, Ok(answer)) = (status, serde_json::from_slice::<PendingAnswer>(body)) {
            return Some(self.waits(&answer));
        }
        let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
        match (status, problem.error.as_str()) {
            (401, "stale_proof") => {
                self.lead_ms = problem.server_ms?.saturating_sub(wall_ms);
                Some(Turn::Again(problem.message))
            }
            (401, "repeated_proof") => Some(Turn::Again(problem.message)),
            (409, _) if problem.make_key => Some(Turn::MakeKey(problem.message)),
            (404 | 410, _) if self.request.take().is_some() => Some(Turn::Again(problem.message)),
            // A machine that was enrolled once is not given up for a token that has run out.
            (410, _) if self.has_history && !self.is_token_over => {
                self.is_token_over = true;
                Some(Turn::Again(problem.message))
            }
            _ => None,
        }
    }

    fn waits(&mut self, answer: &PendingAnswer) -> Turn {
        self.request = Some(answer.request_id);
        let why = format!(
            "this machine waits for approval; on the collector: roundel approve {:032x} (fingerprint {})",
            answer.request_id, answer.fingerprint
        );
        Turn::Wait { after: Duration::from_secs(answer.poll_after_secs.max(1)), why }
    }

    /// It has a credential.
    pub(super) fn done(&mut self) {
        (self.request, self.has_history) = (None, true);
    }

    /// Its key is another one now.
    pub(super) fn has_new_key(&mut self) {
        (self.request, self.has_history) = (None, true);
    }

    /// True when the credential that ends at `expires_ms` shall be renewed at `now`, `server_ms` by the
    /// collector's clock. One without an end is renewed once, so that the key becomes its.
    pub(super) fn is_to_renew(
        &self,
        expires_ms: Option<i64>,
        now: Duration,
        server_ms: i64,
    ) -> bool {
        let may = self.has_key
            && self.was_accepted
            && !self.cannot_renew
            && self.renew_from.is_none_or(|from| from <= now);
        may && expires_ms.is_none_or(|end| server_ms >= end - RENEW_BEFORE_MS)
    }

    /// A renewal was refused, or came to nothing.
    pub(super) fn renewal_failed(&mut self, status: Option<u16>, now: Duration) {
        // A collector of an earlier version has no such address.
        self.cannot_renew = matches!(status, Some(404 | 405));
        self.renew_from = Some(now + RENEW_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed() -> Enrolment {
        Enrolment { has_key: true, ..Enrolment::default() }
    }

    fn body(problem: &Problem) -> Vec<u8> {
        serde_json::to_vec(problem).unwrap()
    }

    fn problem(word: &str) -> Problem {
        Problem { error: word.to_owned(), message: "so".to_owned(), ..Problem::default() }
    }

    #[test]
    fn who_waits_asks_for_its_request_until_it_is_decided() {
        let mut enrolment = keyed();
        assert_eq!(enrolment.question(), (Method::POST, "/v1/enroll".to_owned()));
        let answer =
            PendingAnswer { request_id: 0xab, poll_after_secs: 30, fingerprint: "f".to_owned() };
        let waits = serde_json::to_vec(&answer).unwrap();
        for status in [202, 200] {
            let Some(Turn::Wait { after, why }) = enrolment.turned(status, &waits, 0) else {
                panic!("it waits")
            };
            assert_eq!(after, Duration::from_secs(30));
            assert!(why.contains("roundel approve 000000000000000000000000000000ab"), "{why}");
            let (method, path) = enrolment.question();
            assert_eq!((method, path.len()), (Method::GET, "/v1/enroll/".len() + 32));
            assert!(!enrolment.shows_token());
        }
        let forgotten = enrolment.turned(404, &body(&problem("not_found")), 0);
        assert_eq!(forgotten, Some(Turn::Again("so".to_owned())));
        assert_eq!(enrolment.question().0, Method::POST, "it asks anew");
    }

    #[test]
    fn a_token_that_ran_out_is_left_away_by_who_was_enrolled_before() {
        let over = body(&problem("token_expired"));
        assert_eq!(keyed().turned(410, &over, 0), None, "a first start ends with the reason");
        let mut known = Enrolment { has_history: true, ..keyed() };
        assert_eq!(known.turned(410, &over, 0), Some(Turn::Again("so".to_owned())));
        assert!(!known.shows_token());
        assert_eq!(known.turned(410, &over, 0), None);
    }

    #[test]
    fn a_wrong_clock_is_made_up_for_in_proofs() {
        let mut enrolment = keyed();
        let stale = Problem { server_ms: Some(5_000), ..problem("stale_proof") };
        assert_eq!(enrolment.turned(401, &body(&stale), 8_000), Some(Turn::Again("so".to_owned())));
        assert_eq!(enrolment.lead_ms(), -3_000);
        let clone = Problem { make_key: true, ..problem("identity_conflict") };
        assert_eq!(enrolment.turned(409, &body(&clone), 0), Some(Turn::MakeKey("so".to_owned())));
        assert_eq!(Enrolment::default().turned(409, &body(&clone), 0), None, "it has no key");
    }

    #[test]
    fn a_credential_is_renewed_at_half_its_day_and_not_asked_for_all_the_time() {
        let hour = 3_600_000;
        let (soon, now) = (Some(12 * hour), Duration::from_secs(50));
        let mut enrolment = Enrolment { was_accepted: true, ..keyed() };
        assert!(!enrolment.is_to_renew(Some(12 * hour + 1), now, 0));
        assert!(enrolment.is_to_renew(soon, now, 0) && enrolment.is_to_renew(None, now, 0));
        assert!(!keyed().is_to_renew(soon, now, 0), "it has not sent anything");
        enrolment.renewal_failed(Some(503), now);
        assert!(!enrolment.is_to_renew(soon, now + RENEW_AGAIN / 2, 0));
        assert!(enrolment.is_to_renew(soon, now + RENEW_AGAIN, 0));
        enrolment.renewal_failed(Some(404), now);
        assert!(!enrolment.is_to_renew(soon, now + 9 * RENEW_AGAIN, 0));
    }
}
