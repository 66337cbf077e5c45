//! Requests to be enrolled: who asked, and what was decided; and the policies that decide.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rrd::{InstanceId, Labels, Timestamp};

use super::{Account, TokenId};
use crate::address::Network;
use crate::identity::PublicKey;
use crate::identity::document::Attestation;
use crate::lifecycle::{Lifecycle, Terms};
use crate::native::Facts;

/// Names a request; 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u128);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for RequestId {
    type Err = super::TokenIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id: InstanceId = text.parse().map_err(|_| super::TokenIdError)?;
        Ok(Self(id.0))
    }
}

/// A request to be enrolled, kept for some days whatever was decided.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its name.
    pub id: RequestId,
    /// The key that signed it.
    pub key: Option<PublicKey>,
    /// The name that was asked for.
    pub name: String,
    /// The machine's boot; 0 where nobody said.
    pub boot_id: u128,
    /// What the machine says it is.
    pub facts: Facts,
    /// Labels it declares of itself.
    pub labels: BTreeMap<String, String>,
    /// What its cloud's document is worth.
    pub attestation: Attestation,
    /// The token it showed; `None` for none, or the admin token.
    pub token: Option<TokenId>,
    /// The address it came from.
    pub peer: Option<IpAddr>,
    /// When it came.
    pub at: Timestamp,
    /// Pending, approved or rejected, and by whom.
    pub lifecycle: Lifecycle,
    /// The instance it became.
    pub instance: Option<InstanceId>,
}

/// A policy: who is enrolled without a person, though no token says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinPolicy {
    /// Its name.
    pub name: String,
    /// The address must be of one of these; any, when empty.
    pub networks: Vec<Network>,
    /// The name asked for must be like this; `*` stands for anything.
    pub name_like: Option<String>,
    /// Labels that must be declared with these values.
    pub labels: BTreeMap<String, String>,
    /// The token shown must be this.
    pub token: Option<TokenId>,
    /// Its cloud has to say so: labels that begin with `cloud_` are then held against its document.
    pub requires_document: bool,
    /// Its cloud has to say that it is of one of these; any that it may otherwise be, when empty.
    pub accounts: Vec<Account>,
    /// How long ago the machine may have been started, by its document.
    pub started_within_ms: Option<u64>,
    /// Labels forced on whom it lets in.
    pub forced: Labels,
    /// What it says of their silence.
    pub terms: Terms,
}

impl JoinPolicy {
    /// Why it does not let `request` in; `Ok` when it does.
    pub fn admits(&self, request: &Request) -> Result<(), String> {
        let in_network = |peer: IpAddr| self.networks.iter().any(|network| network.holds(peer));
        if !self.networks.is_empty() && !request.peer.is_some_and(in_network) {
            let peer = request.peer.map_or("no address".to_owned(), |peer| peer.to_string());
            return Err(format!("{peer} is in none of its networks"));
        }
        if let Some(like) = &self.name_like
            && !is_like(&request.name, like)
        {
            return Err(format!("the name {:?} is not like {like:?}", request.name));
        }
        for (name, value) in &self.labels {
            if request.labels.get(name) != Some(value) {
                return Err(format!("label {name} is not declared as {value:?}"));
            }
        }
        if self.token.is_some() && self.token != request.token {
            return Err("it showed another token, or none".to_owned());
        }
        if self.needs_document() {
            self.believes(request)?;
        }
        Ok(())
    }

    /// True when what a machine says of itself is not enough.
    pub fn needs_document(&self) -> bool {
        self.requires_document || self.started_within_ms.is_some() || !self.accounts.is_empty()
    }

    /// Why the machine's document is not enough; `Ok` when it is.
    fn believes(&self, request: &Request) -> Result<(), String> {
        let Attestation::Verified(attested) = &request.attestation else {
            return Err(match request.attestation.sentence() {
                none if none.is_empty() => "it shows no document of a cloud".to_owned(),
                why => format!("its document is {why}"),
            });
        };
        let of_cloud = self.labels.iter().filter(|(name, _)| name.starts_with(CLOUD_LABELS));
        for (name, value) in of_cloud {
            if attested.labels.get(name) != Some(value) {
                return Err(format!("its document does not say {name}={value}"));
            }
        }
        let is_its = |account: &Account| account.owns(&attested.labels);
        if !self.accounts.is_empty() && !self.accounts.iter().any(is_its) {
            let said = |name: &str| attested.labels.get(name).map_or("", String::as_str);
            let (cloud, account) = (said("cloud_provider"), said("cloud_account"));
            return Err(format!("its document is of {cloud}:{account}, none of its accounts"));
        }
        let Some(most_ms) = self.started_within_ms else { return Ok(()) };
        let age_ms = attested.started_at.map(|started| request.at.millis_since(started));
        match age_ms {
            Some(age_ms) if age_ms <= i64::try_from(most_ms).unwrap_or(i64::MAX) => Ok(()),
            Some(age_ms) => Err(format!("it was started {} s before it asked", age_ms / 1000)),
            None => Err("its document does not say when it was started".to_owned()),
        }
    }
}

/// How labels begin that say what a cloud calls a machine.
pub(crate) const CLOUD_LABELS: &str = "cloud_";

/// True when `name` is `pattern` with something in the place of each `*`.
fn is_like(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (name, pattern, like) in [
            ("web-1", "web-*", true),
            ("web-1", "web-1", true),
            ("web-12", "web-1", false),
            ("web", "web-*", false),
            ("a-web-1", "*web*", true),
            ("a-web-1", "*db*", false),
            ("web-1.eu", "web-*.eu", true),
            ("web-1.us", "web-*.eu", false),
            ("", "*", true),
            ("aa", "a*a*a", false),
        ] {
            assert_eq!(is_like(name, pattern), like, "{name} like {pattern}");
        }
    }
}
