//! Zabbix' sender protocol: packets of values by host and item key, and what the sender reads in the
//! answer.

mod frame;
mod key;

use std::borrow::Cow;
use std::fmt;

use rrd::{Labels, NAME, Timestamp};
use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

use crate::accounting::Reason;
use crate::foreign::spelling::{Pairs, metric_name, number};
use crate::foreign::{Named, Sorted, Sorter, Unread, checked_pairs, shown_pairs};
use crate::limits::WRITE_SAMPLE_LIMIT;
pub(crate) use frame::{FrameError, HEADER_SIZE, Header, framed, unpacked};
use key::parameters;

/// The job of all series that come so.
const JOB: &str = "zabbix";

/// Why a packet is not taken as a whole.
#[derive(Debug, Error)]
pub(crate) enum PacketError {
    #[error("the packet is not the JSON of a sender: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "request {0:?} is not known here; values are taken as \"sender data\" and \"agent data\""
    )]
    Request(String),
}

/// What a packet held.
pub(crate) struct Packet {
    pub(crate) sorted: Sorted,
    /// Values, whatever became of them.
    pub(crate) total: u64,
}

/// Reads the values in `text` into `sorter`, one after another. `now` is the time of those without.
pub(crate) fn sort(text: &[u8], now: Timestamp, sorter: Sorter<'_>) -> Result<Packet, PacketError> {
    let mut reader = Reader { sorter, now, key: Vec::new(), total: 0, request: String::new() };
    let mut json = serde_json::Deserializer::from_slice(text);
    json.deserialize_map(Whole(&mut reader))?;
    json.end()?;
    match reader.request.as_str() {
        "sender data" | "agent data" => {
            Ok(Packet { sorted: reader.sorter.sorted, total: reader.total })
        }
        other => Err(PacketError::Request(other.chars().take(40).collect())),
    }
}

/// The body of an answer in the words that senders read.
pub(crate) fn answer(total: u64, failed: u64, secs: f64) -> String {
    let processed = total.saturating_sub(failed);
    let info = format!(
        "processed: {processed}; failed: {failed}; total: {total}; seconds spent: {secs:.6}"
    );
    serde_json::json!({ "response": "success", "info": info }).to_string()
}

/// The body of an answer to a packet of which nothing was taken.
pub(crate) fn failure(why: &str) -> String {
    serde_json::json!({ "response": "failed", "info": why }).to_string()
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    host: Cow<'a, str>,
    #[serde(borrow, default)]
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Scalar<'a>,
    #[serde(default)]
    clock: Option<i64>,
    #[serde(default)]
    ns: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar<'a> {
    Number(f64),
    Text(#[serde(borrow)] Cow<'a, str>),
    Other(IgnoredAny),
}

impl Default for Scalar<'_> {
    fn default() -> Self {
        Self::Other(IgnoredAny)
    }
}

impl Scalar<'_> {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(value) => Some(*value),
            Self::Text(text) => number(text.trim()),
            Self::Other(IgnoredAny) => None,
        }
    }
}

impl Item<'_> {
    fn at(&self, now: Timestamp) -> Timestamp {
        let part_ms = self.ns.unwrap_or(0).clamp(0, 999_999_999) / 1_000_000;
        let millis = |secs: i64| secs.saturating_mul(1000).saturating_add(part_ms);
        self.clock.map_or(now, |secs| Timestamp::from_millis(millis(secs)))
    }
}

struct Reader<'a> {
    sorter: Sorter<'a>,
    now: Timestamp,
    key: Vec<u8>,
    total: u64,
    request: String,
}

impl Reader<'_> {
    fn take(&mut self, item: &Item<'_>) {
        let name = Name { host: &item.host, key: &item.key };
        if item.key.is_empty() || parameters(&item.key).is_none() {
            let (reason, why) = (Reason::Malformed, "a key is name[parameter,...]");
            return self.sorter.refuse(reason, 1, &Unread(item.key.as_bytes()), why);
        }
        let Some(value) = item.value.number() else {
            let why = "the value is no number; texts and logs are not kept";
            return self.sorter.refuse(Reason::Text, 1, &name, why);
        };
        self.key.clear();
        self.key.extend_from_slice(item.host.as_bytes());
        self.key.push(0);
        self.key.extend_from_slice(item.key.as_bytes());
        self.sorter.series(&self.key, &name, (&[(item.at(self.now), value)], None));
    }
}

/// A host and an item's key: `net.if.in[eth0,bytes]` is `net_if_in{param1="eth0",param2="bytes"}`.
struct Name<'a> {
    host: &'a str,
    key: &'a str,
}

impl Name<'_> {
    fn pairs(&self) -> Pairs {
        let (name, parameters) = parameters(self.key).unwrap_or((self.key, Vec::new()));
        let mut pairs: Pairs = vec![
            (NAME.to_owned(), metric_name(name)),
            ("instance".to_owned(), self.host.to_owned()),
            ("job".to_owned(), JOB.to_owned()),
        ];
        let numbered = parameters.into_iter().zip(1_u8..);
        pairs.extend(numbered.map(|(value, number)| (format!("param{number}"), value)));
        pairs
    }
}

impl Named for Name<'_> {
    fn labels(&self) -> Result<Labels, (Reason, String)> {
        checked_pairs(&self.pairs())
    }

    fn shown(&self) -> String {
        shown_pairs(self.pairs().into_iter())
    }
}

/// The object around the values. These are taken as they are read, so that never more than one is
/// held, and count only when the whole packet is one.
struct Whole<'r, 'a>(&'r mut Reader<'a>);

impl<'de> Visitor<'de> for Whole<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with request and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(name) = entries.next_key::<Cow<'de, str>>()? {
            match name.as_ref() {
                "request" => self.0.request = entries.next_value()?,
                "data" => entries.next_value_seed(Items(self.0))?,
                _ => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Items<'r, 'a>(&'r mut Reader<'a>);

impl<'de> serde::de::DeserializeSeed<'de> for Items<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, data: D) -> Result<(), D::Error> {
        data.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Item<'de>>()? {
            self.0.total += 1;
            if usize::try_from(self.0.total).is_ok_and(|total| total > WRITE_SAMPLE_LIMIT) {
                let message = format!("more than {WRITE_SAMPLE_LIMIT} values at once");
                return Err(serde::de::Error::custom(message));
            }
            self.0.take(&item);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
