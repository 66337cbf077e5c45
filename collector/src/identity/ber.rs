//! BER, as far as certificates and signed documents need it. AWS writes lengths that are not known in
//! advance, so that DER alone is not enough.

use std::borrow::Cow;

use crate::probe::certificate::length;

/// Elements within each other: signed data has ten.
const DEPTH_LIMIT: usize = 32;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BITS: u8 = 0x03;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const NAME: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The tag of `[number]` around other elements.
pub(super) const fn tagged(number: u8) -> u8 {
    0xa0 | number
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// Behind the tag: length and content as they were written; `None` where the length was not known.
    pub(super) written: Option<&'a [u8]>,
}

impl<'a> Element<'a> {
    /// The elements within.
    pub(super) fn inner(&self) -> Elements<'a> {
        Elements(self.content)
    }

    /// The bytes of an octet string, which may be written in pieces.
    pub(super) fn octets(&self) -> Option<Cow<'a, [u8]>> {
        const PIECES: u8 = OCTETS | 0x20;
        match self.tag {
            OCTETS => Some(Cow::Borrowed(self.content)),
            PIECES => {
                let (mut pieces, mut whole) = (self.inner(), Vec::new());
                while !pieces.is_empty() {
                    whole.extend_from_slice(pieces.expect(OCTETS)?.content);
                }
                Some(Cow::Owned(whole))
            }
            _ => None,
        }
    }
}

/// Elements one after the other, those not yet read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

impl<'a> Elements<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, whatever it is; `None` when the bytes are none.
    pub(super) fn next(&mut self) -> Option<Element<'a>> {
        let (element, rest) = element(self.0, DEPTH_LIMIT)?;
        self.0 = rest;
        Some(element)
    }

    /// The next element, which has to be of this kind.
    pub(super) fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    /// The next element if it is of this kind; any other stays.
    pub(super) fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        (*self.0.first()? == tag).then(|| self.next()).flatten()
    }
}

fn element(bytes: &[u8], depth: usize) -> Option<(Element<'_>, &[u8])> {
    let (&tag, written) = bytes.split_first()?;
    // Tags of more than a byte occur in none of what we read.
    if tag & 0x1f == 0x1f {
        return None;
    }
    if let Some(rest) = written.strip_prefix(&[0x80]) {
        return until_its_end(tag, rest, depth);
    }
    let (len, rest) = length(written)?;
    let (content, rest) = rest.split_at_checked(len)?;
    let written = written.get(..written.len() - rest.len());
    Some((Element { tag, content, written }, rest))
}

/// An element that ends where two zero bytes stand in the place of one.
fn until_its_end(tag: u8, content: &[u8], depth: usize) -> Option<(Element<'_>, &[u8])> {
    let depth = depth.checked_sub(1)?;
    let mut rest = content;
    while !rest.starts_with(&[0, 0]) {
        (_, rest) = element(rest, depth)?;
    }
    let content = content.get(..content.len() - rest.len())?;
    Some((Element { tag, content, written: None }, rest.get(2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_in_all_three_forms() {
        let long = [&[SEQUENCE, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        for (bytes, content) in [
            (&[SEQUENCE, 2, 5, 0][..], &[5, 0][..]),
            (&long, &[7; 256]),
            (&[SEQUENCE, 0x80, 5, 0, 0, 0], &[5, 0]),
            (&[SEQUENCE, 0x80, SEQUENCE, 0x80, 0, 0, 0, 0], &[SEQUENCE, 0x80, 0, 0]),
        ] {
            let mut elements = Elements(bytes);
            assert_eq!(elements.expect(SEQUENCE).unwrap().content, content);
            assert!(elements.is_empty());
        }
        let pieces = [OCTETS | 0x20, 0x80, OCTETS, 1, b'a', OCTETS, 2, b'b', b'c', 0, 0];
        assert_eq!(&*Elements(&pieces).next().unwrap().octets().unwrap(), b"abc");
    }

    #[test]
    fn what_is_cut_lies_or_goes_too_deep_is_none() {
        let deep = [SEQUENCE, 0x80].repeat(200_000);
        for bytes in [
            &[][..],
            &[SEQUENCE],
            &[SEQUENCE, 1],
            &[SEQUENCE, 0x80],
            &[SEQUENCE, 0x80, 5, 0],
            &[SEQUENCE, 0x85, 0, 0, 0, 0, 0],
            &[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff, 1],
            &[0x1f, 1, 1],
            &deep,
        ] {
            assert!(Elements(bytes).next().is_none());
        }
    }
}
