//! Records of a segment: dictionary entries and readings, packed against what the segment said before.
//!
//! A segment has numbers of its own for series, given in the order of its entries, so that it can be
//! read without any other. Of a value only the bytes are kept in which it differs from the series'
//! last one; a run of values that did not change takes one byte.

use crate::native::Entry;

/// Lists of series that a segment remembers: one for the kernel's readings and one for each source.
const LISTS_MAX: usize = 32;

/// Values in one run that did not change.
const RUN_MAX: usize = 128;

/// Set in the byte before a value that changed; without it the byte counts a run.
const CHANGED: u8 = 0x80;

/// The most bytes one value and its series' number take.
pub(super) const VALUE_BYTES_MAX: usize = 9 + VARINT_BYTES_MAX;

/// The most bytes a record takes besides its values: kind, moment, time it stood, list and counts.
pub(super) const PIECE_BYTES_MAX: usize = 1 + 5 * VARINT_BYTES_MAX;

const VARINT_BYTES_MAX: usize = 10;

const ENTRY: u8 = 1;
const PIECE: u8 = 2;

/// Values of one moment, and how long they stood.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Piece {
    pub(super) at_ms: i64,
    /// Time before `at_ms` that the values stand for; 0 in a reading as it was made.
    pub(super) span_ms: u64,
    /// The segment's numbers of series, and their values.
    pub(super) values: Vec<(u32, f64)>,
}

/// What one record holds.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    Entry(Entry),
    Piece(Piece),
}

/// What writer and reader of a segment both know at one place of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Packing {
    last_bits: Vec<u64>,
    lists: Vec<Vec<u32>>,
    at_ms: i64,
}

impl Packing {
    /// How many entries there were.
    pub(super) fn entry_count(&self) -> u32 {
        u32::try_from(self.last_bits.len()).expect("every entry takes bytes of a segment")
    }

    /// Appends the record of an entry; its number is [`Packing::entry_count`] before.
    pub(super) fn put_entry(&mut self, kind: u8, labels: &[(String, String)], out: &mut Vec<u8>) {
        out.extend([ENTRY, kind]);
        put(labels.len() as u64, out);
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            put(text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        }
        self.last_bits.push(0);
    }

    /// Appends the record of a piece, whose series all have entries.
    pub(super) fn put_piece(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        out.push(PIECE);
        put(zigzag(piece.at_ms.wrapping_sub(self.at_ms)), out);
        put(piece.span_ms, out);
        self.at_ms = piece.at_ms;
        self.put_list(&piece.values, out);
        let mut run = 0;
        for (id, value) in &piece.values {
            let last = self.last_mut(*id).expect("the caller has put its entry");
            let difference = value.to_bits() ^ std::mem::replace(last, value.to_bits());
            if difference == 0 {
                run += 1;
                if run == RUN_MAX {
                    put_run(&mut run, out);
                }
                continue;
            }
            put_run(&mut run, out);
            put_difference(difference, out);
        }
        put_run(&mut run, out);
    }

    fn put_list(&mut self, values: &[(u32, f64)], out: &mut Vec<u8>) {
        let ids = || values.iter().map(|(id, _)| *id);
        let known = self.lists.iter().position(|list| list.iter().copied().eq(ids()));
        if let Some(known) = known {
            return put(known as u64 + 1, out);
        }
        put(0, out);
        put(values.len() as u64, out);
        let mut last = 0;
        for id in ids() {
            put(zigzag(i64::from(id) - last), out);
            last = i64::from(id);
        }
        self.remember(ids().collect());
    }

    fn remember(&mut self, list: Vec<u32>) {
        if self.lists.len() < LISTS_MAX {
            self.lists.push(list);
        }
    }

    fn last_mut(&mut self, id: u32) -> Option<&mut u64> {
        self.last_bits.get_mut(usize::try_from(id).ok()?)
    }

    /// Reads the record that `bytes` hold; `None` when they hold none.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Option<Record> {
        let bytes = &mut bytes;
        match byte(bytes)? {
            ENTRY => {
                let kind = byte(bytes)?;
                let label_count = get(bytes)?;
                let labels = (0..label_count).map(|_| Some((text(bytes)?, text(bytes)?)));
                let labels: Vec<(String, String)> = labels.collect::<Option<_>>()?;
                let id = self.entry_count();
                self.last_bits.push(0);
                Some(Record::Entry(Entry { id, kind, labels }))
            }
            PIECE => self.take_piece(bytes).map(Record::Piece),
            _ => None,
        }
    }

    fn take_piece(&mut self, bytes: &mut &[u8]) -> Option<Piece> {
        let at_ms = self.at_ms.wrapping_add(unzigzag(get(bytes)?));
        let span_ms = get(bytes)?;
        let list = match get(bytes)? {
            0 => self.take_list(bytes)?,
            known => self.lists.get(usize::try_from(known).ok()? - 1)?.clone(),
        };
        self.at_ms = at_ms;
        let mut run = 0;
        let mut values = Vec::with_capacity(list.len());
        for id in list {
            let last = self.last_mut(id)?;
            if run == 0 {
                let control = byte(bytes)?;
                if control & CHANGED == 0 {
                    run = usize::from(control) + 1;
                } else {
                    *last ^= get_difference(control, bytes)?;
                }
            }
            run = run.saturating_sub(1);
            values.push((id, f64::from_bits(*last)));
        }
        Some(Piece { at_ms, span_ms, values })
    }

    fn take_list(&mut self, bytes: &mut &[u8]) -> Option<Vec<u32>> {
        let count = usize::try_from(get(bytes)?).ok().filter(|count| *count <= bytes.len())?;
        let (mut list, mut last) = (Vec::with_capacity(count), 0_i64);
        for _ in 0..count {
            last = last.checked_add(unzigzag(get(bytes)?))?;
            list.push(u32::try_from(last).ok()?);
        }
        self.remember(list.clone());
        Some(list)
    }
}

/// Bytes the record of an entry takes at most.
pub(super) fn entry_bytes_max(labels: &[(String, String)]) -> usize {
    let texts = labels.iter().map(|(name, value)| name.len() + value.len());
    2 + VARINT_BYTES_MAX + texts.map(|bytes| bytes + 2 * VARINT_BYTES_MAX).sum::<usize>()
}

fn put_run(run: &mut usize, out: &mut Vec<u8>) {
    if *run > 0 {
        out.push(u8::try_from(*run - 1).expect("a run ends at its bound"));
        *run = 0;
    }
}

/// The bytes between the zero ones at both ends, behind a byte that counts those.
fn put_difference(difference: u64, out: &mut Vec<u8>) {
    let zeroes = |bits: u32| u8::try_from(bits / 8).expect("a number has 64 bits");
    let (front, back) = (zeroes(difference.leading_zeros()), zeroes(difference.trailing_zeros()));
    out.push(CHANGED | (front << 3) | back);
    let bytes = difference.to_le_bytes();
    out.extend_from_slice(&bytes[usize::from(back)..8 - usize::from(front)]);
}

fn get_difference(control: u8, bytes: &mut &[u8]) -> Option<u64> {
    let (front, back) = (usize::from((control >> 3) & 7), usize::from(control & 7));
    let mut difference = [0; 8];
    for place in difference.get_mut(back..8_usize.checked_sub(front)?)? {
        *place = byte(bytes)?;
    }
    Some(u64::from_le_bytes(difference))
}

fn put(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn get(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let next = byte(bytes)?;
        number |= u64::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let len = usize::try_from(get(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

/// Small numbers of either sign become small ones.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use fixtures::dice::Dice;

    use super::*;

    fn labels(name: &str) -> Vec<(String, String)> {
        vec![("__name__".to_owned(), name.to_owned())]
    }

    #[test]
    fn what_is_put_is_taken_bit_by_bit() {
        for seed in 0..200 {
            let mut dice = Dice::new(seed);
            let (mut writer, mut reader) = (Packing::default(), Packing::default());
            let mut bytes = Vec::new();
            for id in 0..300 {
                bytes.clear();
                writer.put_entry(4, &labels(&format!("m{id}")), &mut bytes);
                let entry = Entry { id, kind: 4, labels: labels(&format!("m{id}")) };
                assert_eq!(reader.take(&bytes), Some(Record::Entry(entry)));
            }
            let mut values: Vec<f64> = vec![0.0; 300];
            for round in 0..20 {
                for value in &mut values {
                    match dice.number() % 6 {
                        0 => *value = f64::from_bits(dice.number()),
                        1 => *value += 1.0,
                        _ => {}
                    }
                }
                let is_whole = dice.once_in(2);
                let ids = (0..300_u32).filter(|_| is_whole || dice.once_in(3));
                let values = ids.map(|id| (id, values[usize::try_from(id).unwrap()])).collect();
                let span_ms = dice.number() >> (dice.number() % 64);
                let piece = Piece { at_ms: dice.number().cast_signed(), span_ms, values };
                bytes.clear();
                writer.put_piece(&piece, &mut bytes);
                assert!(
                    bytes.len() <= PIECE_BYTES_MAX + piece.values.len() * VALUE_BYTES_MAX,
                    "seed {seed}, round {round}"
                );
                let Some(Record::Piece(taken)) = reader.take(&bytes) else { panic!("a piece") };
                let bits = |piece: &Piece| -> Vec<(u32, u64)> {
                    piece.values.iter().map(|(id, value)| (*id, value.to_bits())).collect()
                };
                assert_eq!((taken.at_ms, taken.span_ms), (piece.at_ms, piece.span_ms));
                assert_eq!(bits(&taken), bits(&piece), "seed {seed}, round {round}");
            }
        }
    }

    #[test]
    fn a_second_reading_without_news_takes_a_few_bytes() {
        let (mut packing, mut bytes) = (Packing::default(), Vec::new());
        for id in 0..100 {
            packing.put_entry(0, &labels(&id.to_string()), &mut bytes);
        }
        let values: Vec<(u32, f64)> = (0..100).map(|id| (id, f64::from(id) * 0.3)).collect();
        let mut piece = Piece { at_ms: 1_800_000_000_000, span_ms: 0, values };
        packing.put_piece(&piece, &mut bytes);
        bytes.clear();
        piece.at_ms += 10_000;
        packing.put_piece(&piece, &mut bytes);
        assert_eq!(bytes.len(), 7, "{bytes:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_reading_panic_or_take_much(bytes: Vec<u8>, pieces: Vec<Vec<u8>>) {
            let mut packing = Packing::default();
            packing.take(&bytes);
            for piece in pieces {
                packing.take(&[&[PIECE], piece.as_slice()].concat());
                packing.take(&[&[ENTRY], piece.as_slice()].concat());
            }
        }
    }
}
