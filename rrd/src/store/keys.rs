//! Keys of series, each held once for all instances that have it, and found by the labels in it.
//!
//! Members of a fleet send the same series. What a query asks of names and labels is answered here
//! once for each distinct key; where the series are, each instance knows.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, RwLock, Weak};

use super::roster::Roster;
use super::{lock, read, write};
use crate::Matcher;

/// A key that some series has. Two are the same exactly if they are at the same address.
#[derive(Debug)]
pub(crate) struct Key(Box<[u8]>);

/// All keys of a store. Held for one look-up or one change; readers of rows and the worker's samples
/// never come here.
#[derive(Default)]
pub(crate) struct Keys {
    table: RwLock<Table>,
    /// Of the last instance that was granted columns or opened. Held to copy or replace it.
    last_roster: Mutex<Arc<Roster>>,
}

#[derive(Default)]
struct Table {
    keys: HashSet<ByBytes>,
    /// By name and value of a label: the keys that have it.
    labels: BTreeMap<Box<str>, Values>,
    /// Keys that nobody uses are looked for when there are so many.
    sweep_at: usize,
}

/// By value of one label: the keys that have it.
type Values = BTreeMap<Box<str>, Vec<Weak<Key>>>;

/// Below, keys that nobody uses are not worth a look.
const LEAST_SWEEP: usize = 1024;

/// A key that is found by its bytes.
#[derive(Debug)]
struct ByBytes(Arc<Key>);

impl Key {
    pub(crate) const fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Hash for ByBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.bytes().hash(state);
    }
}

impl PartialEq for ByBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes() == other.0.bytes()
    }
}

impl Eq for ByBytes {}

impl Borrow<[u8]> for ByBytes {
    fn borrow(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Keys {
    /// The key of these bytes, if some series has it.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<Arc<Key>> {
        read(&self.table).keys.get(bytes).map(|key| Arc::clone(&key.0))
    }

    /// The key of these bytes, which is kept as long as somebody holds it.
    pub(crate) fn intern(&self, bytes: &[u8]) -> Arc<Key> {
        self.find(bytes).unwrap_or_else(|| write(&self.table).intern(bytes))
    }

    /// The roster of the instance before, if this one is the same.
    pub(crate) fn shared(&self, roster: &Arc<Roster>) -> Arc<Roster> {
        let last = Arc::clone(&lock(&self.last_roster));
        if last.is_same(roster) {
            return last;
        }
        *lock(&self.last_roster) = Arc::clone(roster);
        Arc::clone(roster)
    }

    /// The keys that satisfy all these matchers, in no order; each matcher is asked once for each
    /// distinct value of its label, or key.
    pub(crate) fn matching(&self, matchers: &[&Matcher]) -> Vec<Arc<Key>> {
        let table = read(&self.table);
        // A matcher that takes no label for an answer says nothing about where to look.
        let narrowing = matchers.iter().filter(|matcher| !matcher.accepts(""));
        let candidates = narrowing.map(|matcher| table.with_label(matcher));
        let candidates =
            candidates.min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>());
        let is_wanted = |key: &Key| {
            matchers.iter().all(|matcher| matcher.accepts(key_label(key.bytes(), matcher.name())))
        };
        if let Some(lists) = candidates {
            let keys = lists.into_iter().flatten().filter_map(Weak::upgrade);
            return keys.filter(|key| is_wanted(key)).collect();
        }
        let keys = table.keys.iter().filter(|key| is_wanted(&key.0));
        keys.map(|key| Arc::clone(&key.0)).collect()
    }
}

impl Table {
    fn intern(&mut self, bytes: &[u8]) -> Arc<Key> {
        if let Some(known) = self.keys.get(bytes) {
            return Arc::clone(&known.0);
        }
        if self.keys.len() >= self.sweep_at {
            self.sweep();
        }
        let key = Arc::new(Key(bytes.into()));
        for (name, value) in labels_of(bytes) {
            let values = entry(&mut self.labels, name);
            entry(values, value).push(Arc::downgrade(&key));
        }
        self.keys.insert(ByBytes(Arc::clone(&key)));
        key
    }

    /// Lets go of keys that nobody else holds, so that there are at most twice those in use.
    fn sweep(&mut self) {
        self.keys.retain(|key| Arc::strong_count(&key.0) > 1);
        self.labels.retain(|_, values| {
            values.retain(|_, keys| {
                keys.retain(|key| key.strong_count() > 0);
                !keys.is_empty()
            });
            !values.is_empty()
        });
        self.sweep_at = LEAST_SWEEP.max(2 * self.keys.len());
    }

    /// The lists of keys whose label the matcher accepts; it does not accept a missing one.
    fn with_label(&self, matcher: &Matcher) -> Vec<&Vec<Weak<Key>>> {
        let Some(values) = self.labels.get(matcher.name()) else { return Vec::new() };
        if matcher.op() == crate::MatchOp::Equal {
            return values.get(matcher.value()).into_iter().collect();
        }
        let accepted = values.iter().filter(|(value, _)| matcher.accepts(value));
        accepted.map(|(_, keys)| keys).collect()
    }
}

/// The entry of this name; the name is copied only where it is new.
fn entry<'a, T: Default>(map: &'a mut BTreeMap<Box<str>, T>, name: &str) -> &'a mut T {
    if !map.contains_key(name) {
        map.insert(name.into(), T::default());
    }
    map.get_mut(name).expect("it was there or has just been put there")
}

/// The value of a label in a key, read in place; empty where there is none.
fn key_label<'a>(key: &'a [u8], name: &str) -> &'a str {
    labels_of(key).find(|(known, _)| *known == name).map_or("", |(_, value)| value)
}

/// Names and values in a key: each text behind its length. Ends at the first that is damaged.
fn labels_of(key: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut texts = KeyTexts(key);
    std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
}

struct KeyTexts<'a>(&'a [u8]);

impl<'a> Iterator for KeyTexts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (len, rest) = self.0.split_first_chunk::<2>()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Labels, MatchOp};

    fn key(pairs: &[(&str, &str)]) -> Vec<u8> {
        Labels::from_pairs(pairs.iter().copied()).unwrap().to_key()
    }

    #[test]
    fn a_label_is_found_in_a_key_without_decoding_it() {
        let key = key(&[("__name__", "up"), ("job", "node")]);
        for (name, value) in [("__name__", "up"), ("job", "node"), ("zone", ""), ("up", "")] {
            assert_eq!(key_label(&key, name), value, "{name}");
        }
        assert_eq!(key_label(&key[..key.len() - 1], "job"), "");
    }

    #[test]
    fn equal_keys_are_one_and_those_nobody_uses_are_dropped() {
        let keys = Keys::default();
        let up = keys.intern(&key(&[("__name__", "up")]));
        assert!(Arc::ptr_eq(&up, &keys.intern(up.bytes())));
        assert!(Arc::ptr_eq(&up, &keys.find(up.bytes()).unwrap()));
        for number in 0..20 * LEAST_SWEEP {
            keys.intern(&key(&[("__name__", "gone"), ("number", &number.to_string())]));
        }
        let table = read(&keys.table);
        assert!(table.keys.len() <= LEAST_SWEEP, "{} keys are kept", table.keys.len());
        let lists = table.labels.values().flat_map(BTreeMap::values);
        assert!(lists.map(Vec::len).sum::<usize>() <= 2 * LEAST_SWEEP);
        assert!(table.keys.contains(up.bytes()));
    }

    #[test]
    fn keys_are_found_by_any_label_and_by_its_absence() {
        use MatchOp::{Equal, NotEqual, NotRegex, Regex};
        let keys = Keys::default();
        let kept = [("up", "node"), ("up", "db"), ("load", "node"), ("plain", "")];
        let kept = kept.map(|(name, job)| keys.intern(&key(&[("__name__", name), ("job", job)])));
        for (conditions, found) in [
            (vec![], "0123"),
            (vec![(Equal, "__name__", "up")], "01"),
            (vec![(Equal, "__name__", "none")], ""),
            (vec![(Equal, "zone", "x")], ""),
            (vec![(Equal, "job", "")], "3"),
            (vec![(NotEqual, "job", "")], "012"),
            (vec![(NotEqual, "job", "db")], "023"),
            (vec![(Regex, "__name__", "up|plain")], "013"),
            (vec![(Regex, "job", "|db")], "13"),
            (vec![(NotRegex, "job", "n.*")], "13"),
            (vec![(Regex, "__name__", ".+"), (Equal, "job", "node")], "02"),
            (vec![(Equal, "__name__", "up"), (NotEqual, "job", "node")], "1"),
        ] {
            let matcher = |&(op, name, value): &(_, _, _)| Matcher::new(name, op, value).unwrap();
            let matchers: Vec<Matcher> = conditions.iter().map(matcher).collect();
            let matching = keys.matching(&matchers.iter().collect::<Vec<_>>());
            let is_found = |key: &&Arc<Key>| matching.iter().any(|found| Arc::ptr_eq(found, key));
            let places = kept.iter().enumerate().filter(|(_, key)| is_found(key));
            let got: String = places.map(|(place, _)| place.to_string()).collect();
            assert_eq!((got.as_str(), matching.len()), (found, found.len()), "{conditions:?}");
        }
    }
}
