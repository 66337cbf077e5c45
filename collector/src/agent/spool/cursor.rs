//! The cursor: where in the queue the next readings are taken.

use std::collections::VecDeque;

use rrd::Kind;

use super::expand::{Expander, Expansion};
use super::queue::{Losses, Segment};
use super::reader::Reader;
use super::record::Record;
use super::room::{Place, Room};
use crate::agent::dictionary::Dictionary;
use crate::native::Reading;

/// Readings that were taken, and where they stand.
#[derive(Debug)]
pub(in crate::agent) struct Taken {
    pub(in crate::agent) boot_id: u128,
    pub(in crate::agent) readings: Vec<Reading>,
    /// Where the first of them begins.
    pub(in crate::agent) start: Place,
    /// Where the next ones begin.
    pub(in crate::agent) end: Place,
}

/// A place in the queue, with what is known there.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    place: Place,
    /// Absent until something is taken here.
    open: Option<Open>,
}

/// A segment that is being read.
#[derive(Clone, Debug)]
struct Open {
    reader: Reader,
    expander: Expander,
    /// The dictionary's numbers by those of the segment.
    numbers: Vec<Option<u32>>,
    boot_id: u128,
    /// The record at the cursor, as far as it was not taken.
    record: Option<(Expansion, Reading)>,
}

impl Cursor {
    pub(super) fn at(place: Place) -> Self {
        Self { place, open: None }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// See [`super::Queue::take`].
    pub(super) fn take(
        &mut self,
        room: &Room,
        segments: &VecDeque<Segment>,
        samples_max: usize,
        dictionary: &mut Dictionary,
        losses: &mut Losses,
    ) -> Option<Taken> {
        self.find(room, segments, dictionary, losses)?;
        let (start, boot_id) = (self.place, self.open.as_ref()?.boot_id);
        let mut readings: Vec<Reading> = Vec::new();
        let mut left = samples_max;
        while left > 0 {
            let Some(at_ms) = self.find(room, segments, dictionary, losses) else { break };
            let Some(open) = self.open.as_mut().filter(|open| open.boot_id == boot_id) else {
                break;
            };
            let Some((_, reading)) = &mut open.record else { break };
            let count = reading.values.len();
            if count > left && !readings.is_empty() {
                break;
            }
            let later = reading.values.split_off(count.min(left));
            let values = std::mem::replace(&mut reading.values, later);
            left -= values.len();
            self.place.part += values.len();
            match readings.last_mut().filter(|last| last.at_ms == at_ms) {
                Some(last) => last.values.extend(values),
                None => readings.push(Reading { at_ms, values }),
            }
        }
        Some(Taken { boot_id, readings, start, end: self.place })
    }

    /// Makes sure that there is something at the cursor, and says of which moment.
    pub(super) fn find(
        &mut self,
        room: &Room,
        segments: &VecDeque<Segment>,
        dictionary: &mut Dictionary,
        losses: &mut Losses,
    ) -> Option<i64> {
        loop {
            if let Some(Open { record: Some((expansion, reading)), reader, numbers, .. }) =
                &mut self.open
            {
                if !reading.values.is_empty() {
                    let at = segments.partition_point(|s| s.header.seq < self.place.seq);
                    let shift_ms = segments.get(at).map_or(0, |s| s.header.shift_ms);
                    return Some(reading.at_ms.saturating_add(shift_ms));
                }
                if let Some(next) = expansion.next() {
                    *reading = known(next, numbers, losses);
                } else {
                    self.place = Place { offset: reader.offset, part: 0, ..self.place };
                    self.open.as_mut()?.record = None;
                }
                continue;
            }
            self.advance(room, segments, dictionary, losses)?;
        }
    }

    /// Reads one more record, of the next segment where this one ends.
    fn advance(
        &mut self,
        room: &Room,
        segments: &VecDeque<Segment>,
        dictionary: &mut Dictionary,
        losses: &mut Losses,
    ) -> Option<()> {
        let at = segments.partition_point(|segment| segment.header.seq < self.place.seq);
        let segment = segments.get(at)?;
        if segment.header.seq != self.place.seq {
            *self = Self::at(Place::start_of(segment.header.seq));
        }
        let header = &segment.header;
        let open = self.open.get_or_insert_with(|| Open::at_start(segment));
        let step_ms = header.step_ms;
        if open.reader.offset < segment.used {
            let begin = open.reader.offset;
            match open.reader.next(room, &segment.slot) {
                Some(Record::Entry(entry)) => {
                    open.numbers.push(dictionary.adopt(&entry));
                    open.expander.define(Kind::from_number(entry.kind).unwrap_or(Kind::Unknown));
                    return Some(());
                }
                Some(Record::Piece(piece)) => {
                    let expansion = open.expander.expand(piece, step_ms);
                    if begin >= self.place.offset {
                        let part = if begin == self.place.offset { self.place.part } else { 0 };
                        self.place = Place { offset: begin, part, ..self.place };
                        open.record = Some(passed_over(expansion, part, &open.numbers, losses));
                    }
                    return Some(());
                }
                // The disk no longer reads what it has written: the rest of the segment is lost.
                None => {
                    losses.dropped += 1;
                    open.reader.offset = segment.used;
                }
            }
        }
        let next = segments.get(at + 1)?;
        *self = Self::at(Place::start_of(next.header.seq));
        Some(())
    }

    /// Samples of a segment from the cursor on.
    pub(super) fn left_in(&self, room: &Room, segment: &Segment) -> u64 {
        let mut reader = Reader::at_start(&segment.header);
        let mut left = 0;
        loop {
            let begin = reader.offset;
            match reader.next(room, &segment.slot) {
                Some(Record::Piece(piece)) if begin >= self.place.offset => {
                    left += piece.values.len() as u64;
                }
                Some(_) => {}
                None => return left,
            }
        }
    }
}

impl Open {
    fn at_start(segment: &Segment) -> Self {
        Self {
            reader: Reader::at_start(&segment.header),
            expander: Expander::default(),
            numbers: Vec::new(),
            boot_id: segment.header.boot_id,
            record: None,
        }
    }
}

/// A reading in the dictionary's numbers; a series that found the dictionary full is left out.
fn known(mut reading: Reading, numbers: &[Option<u32>], losses: &mut Losses) -> Reading {
    let before = reading.values.len();
    reading.values.retain_mut(|(id, _)| {
        let number = usize::try_from(*id).ok().and_then(|at| numbers.get(at).copied().flatten());
        *id = number.unwrap_or(*id);
        number.is_some()
    });
    losses.dropped += (before - reading.values.len()) as u64;
    reading
}

/// The readings of a record after so many samples.
fn passed_over(
    mut expansion: Expansion,
    mut part: usize,
    numbers: &[Option<u32>],
    losses: &mut Losses,
) -> (Expansion, Reading) {
    while let Some(next) = expansion.next() {
        let mut reading = known(next, numbers, losses);
        if reading.values.len() > part {
            reading.values.drain(..part);
            return (expansion, reading);
        }
        part -= reading.values.len();
    }
    (expansion, Reading { at_ms: 0, values: Vec::new() })
}
