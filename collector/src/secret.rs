//! Secrets: made from 256 random bits, shown once, kept as a hash.

use std::fmt;

use rrd::InstanceId;
use rrd::hex::Hex;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::registry::TokenId;

/// Random bytes in a secret: nobody guesses 256 bits, so that one round of SHA-256 keeps them.
const SECRET_SIZE: usize = 32;

/// The SHA-256 of a secret. Comparing takes the same time whatever differs.
#[derive(Clone)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The hash of a secret's whole text.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// True when `secret` is the one this is the hash of.
    pub fn matches(&self, secret: &str) -> bool {
        self.0.ct_eq(&Self::of(secret).0).into()
    }

    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

/// Hides the hash: it is of no use to a reader, and of some to a thief.
impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// Whose secret a text claims to be, read from its front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// `ri_ID_…`: an instance's credential.
    Instance(InstanceId),
    /// `rj_ID_…`: a token that enrols instances.
    Join(TokenId),
    /// `rr_ID_…`: a token whose sender names instances itself.
    Relay(TokenId),
    /// `re_ID_…`: a token that tells what a cloud says.
    Events(TokenId),
    /// `rd_ID_…`: a token that reads which instances there are.
    Reader(TokenId),
}

impl Holder {
    /// The holder that `text` names; `None` when it is not one of our secrets.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '_');
        let (kind, id) = (parts.next()?, parts.next()?);
        parts.next()?;
        Some(match kind {
            "ri" => Self::Instance(id.parse().ok()?),
            "rj" => Self::Join(id.parse().ok()?),
            "rr" => Self::Relay(id.parse().ok()?),
            "re" => Self::Events(id.parse().ok()?),
            "rd" => Self::Reader(id.parse().ok()?),
            _ => return None,
        })
    }

    /// A new secret for this holder. Errors when the system has no randomness.
    pub(crate) fn secret(self) -> Result<String, getrandom::Error> {
        let mut bits = [0_u8; SECRET_SIZE];
        getrandom::fill(&mut bits)?;
        Ok(format!("{self}{}", Hex(&bits)))
    }
}

/// The front of the secret, the last `_` included.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(id) => write!(f, "ri_{id}_"),
            Self::Join(id) => write!(f, "rj_{id}_"),
            Self::Relay(id) => write!(f, "rr_{id}_"),
            Self::Events(id) => write!(f, "re_{id}_"),
            Self::Reader(id) => write!(f, "rd_{id}_"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_names_its_holder_and_matches_its_own_hash_only() {
        let holder = Holder::Instance(InstanceId(7));
        let (one, two) = (holder.secret().unwrap(), holder.secret().unwrap());
        assert_eq!(Holder::of(&one), Some(holder));
        assert_eq!(one.len(), 2 + 1 + 32 + 1 + 2 * SECRET_SIZE);
        assert!(Digest::of(&one).matches(&one));
        assert!(!Digest::of(&one).matches(&two));
    }

    #[test]
    fn other_texts_have_no_holder() {
        for text in ["", "ri", "ri_", "ri_xyz_00", "rx_0000000000000007_00", "rj_7"] {
            assert_eq!(Holder::of(text), None, "{text}");
        }
    }

    #[test]
    fn a_hash_is_never_printed() {
        assert_eq!(format!("{:?}", Digest::of("x")), "Digest(…)");
    }
}
