//! Credentials: who sends a request, by the secret in its `Authorization` header.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use rrd::Timestamp;
use thiserror::Error;

use crate::lifecycle::{State, Who};
use crate::registry::{Approval, Instance, Registry, Token, TokenId, TokenKind};
use crate::secret::{Digest, Holder};

/// Longest secret worth hashing: ours have 102 bytes, an operator's admin token may be longer.
const SECRET_SIZE_LIMIT: usize = 512;

/// Checks secrets against the registry and the operator's admin token.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    admin: Option<Digest>,
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The operator's automation: every scope.
    Admin,
    /// One instance, by its own credential.
    Instance(Arc<Instance>),
    /// One who may enrol instances.
    Join(Arc<Token>),
    /// One who sends for many instances and names them.
    Relay(Arc<Token>),
    /// One who tells what a cloud says.
    Events(Arc<Token>),
    /// One who reads which instances there are.
    Reader(Arc<Token>),
}

/// Why a request has no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// No secret was sent.
    #[error("no credential was sent; put it into the Authorization header as a bearer token")]
    Missing,
    /// The secret is not one we gave out.
    #[error("the credential is not known here; enrol again or ask for a new token")]
    Unknown,
    /// The token's time is over.
    #[error("the token has expired; ask for a new one")]
    Expired,
    /// The token was revoked.
    #[error("the token was revoked; ask for a new one")]
    Revoked,
    /// A person has yet to approve the token.
    #[error("the token waits for approval; keep what you have and send it again later")]
    Pending,
    /// The credential's time is over.
    #[error("the credential has expired; enrol again with the machine's key")]
    CredentialExpired,
    /// A person withdrew the instance.
    #[error("the instance was withdrawn; enrol again to send")]
    Withdrawn,
    /// The instance was let go: it said goodbye, or was silent for long.
    #[error("the instance was let go; enrol again with its key to go on")]
    Ended,
    /// A person put the instance out for good.
    #[error("the instance was revoked; ask who runs the collector")]
    PutOut,
}

impl Credentials {
    /// Credentials with, if given, the hash of a token that has every scope.
    pub const fn new(admin: Option<Digest>) -> Self {
        Self { admin }
    }

    /// The sender of a request with `headers` at `now`.
    pub fn caller(
        &self,
        registry: &Registry,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Caller, AuthError> {
        let secret = presented(headers).ok_or(AuthError::Missing)?;
        if secret.len() > SECRET_SIZE_LIMIT {
            return Err(AuthError::Unknown);
        }
        if self.admin.as_ref().is_some_and(|admin| admin.matches(&secret)) {
            return Ok(Caller::Admin);
        }
        let of_kind = |id, kind| {
            let token = registry.token(id).filter(|token| token.kind == kind);
            valid(token, &secret, now)
        };
        match Holder::of(&secret).ok_or(AuthError::Unknown)? {
            Holder::Instance(id) => {
                let instance = registry.instance(id).ok_or(AuthError::Unknown)?;
                shown(&instance, &secret, now)?;
                Ok(Caller::Instance(instance))
            }
            Holder::Join(id) => of_kind(id, TokenKind::Join).map(Caller::Join),
            Holder::Relay(id) => approved(of_kind(id, TokenKind::Relay)?).map(Caller::Relay),
            Holder::Events(id) => approved(of_kind(id, TokenKind::Events)?).map(Caller::Events),
            Holder::Reader(id) => approved(of_kind(id, TokenKind::Read)?).map(Caller::Reader),
        }
    }
}

/// The relay token `id`, for those who stand for it without showing its secret.
pub(crate) fn relay(
    registry: &Registry,
    id: TokenId,
    now: Timestamp,
) -> Result<Arc<Token>, AuthError> {
    let token = registry.token(id).filter(|token| token.kind == TokenKind::Relay);
    approved(lasting(token.ok_or(AuthError::Unknown)?, now)?)
}

/// Checks the secret of an instance, and that the instance may use it.
fn shown(instance: &Instance, secret: &str, now: Timestamp) -> Result<(), AuthError> {
    let mut held = [&instance.credential, &instance.former_credential].into_iter().flatten();
    let held = held.find(|one| one.digest.matches(secret)).ok_or(AuthError::Unknown)?;
    if let Some(end) = &instance.lifecycle.end {
        return Err(match (end.state, end.evidence.who) {
            (State::Revoked, _) => AuthError::PutOut,
            (State::Expired, _) => AuthError::Unknown,
            (_, Who::Operator) => AuthError::Withdrawn,
            _ => AuthError::Ended,
        });
    }
    if held.expires_at.is_some_and(|end| end <= now) {
        return Err(AuthError::CredentialExpired);
    }
    Ok(())
}

/// Whoever waits for a person is asked to keep what it has; a machine that joins waits elsewhere.
fn approved(token: Arc<Token>) -> Result<Arc<Token>, AuthError> {
    match token.approval {
        Approval::Auto => Ok(token),
        Approval::Waits => Err(AuthError::Pending),
    }
}

fn valid(token: Option<Arc<Token>>, secret: &str, now: Timestamp) -> Result<Arc<Token>, AuthError> {
    match token {
        Some(token) if token.digest.matches(secret) => lasting(token, now),
        _ => Err(AuthError::Unknown),
    }
}

fn lasting(token: Arc<Token>, now: Timestamp) -> Result<Arc<Token>, AuthError> {
    if token.revoked {
        return Err(AuthError::Revoked);
    }
    if token.expires_at.is_some_and(|end| end <= now) {
        return Err(AuthError::Expired);
    }
    Ok(token)
}

/// The secret of a bearer token, the password of basic authentication (Prometheus can send
/// either), or the token of InfluxDB's clients.
fn presented(headers: &HeaderMap) -> Option<String> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    // Prometheus leaves the scheme away in service discovery, unless its configuration names one.
    let Some((scheme, rest)) = header.trim().split_once(' ') else {
        return Some(header.trim().to_owned());
    };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token") {
        return Some(rest.to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let text = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        return text.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn bearer_and_basic_both_carry_a_secret() {
        for (header, secret) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Token abc", Some("abc")),
            ("Basic dXNlcjpwYTpzcw==", Some("pa:ss")),
            ("Basic !!", None),
            ("Basic dXNlcg==", None),
            ("Digest abc", None),
            ("abc", Some("abc")),
        ] {
            assert_eq!(presented(&headers(header)).as_deref(), secret, "{header}");
        }
    }

    #[test]
    fn the_admin_token_opens_everything_and_nothing_else_does() {
        let credentials = Credentials::new(Some(Digest::of("open sesame")));
        let registry = Registry::default();
        let caller = |header: &str| {
            credentials.caller(&registry, &headers(header), Timestamp::from_secs(1)).map(|_| ())
        };
        assert_eq!(caller("Bearer open sesame"), Ok(()));
        assert_eq!(caller("Bearer open"), Err(AuthError::Unknown));
        assert_eq!(caller(&format!("Bearer {}", "x".repeat(600))), Err(AuthError::Unknown));
        let without = Credentials::default();
        let missing = without.caller(&registry, &HeaderMap::new(), Timestamp::from_secs(1));
        assert_eq!(missing.unwrap_err(), AuthError::Missing);
    }
}
