//! Labels: what names a series or an instance, in one canonical order.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The label that holds a series' metric name, as Prometheus has it.
pub const NAME: &str = "__name__";

/// Most series have no more labels.
const USUAL_COUNT: usize = 8;

/// Sorted names and values; an empty value is the same as no label. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Box<str>, Box<str>)]>);

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
        N: Into<String>,
        V: Into<String>,
    {
        let mut all: Vec<(Box<str>, Box<str>)> = pairs
            .into_iter()
            .map(|(name, value)| (name.into().into_boxed_str(), value.into().into_boxed_str()))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        all.sort();
        for pair in all.windows(2) {
            if pair[0].0 == pair[1].0 {
                return Err(LabelError::Duplicate(pair[0].0.to_string()));
            }
        }
        if all.iter().any(|(name, _)| name.is_empty()) {
            return Err(LabelError::EmptyName);
        }
        Ok(Self(all.into()))
    }

    /// The value of label `name`; `None` when the set lacks it.
    pub fn get(&self, name: &str) -> Option<&str> {
        if self.0.len() <= USUAL_COUNT {
            // Most names differ in length already, and so are not even looked at.
            return self.0.iter().find(|(n, _)| **n == *name).map(|(_, value)| value.as_ref());
        }
        let at = self.0.binary_search_by(|(n, _)| n.as_ref().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// The metric name, if there is one.
    pub fn metric(&self) -> Option<&str> {
        self.get(NAME)
    }

    /// Names and values in order of name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These labels with `name` set to `value` (removed when `value` is empty).
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut all: Vec<_> = self.0.iter().filter(|(n, _)| n.as_ref() != name).cloned().collect();
        if !value.is_empty() {
            let at = all.partition_point(|(n, _)| n.as_ref() < name);
            all.insert(at, (name.into(), value.into()));
        }
        Self(all.into())
    }

    /// Only the labels whose name `keep` accepts.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    /// As [`Labels::filtered`]; what nobody else holds is moved, not copied.
    #[must_use]
    pub fn into_filtered(mut self, mut keep: impl FnMut(&str) -> bool) -> Self {
        match Arc::get_mut(&mut self.0) {
            Some(own) => {
                let kept = own.iter_mut().filter(|(name, _)| keep(name));
                Self(kept.map(std::mem::take).collect())
            }
            None => self.filtered(keep),
        }
    }

    /// These labels with all of `other` laid over them: on a shared name `other` wins.
    #[must_use]
    pub fn overlaid(&self, other: &Self) -> Self {
        let mut all: Vec<_> =
            self.0.iter().filter(|(name, _)| other.get(name).is_none()).cloned().collect();
        all.extend(other.0.iter().cloned());
        all.sort();
        Self(all.into())
    }

    /// The canonical bytes that identify this set: each name and value behind its length (u16).
    ///
    /// Names and values longer than 65,535 bytes do not pass intake; they are cut here.
    pub fn to_key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.0.iter().map(|(n, v)| n.len() + v.len() + 4).sum());
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
            key.extend_from_slice(&len.to_le_bytes());
            key.extend_from_slice(&text.as_bytes()[..usize::from(len)]);
        }
        key
    }

    /// The labels that [`Labels::to_key`] wrote.
    pub fn from_key(mut key: &[u8]) -> Result<Self, LabelError> {
        let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(USUAL_COUNT);
        while !key.is_empty() {
            let name = take_text(&mut key)?;
            pairs.push((name.into(), take_text(&mut key)?.into()));
        }
        // As a key has them; anything else is looked at in full.
        let is_rising = pairs.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if is_rising && pairs.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()) {
            return Ok(Self(pairs.into()));
        }
        Self::from_pairs(pairs)
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
    fn filtering_leaves_the_same_whoever_holds_the_labels() {
        let all = labels(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let expected = labels(&[("a", "1"), ("c", "3")]);
        let keep = |name: &str| name != "b";
        assert_eq!(all.filtered(keep), expected);
        assert_eq!(all.clone().into_filtered(keep), expected, "held by another, too");
        assert_eq!(all.len(), 3, "who keeps what was there");
        assert_eq!(all.into_filtered(keep), expected);
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
