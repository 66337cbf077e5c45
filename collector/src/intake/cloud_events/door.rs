//! Whose word an event is: a token's, a signature's by a token, SNS' own, or Google's.

use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Uri};
use ring::hmac;
use rrd::Timestamp;
use rrd::hex::bytes_of_hex;

use super::{Denial, Inner, sns};
use crate::auth::Caller;
use crate::identity::clouds::Clouds;
use crate::registry::{Approval, Token, TokenId, TokenKind};

/// The header with `id=TOKEN,t=MILLISECONDS,v1=HMAC`.
const SIGNATURE_HEADER: &str = "roundel-signature";
/// How far the time of a signature may be from ours.
const FRESH_MS: i64 = 5 * 60_000;
/// Bytes of a token of Google's: those of Pub/Sub have some 900.
const GOOGLE_LIMIT: usize = 4_096;

/// What a request is believed by, as far as that is known without its body.
pub(super) enum Warrant<'a> {
    /// The whole of it.
    Held,
    Signed(Claim<'a>),
    Sns(Arc<Clouds>),
}

impl Warrant<'_> {
    /// What can be known with the body alone.
    pub(super) async fn check(&self, inner: &Inner, body: &Bytes) -> Result<(), Denial> {
        match self {
            Self::Held => Ok(()),
            Self::Signed(claim) => claim.check(body),
            Self::Sns(_) if !sns::is_message(body) => {
                let why = "this needs a token of kind events, or a message that SNS signed";
                Err(Denial::unauthorised("unauthorised", why))
            }
            Self::Sns(clouds) => {
                let checked = sns::check(clouds, body, inner.both_clocks()).await;
                checked.map_err(|why| wrong(&format!("the message of SNS: {why}")))
            }
        }
    }
}

/// A signature before the body that it signs is there: an HMAC-SHA256 of time and body. Its key is the
/// SHA-256 of the token's text, which is all that is kept of the token here.
pub(super) struct Claim<'a> {
    token: Arc<Token>,
    at: &'a str,
    mac: [u8; 32],
}

impl Claim<'_> {
    fn check(&self, body: &[u8]) -> Result<(), Denial> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.token.digest.bytes());
        let signed = [self.at.as_bytes(), b".", body].concat();
        hmac::verify(&key, &signed, &self.mac).map_err(|_| wrong("the signature does not fit"))
    }
}

fn wrong(why: &str) -> Denial {
    Denial::unauthorised("bad_signature", why)
}

impl Inner {
    /// By what a request is believed. Errors when it is not, whatever its body.
    pub(super) async fn warrant<'a>(
        &self,
        headers: &'a HeaderMap,
        uri: &Uri,
    ) -> Result<Warrant<'a>, Denial> {
        if let Some(value) = headers.get(SIGNATURE_HEADER).and_then(|value| value.to_str().ok()) {
            return self.claim(value).map(Warrant::Signed);
        }
        let token = in_address(uri);
        if let (None, false, Some(clouds)) =
            (token, headers.contains_key(AUTHORIZATION), self.clouds())
            && !clouds.trust.sns_topics.is_empty()
        {
            return Ok(Warrant::Sns(clouds));
        }
        if let (Some(clouds), Some(jwt)) = (self.clouds(), of_google(headers))
            && !clouds.trust.pubsub_accounts.is_empty()
        {
            let said = self.is_pubsub(&clouds, jwt).await;
            said.map_err(|why| wrong(&format!("the token of Pub/Sub: {why}")))?;
            return Ok(Warrant::Held);
        }
        self.teller(headers, uri)?;
        Ok(Warrant::Held)
    }

    /// Errors unless a token of kind events is shown, in a header or in the address: there are clouds that
    /// can be given an address alone.
    pub(super) fn teller(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Denial> {
        let caller = match in_address(uri) {
            Some(token) if !headers.contains_key(AUTHORIZATION) => {
                let value = HeaderValue::try_from(format!("Bearer {token}"));
                let value = value.map_err(|_| wrong("the token in the address is none"))?;
                self.caller(&HeaderMap::from_iter([(AUTHORIZATION, value)]))?
            }
            _ => self.caller(headers)?,
        };
        match caller {
            Caller::Events(_) => Ok(()),
            // What is in an address is in the logs of proxies: no place for the key to everything.
            Caller::Admin if headers.contains_key(AUTHORIZATION) => Ok(()),
            _ => Err(Denial::forbidden("this needs a token of kind events")),
        }
    }

    /// Whether Google says that a service account named here sends this, and sends it here.
    async fn is_pubsub(&self, clouds: &Clouds, jwt: &str) -> Result<(), String> {
        let said = clouds.google_said(jwt, self.both_clocks()).await?;
        if said["aud"].as_str() != clouds.trust.pubsub_audience.as_deref() {
            return Err("it was made for another audience than pubsub_audience".to_owned());
        }
        let email = said["email"].as_str().filter(|_| said["email_verified"] == true);
        if !email.is_some_and(|email| clouds.trust.pubsub_accounts.iter().any(|one| one == email)) {
            return Err("it is of none of pubsub_accounts".to_owned());
        }
        Ok(())
    }

    /// Whose signature it claims to be, and that it is of now: what can be known without the body.
    fn claim<'a>(&self, header: &'a str) -> Result<Claim<'a>, Denial> {
        let part = |name: &str| {
            let mut parts = header.split(',').filter_map(|part| part.trim().split_once('='));
            parts.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let (Some(id), Some(at), Some(mac)) = (part("id"), part("t"), part("v1")) else {
            return Err(wrong("the signature is written id=TOKEN,t=MILLISECONDS,v1=HMAC"));
        };
        let now = self.parts.clock.wall();
        let id: TokenId = id.parse().map_err(|_| wrong("id names no token"))?;
        let token = self.parts.registry.token(id).filter(|token| is_good(token, now));
        let token = token.ok_or_else(|| wrong("id names no token of kind events that is good"))?;
        let mac = bytes_of_hex(mac).ok_or_else(|| wrong("v1 is 64 hexadecimal digits"))?;
        let at_ms = at.parse().map_err(|_| wrong("t is milliseconds since 1970"))?;
        if now.millis_since(Timestamp::from_millis(at_ms)).saturating_abs() > FRESH_MS {
            return Err(wrong("the signature is too old, or ahead of the time here"));
        }
        Ok(Claim { token, at, mac })
    }
}

/// The token in the query of an address.
fn in_address(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("token="))
}

/// A bearer token in three parts, as Google's are and ours are not.
fn of_google(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let is_one = scheme.eq_ignore_ascii_case("bearer")
        && token.len() <= GOOGLE_LIMIT
        && token.starts_with("ey")
        && token.matches('.').count() == 2;
    is_one.then_some(token)
}

fn is_good(token: &Token, now: Timestamp) -> bool {
    token.kind == TokenKind::Events
        && !token.revoked
        && token.approval == Approval::Auto
        && token.expires_at.is_none_or(|end| end > now)
}
