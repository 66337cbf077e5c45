//! The strings of a request, and labels that are references to them.

use std::borrow::Cow;

use rrd::{Labels, NAME};

use crate::accounting::Reason;
use crate::foreign::{Named, shown_pairs};
use crate::limits::{
    LABEL_COUNT_LIMIT, LABEL_NAME_LIMIT, LABEL_VALUE_LIMIT, WRITE_SERIES_LIMIT, checked_series,
};
use crate::remote_write::wire::{Fields, WireError};

/// Strings of a request: five of its own for each series, far more than any sender has.
pub(super) const SYMBOL_LIMIT: usize = 5 * WRITE_SERIES_LIMIT;
/// References that are looked at; a series with more is refused.
pub(super) const REF_LIMIT: usize = 2 * LABEL_COUNT_LIMIT;
/// Bytes of a string that a person is shown at most.
const SHOWN_LIMIT: usize = 1 << 10;

const SYMBOLS: u64 = 4;

/// All strings of a request, wherever in it they stand.
pub(super) struct Symbols<'a>(Vec<&'a [u8]>);

impl<'a> Symbols<'a> {
    pub(super) fn of(request: &'a [u8]) -> Result<Self, WireError> {
        let mut symbols = Vec::new();
        let mut fields = Fields::of(request);
        while let Some((field, content)) = fields.next()? {
            if field != SYMBOLS {
                continue;
            }
            if symbols.len() == SYMBOL_LIMIT {
                return Err(WireError::Symbols(SYMBOL_LIMIT));
            }
            symbols.push(content.bytes()?);
        }
        Ok(Self(symbols))
    }

    fn get(&self, reference: u32) -> Option<&'a [u8]> {
        self.0.get(usize::try_from(reference).ok()?).copied()
    }
}

/// The labels of a series: names and values in turn, as places in the table.
pub(super) struct LabelRefs<'a> {
    pub(super) symbols: &'a Symbols<'a>,
    /// The first [`REF_LIMIT`] of them.
    pub(super) refs: &'a [u32],
    /// How many there are.
    pub(super) count: usize,
}

impl<'a> LabelRefs<'a> {
    /// Writes the bytes that stand for these labels; false where something is wrong with them.
    pub(super) fn key(&self, key: &mut Vec<u8>) -> bool {
        key.clear();
        if self.count > REF_LIMIT || !self.count.is_multiple_of(2) {
            return false;
        }
        self.refs.iter().enumerate().all(|(at, reference)| {
            let limit = if at.is_multiple_of(2) { LABEL_NAME_LIMIT } else { LABEL_VALUE_LIMIT };
            let Some(symbol) = self.symbols.get(*reference).filter(|one| one.len() <= limit) else {
                return false;
            };
            let len = u16::try_from(symbol.len()).expect("below the limits of labels");
            key.extend_from_slice(&len.to_le_bytes());
            key.extend_from_slice(symbol);
            true
        })
    }

    /// The metric's name; empty without one.
    pub(super) fn metric(&self) -> &'a [u8] {
        let mut pairs = self.pairs();
        pairs.find(|(name, _)| *name == NAME.as_bytes()).map_or(&[], |(_, value)| value)
    }

    /// Pairs of which both strings are there.
    fn pairs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let symbols = self.symbols;
        self.refs
            .chunks_exact(2)
            .filter_map(move |pair| Some((symbols.get(pair[0])?, symbols.get(pair[1])?)))
    }
}

impl Named for LabelRefs<'_> {
    fn labels(&self) -> Result<Labels, (Reason, String)> {
        if self.count > REF_LIMIT {
            let message = format!(
                "the number of labels is {}, over the limit of {LABEL_COUNT_LIMIT}; send fewer",
                self.count / 2
            );
            return Err((Reason::LabelLimit, message));
        }
        let bad = |message: &str| Err((Reason::BadLabel, message.to_owned()));
        if !self.count.is_multiple_of(2) {
            return bad("a label has a name and no value; send references in pairs");
        }
        if self.refs.iter().any(|reference| self.symbols.get(*reference).is_none()) {
            return bad("a label refers to a symbol that the request does not hold");
        }
        // Before they are read: one long string may be the label of every series.
        let mut lens = self.pairs().map(|(name, value)| (name.len(), value.len()));
        let over =
            |(name, value): &(usize, usize)| *name > LABEL_NAME_LIMIT || *value > LABEL_VALUE_LIMIT;
        if let Some((name, value)) = lens.find(over) {
            let message = format!(
                "a label has a name of {name} and a value of {value} bytes, over the limits of \
                 {LABEL_NAME_LIMIT} and {LABEL_VALUE_LIMIT}; shorten them"
            );
            return Err((Reason::LabelLimit, message));
        }
        let texts: Option<Vec<_>> = self
            .pairs()
            .map(|(name, value)| Some((str::from_utf8(name).ok()?, str::from_utf8(value).ok()?)))
            .collect();
        match texts {
            Some(pairs) => checked_series(&pairs),
            None => bad("a label cannot be read as UTF-8; send it as UTF-8"),
        }
    }

    fn shown(&self) -> String {
        let cut = |text: &'_ [u8]| -> Cow<'_, str> {
            String::from_utf8_lossy(&text[..text.len().min(SHOWN_LIMIT)]).into_owned().into()
        };
        shown_pairs(self.pairs().map(|(name, value)| (cut(name), cut(value))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [&str; 7] = ["", "__name__", "up", "job", "j", "\u{1f680}", "__name__"];

    fn check(refs: &[u32], expected: Result<&str, Reason>) {
        let symbols = Symbols(TABLE.iter().map(|text| text.as_bytes()).collect());
        let held = &refs[..refs.len().min(REF_LIMIT)];
        let labels = LabelRefs { symbols: &symbols, refs: held, count: refs.len() };
        let found = labels.labels();
        let shown = found.as_ref().map(ToString::to_string).map_err(|(reason, _)| *reason);
        assert_eq!(shown, expected.map(str::to_owned), "{refs:?}");
        let mut key = Vec::new();
        if found.is_ok() {
            assert!(labels.key(&mut key), "{refs:?}");
        }
    }

    #[test]
    fn references_are_checked_before_they_are_followed() {
        check(&[1, 2, 3, 4], Ok(r#"up{job="j"}"#));
        check(&[3, 4, 1, 2], Ok(r#"up{job="j"}"#));
        check(&[1, 2, 3, 0], Ok("up"));
        check(&[1, 2, 3], Err(Reason::BadLabel));
        check(&[1, 7], Err(Reason::BadLabel));
        check(&[1, u32::MAX], Err(Reason::BadLabel));
        check(&[1, 2, 6, 4], Err(Reason::DuplicateLabel));
        check(&[1, 2, 0, 4], Err(Reason::BadLabel));
        check(&[1, 0], Err(Reason::NoName));
        check(&[], Err(Reason::NoName));
        check(&[4; REF_LIMIT + 2], Err(Reason::LabelLimit));
    }

    #[test]
    fn other_labels_have_another_key() {
        let symbols = Symbols(vec![b"", b"ab", b"a", b"bc", b"c"]);
        let key = |refs: &[u32]| {
            let mut key = Vec::new();
            assert!(LabelRefs { symbols: &symbols, refs, count: refs.len() }.key(&mut key));
            key
        };
        assert_ne!(key(&[1, 4]), key(&[2, 3]));
        assert_ne!(key(&[1, 4]), key(&[1, 4, 0, 0]));
    }

    #[test]
    fn the_table_is_counted_before_it_is_built() {
        let empty = [0x22, 0].repeat(SYMBOL_LIMIT);
        assert_eq!(Symbols::of(&empty).unwrap().0.len(), SYMBOL_LIMIT);
        let over = [0x22, 0].repeat(SYMBOL_LIMIT + 1);
        assert_eq!(Symbols::of(&over).err(), Some(WireError::Symbols(SYMBOL_LIMIT)));
    }
}
