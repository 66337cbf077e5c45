//! A token: the right to enrol instances, or to send for instances that the sender names.

use std::fmt;
use std::str::FromStr;

use rrd::{Labels, Timestamp};

use crate::address::Network;
use crate::lifecycle::Terms;
use crate::secret::Digest;

/// Names a token; 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u64);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text is not a token's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token's id is 16 hexadecimal digits")]
pub struct TokenIdError;

impl FromStr for TokenId {
    type Err = TokenIdError;

    fn from_str(text: &str) -> Result<Self, TokenIdError> {
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(TokenIdError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| TokenIdError)
    }
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Enrolling instances, each of which gets a credential of its own.
    Join,
    /// Sending for many instances, named by the labels `job` and `instance`.
    Relay,
    /// Telling what a cloud says of its machines.
    Events,
    /// Reading which instances there are, and what became of them.
    Read,
}

/// Whether a person decides on what comes with a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approval {
    /// It is good by itself.
    #[default]
    Auto,
    /// Of a join token: each machine waits for a person. Of another: it is good for nothing until a person
    /// approves it.
    Waits,
}

/// A token as the registry keeps it: everything but the secret.
#[derive(Clone, Debug)]
pub struct Token {
    /// Its name in secrets, addresses and logs.
    pub id: TokenId,
    /// What it is good for.
    pub kind: TokenKind,
    /// What its holder is called by people.
    pub name: String,
    /// Labels that every instance under it gets, whatever it says of itself.
    pub labels: Labels,
    /// Labels that an instance may declare of itself; all where nobody said.
    pub allowed_label_keys: Option<Vec<String>>,
    /// Where its holder must send from; anywhere when empty.
    pub networks: Vec<Network>,
    /// What it says of the silence of its instances.
    pub terms: Terms,
    /// Series that each of its instances may have.
    pub series_quota: Option<u32>,
    /// Whether it needs a person, and whether one has decided.
    pub approval: Approval,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// How many more enrolments it is good for.
    pub uses_left: Option<u32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// True once it was taken back.
    pub revoked: bool,
    pub(crate) digest: Digest,
}
