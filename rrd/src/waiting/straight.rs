//! Rows that wait side by side, straight into the bytes that files have: a round writes little else.

use std::ops::Range;

use super::Waiting;
use super::known::Known;
use super::lane::{Lane, Page};
use crate::Cell;
use crate::file::Shape;

/// The rows of one archive of a column, none of which is out of the ordinary.
#[derive(Clone, Copy)]
pub(crate) struct StraightRows<'a> {
    lane: &'a Lane,
    place: usize,
}

impl Waiting {
    /// The rows of one archive of a column, where all of them lie side by side with those of others.
    pub(crate) fn straight(
        &self,
        column: u32,
        generation: u32,
        archive: usize,
    ) -> Option<StraightRows<'_>> {
        let column = self.place(column, generation)?;
        let (lane, place) = self.dense.place_in(column, archive)?;
        self.chain.runs(column, archive).next().is_none().then_some(StraightRows { lane, place })
    }
}

impl StraightRows<'_> {
    /// Writes these rows as [`Shape::write`] does; false where one of them does not wait, or is kept in
    /// another way.
    pub(crate) fn write(self, rows: Range<i64>, shape: Shape, bytes: &mut [u8]) -> bool {
        let lane = self.lane;
        let first = lane.pages.partition_point(|page| page.row < rows.start);
        let has_them = usize::try_from(rows.end - rows.start)
            .ok()
            .and_then(|count| lane.pages.get(first..first.checked_add(count)?))
            .filter(|pages| pages.iter().map(|page| page.row).eq(rows));
        let Some(pages) = has_them else { return false };
        let known = lane.known.get(first..first + pages.len()).unwrap_or_default();
        debug_assert_eq!(bytes.len(), pages.len() * shape.row_len(), "room for these rows");
        let out = bytes.chunks_exact_mut(shape.row_len());
        match (shape.cell, shape.known_len) {
            _ if lane.kept.cell != shape.cell => false,
            (Cell::F32, 0) => lane.archive == 0 && self.fine(pages, out, Shape::filed_narrow),
            (Cell::F64, 0) => lane.archive == 0 && self.fine(pages, out, Shape::filed_wide),
            _ if lane.archive == 0 || lane.kept.last != shape.keeps_last => false,
            (Cell::F32, _) => self.coarse((pages, known), out, Shape::filed_narrow),
            (Cell::F64, _) => self.coarse((pages, known), out, Shape::filed_wide),
        }
    }

    #[inline]
    fn fine<'b, const N: usize>(
        self,
        pages: &[Page],
        out: impl Iterator<Item = &'b mut [u8]>,
        filed: impl Fn([u8; N]) -> Option<[u8; N]>,
    ) -> bool {
        pages.iter().zip(out).all(|(page, out)| {
            let (cells, _) = page.cells.as_chunks::<N>();
            let cell = cells.get(self.place).and_then(|cell| filed(*cell));
            cell.is_some_and(|cell| {
                out.copy_from_slice(&cell);
                true
            })
        })
    }

    #[inline]
    fn coarse<'b, const N: usize>(
        self,
        (pages, known): (&[Page], &[Known]),
        out: impl Iterator<Item = &'b mut [u8]>,
        filed: impl Fn([u8; N]) -> Option<[u8; N]>,
    ) -> bool {
        let len = self.lane.row_len;
        pages.iter().zip(known).zip(out).all(|((page, known), out)| {
            let Some(numbers) = page.cells.get(self.place * len..(self.place + 1) * len) else {
                return false;
            };
            let (room, known_room) = out.split_at_mut(numbers.len());
            let cells = numbers.as_chunks::<N>().0.iter().zip(room.as_chunks_mut::<N>().0);
            for (cell, room) in cells {
                let Some(cell) = filed(*cell) else { return false };
                *room = cell;
            }
            // As many steps as the archive's rows have fit the bytes that it has for them.
            known_room.fill(0);
            let known = known.get(self.place).to_le_bytes();
            known_room.iter_mut().zip(known).for_each(|(room, byte)| *room = byte);
            true
        })
    }
}
