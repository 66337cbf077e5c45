//! What the tables of all plugins may say: how often, how long, as whom.

use std::time::Duration;

use rrd::time::parse_duration_ms;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::account::Account;

/// How often a plugin is run when nobody says.
pub(super) const EVERY: Duration = Duration::from_mins(1);
/// How long a plugin may take when nobody says.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Oftener than this a plugin is the load that it looks for; more seldom its answer is no news.
const EVERY_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
/// A plugin that may take longer holds up the others.
const TIMEOUT_RANGE_MS: std::ops::RangeInclusive<u64> = 100..=600_000;

/// The keys that a kind of plugin and each plugin of it share.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Manner {
    #[serde(deserialize_with = "every")]
    pub(super) every: Option<Duration>,
    #[serde(deserialize_with = "timeout")]
    pub(super) timeout: Option<Duration>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
}

impl Manner {
    /// What this says, and `other` where it says nothing.
    pub(super) fn or(self, other: &Self) -> Self {
        // A group belongs to the user it was written with.
        let group =
            if self.user.is_some() { self.group } else { self.group.or(other.group.clone()) };
        Self {
            every: self.every.or(other.every),
            timeout: self.timeout.or(other.timeout),
            user: self.user.or_else(|| other.user.clone()),
            group,
        }
    }

    /// How often it is run, and how long it may take, which is not longer.
    pub(super) fn times(&self) -> (Duration, Duration) {
        let every = self.every.unwrap_or(EVERY);
        (every, self.timeout.unwrap_or(TIMEOUT).min(every))
    }

    /// Whom it runs as.
    pub(super) fn account(&self) -> Result<Option<Account>, String> {
        match (&self.user, &self.group) {
            (Some(user), group) => Account::named(user, group.as_deref()).map(Some),
            (None, Some(_)) => Err("a group without a user; name both".to_owned()),
            (None, None) => Ok(None),
        }
    }
}

/// The meaning of a table. Errors with what is wrong and where.
pub(super) fn read<T: DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    table.try_into().map_err(|error: toml::de::Error| error.to_string().trim().to_owned())
}

fn every<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from, EVERY_RANGE_MS, "a time from 1s to 1d; write it as \"1m\"")
}

fn timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from, TIMEOUT_RANGE_MS, "a time from 100ms to 10m; write it as \"10s\"")
}

fn duration<'de, D: Deserializer<'de>>(
    from: D,
    range: std::ops::RangeInclusive<u64>,
    wanted: &str,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    let millis = parse_duration_ms(&text).filter(|millis| range.contains(millis));
    let millis = millis.ok_or_else(|| D::Error::custom(format!("{text:?} is not {wanted}")))?;
    Ok(Some(Duration::from_millis(millis)))
}
