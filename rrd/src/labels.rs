//! Labels: what names a series or an instance, in one canonical order.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

/// The label that holds a series' metric name, as Prometheus has it.
pub const NAME: &str = "__name__";

/// Most series have no more labels.
const USUAL_COUNT: usize = 8;

/// Sorted names and values; an empty value is the same as no label. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Arc<Texts>);

/// All names and values in one text.
#[derive(Default, PartialEq, Eq, Hash)]
struct Texts {
    text: Box<str>,
    /// Where each name and each value ends.
    ends: Box<[usize]>,
}

/// Why a set of labels was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LabelError {
    /// The same name twice.
    #[error("label {0:?} is given twice; send it once")]
    Duplicate(String),
    /// A label without a name.
    #[error("a label has an empty name; name it or leave it out")]
    EmptyName,
    /// A key that is not one this program wrote.
    #[error("the stored key of a series is damaged")]
    DamagedKey,
}

impl Labels {
    /// Labels of these pairs: sorted, empty values dropped. Errors on an empty or repeated name.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let pairs = pairs.into_iter().filter(|(_, value)| !value.as_ref().is_empty());
        let mut all: Vec<(N, V)> = pairs.collect();
        all.sort_unstable_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
        for pair in all.windows(2) {
            if pair[0].0.as_ref() == pair[1].0.as_ref() {
                return Err(LabelError::Duplicate(pair[0].0.as_ref().to_owned()));
            }
        }
        if all.iter().any(|(name, _)| name.as_ref().is_empty()) {
            return Err(LabelError::EmptyName);
        }
        Ok(Self::of_sorted(all.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))))
    }

    /// Labels of pairs in order of name, each with a value.
    fn of_sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let texts = pairs.flat_map(|(name, value)| [name, value]);
        let mut text = String::with_capacity(texts.clone().map(str::len).sum());
        let mut ends = Vec::with_capacity(texts.clone().count());
        for one in texts {
            text.push_str(one);
            ends.push(text.len());
        }
        Self(Arc::new(Texts { text: text.into_boxed_str(), ends: ends.into_boxed_slice() }))
    }

    /// The value of label `name`; `None` when the set lacks it.
    pub fn get(&self, name: &str) -> Option<&str> {
        if self.len() <= USUAL_COUNT {
            // Most names differ in length already, and so are not even looked at.
            return self.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        }
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            let (known, value) = self.pair(middle);
            match known.cmp(name) {
                Ordering::Less => from = middle + 1,
                Ordering::Equal => return Some(value),
                Ordering::Greater => to = middle,
            }
        }
        None
    }

    fn pair(&self, place: usize) -> (&str, &str) {
        let Texts { text, ends } = &*self.0;
        let start = if place == 0 { 0 } else { ends[2 * place - 1] };
        let (middle, end) = (ends[2 * place], ends[2 * place + 1]);
        let part = |range: Range<usize>| text.get(range).expect("it ends where a text does");
        (part(start..middle), part(middle..end))
    }

    /// The metric name, if there is one.
    pub fn metric(&self) -> Option<&str> {
        self.get(NAME)
    }

    /// Names and values in order of name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        (0..self.len()).map(|place| self.pair(place))
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.ends.len() / 2
    }

    /// True when there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// These labels with `name` set to `value` (removed when `value` is empty).
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let before = self.iter().take_while(|(known, _)| *known < name);
        let after = self.iter().skip_while(|(known, _)| *known <= name);
        let own = (!value.is_empty()).then_some((name, value));
        Self::of_sorted(before.chain(own).chain(after))
    }

    /// Only the labels whose name `keep` accepts.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self::of_sorted(self.iter().filter(|(name, _)| keep(name)))
    }

    /// These labels with all of `other` laid over them: on a shared name `other` wins.
    #[must_use]
    pub fn overlaid(&self, other: &Self) -> Self {
        let own = self.iter().filter(|(name, _)| other.get(name).is_none());
        let mut all: Vec<_> = own.chain(other.iter()).collect();
        all.sort_unstable();
        Self::of_sorted(all.iter().copied()) // To go over these again copies nothing.
    }

    /// The canonical bytes that identify this set: each name and value behind its length (u16).
    ///
    /// Names and values longer than 65,535 bytes do not pass intake; they are cut here.
    pub fn to_key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.0.text.len() + 2 * self.0.ends.len());
        for text in self.iter().flat_map(|(name, value)| [name, value]) {
            let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
            key.extend_from_slice(&len.to_le_bytes());
            key.extend_from_slice(&text.as_bytes()[..usize::from(len)]);
        }
        key
    }

    /// The labels that [`Labels::to_key`] wrote.
    pub fn from_key(mut key: &[u8]) -> Result<Self, LabelError> {
        let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(USUAL_COUNT);
        while !key.is_empty() {
            pairs.push((take_text(&mut key)?, take_text(&mut key)?));
        }
        // As a key has them; anything else is looked at in full.
        let is_rising = pairs.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if is_rising && pairs.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()) {
            return Ok(Self::of_sorted(pairs.iter().copied()));
        }
        Self::from_pairs(pairs)
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// The text at the beginning of a key, which goes on behind it.
fn take_text<'a>(key: &mut &'a [u8]) -> Result<&'a str, LabelError> {
    let (len, rest) = key.split_first_chunk().ok_or(LabelError::DamagedKey)?;
    let len = usize::from(u16::from_le_bytes(*len));
    let (text, rest) = rest.split_at_checked(len).ok_or(LabelError::DamagedKey)?;
    *key = rest;
    std::str::from_utf8(text).map_err(|_| LabelError::DamagedKey)
}

/// As PromQL writes it: `up{instance="a",job="b"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric().unwrap_or_default())?;
        let mut rest = self.iter().filter(|(name, _)| *name != NAME).peekable();
        if rest.peek().is_none() && self.metric().is_some() {
            return Ok(());
        }
        f.write_str("{")?;
        for (at, (name, value)) in rest.enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filtering_leaves_those_that_are_kept() {
        let all = labels(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(all.filtered(|name| name != "b"), labels(&[("a", "1"), ("c", "3")]));
        assert_eq!(all.filtered(|_| false), Labels::default());
    }

    #[test]
    fn labels_are_in_order_of_their_pairs_and_not_of_their_text() {
        let sets = [
            labels(&[]),
            labels(&[("a", "b")]),
            labels(&[("a", "b"), ("c", "")]),
            labels(&[("a", "bc")]),
            labels(&[("a", "c")]),
            labels(&[("ab", "c")]),
        ];
        for (place, one) in sets.iter().enumerate() {
            for (other_place, other) in sets.iter().enumerate() {
                let (pairs, other_pairs) = (one.iter().collect::<Vec<_>>(), other.iter().collect());
                assert_eq!(one.cmp(other), pairs.cmp(&other_pairs), "{place} {other_place}");
                assert_eq!(one == other, pairs == other_pairs, "{place} {other_place}");
            }
        }
    }

    #[test]
    fn many_labels_are_found_as_few_are() {
        for count in [0, 1, 8, 9, 50] {
            let names: Vec<String> =
                (0..count).map(|number| format!("n{:02}", 2 * number)).collect();
            let set = Labels::from_pairs(names.iter().map(|name| (name, name))).unwrap();
            for name in &names {
                assert_eq!(set.get(name), Some(name.as_str()));
                assert_eq!(set.get(&format!("{name}x")), None);
            }
            assert_eq!((set.get("m"), set.get("z"), set.get("")), (None, None, None));
        }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn order_and_empty_values_do_not_matter() {
        let a = labels(&[("b", "2"), ("a", "1"), ("c", "")]);
        let b = labels(&[("a", "1"), ("b", "2")]);
        assert_eq!(a, b);
        assert_eq!(a.to_key(), b.to_key());
    }

    #[test]
    fn a_repeated_or_nameless_label_is_refused() {
        let twice = Labels::from_pairs([("a", "1"), ("a", "2")]);
        assert_eq!(twice, Err(LabelError::Duplicate("a".to_owned())));
        assert_eq!(Labels::from_pairs([("", "1")]), Err(LabelError::EmptyName));
    }

    #[test]
    fn a_key_gives_its_labels_back_and_damage_is_named() {
        let set = labels(&[(NAME, "up"), ("job", "näme")]);
        let key = set.to_key();
        assert_eq!(Labels::from_key(&key), Ok(set));
        for cut in 1..key.len() {
            let whole_pairs = cut == 2 + NAME.len() + 2 + "up".len();
            assert_eq!(Labels::from_key(&key[..cut]).is_ok(), whole_pairs, "cut at {cut}");
        }
    }

    #[test]
    fn a_key_that_is_not_in_order_is_looked_at_as_pairs_are() {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap(), 0], text.as_bytes()].concat();
        let key = |texts: &[&str]| texts.iter().flat_map(|each| text(each)).collect::<Vec<u8>>();
        let sorted = labels(&[("a", "1"), ("b", "2")]);
        for texts in
            [&["a", "1", "b", "2"][..], &["b", "2", "a", "1"], &["a", "1", "b", "2", "c", ""]]
        {
            assert_eq!(Labels::from_key(&key(texts)), Ok(sorted.clone()), "{texts:?}");
        }
        let twice = Err(LabelError::Duplicate("a".to_owned()));
        assert_eq!(Labels::from_key(&key(&["a", "1", "a", "1"])), twice);
        assert_eq!(Labels::from_key(&key(&["", "1"])), Err(LabelError::EmptyName));
        assert_eq!(Labels::from_key(&key(&["a"])), Err(LabelError::DamagedKey));
    }

    #[test]
    fn with_sets_replaces_and_removes() {
        let set = labels(&[("a", "1"), ("c", "3")]);
        assert_eq!(set.with("b", "2").to_string(), r#"{a="1",b="2",c="3"}"#);
        assert_eq!(set.with("a", "9").get("a"), Some("9"));
        assert_eq!(set.with("a", "").len(), 1);
    }

    #[test]
    fn an_overlay_wins_on_shared_names() {
        let series = labels(&[(NAME, "up"), ("zone", "self")]);
        let instance = labels(&[("instance", "web-1"), ("zone", "eu")]);
        let both = series.overlaid(&instance);
        assert_eq!(both.to_string(), r#"up{instance="web-1",zone="eu"}"#);
    }
}
