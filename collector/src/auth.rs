//! Credentials: who sends a request, by the secret in its `Authorization` header.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use rrd::Timestamp;
use thiserror::Error;

use crate::registry::{Instance, Registry, Token, TokenKind};
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
    /// The instance was withdrawn.
    #[error("the instance was withdrawn; enrol again to send")]
    Withdrawn,
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
        match Holder::of(&secret).ok_or(AuthError::Unknown)? {
            Holder::Instance(id) => {
                let instance = registry.instance(id).ok_or(AuthError::Unknown)?;
                checked(instance.digest.as_ref(), &secret)?;
                if !instance.is_active() {
                    return Err(AuthError::Withdrawn);
                }
                Ok(Caller::Instance(instance))
            }
            Holder::Join(id) => {
                let token = registry.token(id).filter(|token| token.kind == TokenKind::Join);
                valid(token, &secret, now).map(Caller::Join)
            }
            Holder::Relay(id) => {
                let token = registry.token(id).filter(|token| token.kind == TokenKind::Relay);
                valid(token, &secret, now).map(Caller::Relay)
            }
        }
    }
}

fn valid(token: Option<Arc<Token>>, secret: &str, now: Timestamp) -> Result<Arc<Token>, AuthError> {
    let token = token.ok_or(AuthError::Unknown)?;
    checked(Some(&token.digest), secret)?;
    if token.revoked {
        return Err(AuthError::Revoked);
    }
    if token.expires_at.is_some_and(|end| end <= now) {
        return Err(AuthError::Expired);
    }
    Ok(token)
}

fn checked(digest: Option<&Digest>, secret: &str) -> Result<(), AuthError> {
    match digest {
        Some(digest) if digest.matches(secret) => Ok(()),
        _ => Err(AuthError::Unknown),
    }
}

/// The secret of a bearer token, the password of basic authentication (Prometheus can send
/// either), or the token of InfluxDB's clients.
fn presented(headers: &HeaderMap) -> Option<String> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
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
            ("abc", None),
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
