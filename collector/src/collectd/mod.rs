//! collectd's JSON, as its plugin `write_http` posts it: value lists to series named as its own
//! `write_prometheus` names them.

mod name;

use std::borrow::Cow;
use std::fmt;

use rrd::{Kind, Labels};
use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use thiserror::Error;

use crate::accounting::Reason;
use crate::foreign::spelling::moment;
use crate::foreign::{Named, Sorted, Sorter, Unread, checked_pairs, shown_pairs};
use crate::limits::WRITE_SAMPLE_LIMIT;
pub(crate) use name::Identity;

/// Bytes of a request: collectd posts 4 KB unless told otherwise.
pub(crate) const BODY_LIMIT: usize = 1 << 20;
/// Values of one list; the widest type that collectd knows has a dozen.
const VALUE_LIMIT: usize = 64;

/// Why a body is none of collectd's.
#[derive(Debug, Error)]
#[error("the body is not collectd's JSON: {0}; set Format JSON in write_http")]
pub(crate) struct CollectdError(#[from] serde_json::Error);

/// Reads the value lists in `body` into `sorter`, one after another.
pub(crate) fn sort(body: &[u8], sorter: Sorter<'_>) -> Result<Sorted, CollectdError> {
    let mut reader = Reader { sorter, key: Vec::new(), count: 0 };
    let mut json = serde_json::Deserializer::from_slice(body);
    json.deserialize_seq(Lists(&mut reader))?;
    json.end()?;
    Ok(reader.sorter.sorted)
}

/// A value list as collectd writes it; `interval` and `meta` say nothing that we keep.
#[derive(Deserialize)]
#[serde(default)]
struct ValueList<'a> {
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    plugin: Cow<'a, str>,
    #[serde(borrow)]
    plugin_instance: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    type_instance: Cow<'a, str>,
    time: f64,
    /// `null` is a value that collectd does not know.
    values: Vec<Option<f64>>,
    #[serde(borrow)]
    dstypes: Vec<Word<'a>>,
    #[serde(borrow)]
    dsnames: Vec<Word<'a>>,
}

#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

impl Default for ValueList<'_> {
    fn default() -> Self {
        let empty = || Cow::Borrowed("");
        Self {
            host: empty(),
            plugin: empty(),
            plugin_instance: empty(),
            r#type: empty(),
            type_instance: empty(),
            time: f64::NAN,
            values: Vec::new(),
            dstypes: Vec::new(),
            dsnames: Vec::new(),
        }
    }
}

struct Reader<'a> {
    sorter: Sorter<'a>,
    key: Vec<u8>,
    count: usize,
}

impl Reader<'_> {
    fn take(&mut self, list: &ValueList<'_>) {
        if let Some(why) = list.flaw() {
            let count = u64::try_from(list.values.len().max(1)).unwrap_or(u64::MAX);
            let shown = format!("{}/{}/{}", list.host, list.plugin, list.r#type);
            self.sorter.refuse(Reason::Malformed, count, &Unread(shown.as_bytes()), why);
            return;
        }
        let identity = list.identity();
        self.key.clear();
        for part in identity.parts() {
            self.key.extend_from_slice(part.as_bytes());
            self.key.push(0);
        }
        let (front, at) = (self.key.len(), moment(list.time));
        let sources = list.dsnames.iter().zip(&list.dstypes).zip(&list.values);
        for ((Word(name), Word(kind)), value) in sources {
            self.key.truncate(front);
            self.key.extend_from_slice(name.as_bytes());
            let kind = kind_of(kind);
            let source = Source { identity, name, counts: counts(kind) };
            self.sorter.series(&self.key, &source, (&[(at, value.unwrap_or(f64::NAN))], kind));
        }
    }
}

impl ValueList<'_> {
    fn identity(&self) -> Identity<'_> {
        Identity {
            host: &self.host,
            plugin: &self.plugin,
            plugin_instance: &self.plugin_instance,
            kind: &self.r#type,
            kind_instance: &self.type_instance,
        }
    }

    /// What is wrong with the list, if anything is.
    fn flaw(&self) -> Option<&'static str> {
        let count = self.values.len();
        if self.plugin.is_empty() || self.r#type.is_empty() || count == 0 {
            return Some("a value list has plugin, type and values");
        }
        if count > VALUE_LIMIT {
            return Some("a value list has at most 64 values");
        }
        if self.dsnames.len() != count || self.dstypes.len() != count {
            return Some("a value list has as many dsnames and dstypes as values");
        }
        self.time.is_nan().then_some("a value list has a time")
    }
}

/// The kind that collectd's type tells. Its DERIVE is a counter that may begin anew, its COUNTER one
/// that wraps.
fn kind_of(word: &str) -> Option<Kind> {
    Some(match word {
        "gauge" => Kind::Gauge,
        "derive" => Kind::Total,
        "counter" => Kind::Counter,
        "absolute" => Kind::Absolute,
        _ => return None,
    })
}

const fn counts(kind: Option<Kind>) -> bool {
    matches!(kind, Some(Kind::Total | Kind::Counter))
}

/// One data source of a value list.
struct Source<'a> {
    identity: Identity<'a>,
    name: &'a str,
    counts: bool,
}

impl Named for Source<'_> {
    fn labels(&self) -> Result<Labels, (Reason, String)> {
        checked_pairs(&self.identity.pairs(self.name, self.counts))
    }

    fn shown(&self) -> String {
        shown_pairs(self.identity.pairs(self.name, self.counts).into_iter())
    }
}

/// Takes the lists of an array as they are read, so that never more than one is held.
struct Lists<'r, 'a>(&'r mut Reader<'a>);

impl<'de> Visitor<'de> for Lists<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of value lists")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut lists: A) -> Result<(), A::Error> {
        while let Some(list) = lists.next_element::<ValueList<'de>>()? {
            self.0.count += list.values.len();
            if self.0.count > WRITE_SAMPLE_LIMIT {
                let message = format!("more than {WRITE_SAMPLE_LIMIT} values at once");
                return Err(serde::de::Error::custom(message));
            }
            self.0.take(&list);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
