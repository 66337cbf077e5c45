//! Places: which column a new series gets, and which blocks must be added for it.

use std::collections::BTreeMap;

use super::instance::{Used, block_of};
use super::takeover::{Candidates, Other, Silent};
use crate::file::{Block, Catalogue, FIRST_BLOCK_AT, MOST_BLOCKS};
use crate::size::block_width;
use crate::{Cell, Column, MAX_COLUMNS, Policy, Refusal};

/// Free columns: those of the blocks there are, then those of blocks to be added.
pub(super) struct Places<'a> {
    pub(super) policy: &'a Policy,
    /// A change that is under way widens the cells of all blocks.
    pub(super) all_f64: bool,
    pub(super) layout: &'a [Block],
    pub(super) used: Vec<Used>,
    pub(super) blocks: Vec<Block>,
    /// Columns of dropped series, with their generation.
    pub(super) free: BTreeMap<u32, u32>,
    /// By cell: series that come together and have no place yet.
    pub(super) coming: Coming,
    /// Series there may be.
    pub(super) most: usize,
    /// Series that others may take the place of.
    pub(super) candidates: Candidates,
    /// Those whose place has been taken.
    pub(super) taken: Vec<Silent>,
    /// Columns for what those have kept.
    pub(super) others: Vec<Other>,
}

/// How many series come together, by their cell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coming {
    narrow: usize,
    wide: usize,
}

impl Coming {
    pub(super) const fn of(&mut self, cell: Cell) -> &mut usize {
        match cell {
            Cell::F32 => &mut self.narrow,
            Cell::F64 => &mut self.wide,
        }
    }

    /// The others of them get no place.
    pub(super) fn at_most(self, room: usize) -> Self {
        Self { narrow: self.narrow.min(room), wide: self.wide.min(room) }
    }
}

impl<'a> Places<'a> {
    /// All there is in a new file.
    pub(super) fn new(policy: &'a Policy) -> Self {
        Self {
            policy,
            all_f64: false,
            layout: &[],
            used: Vec::new(),
            blocks: Vec::new(),
            free: BTreeMap::new(),
            coming: Coming::default(),
            most: MAX_COLUMNS,
            candidates: Candidates::default(),
            taken: Vec::new(),
            others: Vec::new(),
        }
    }

    pub(super) fn place(
        &mut self,
        count: usize,
        cell: Cell,
        key: &[u8],
    ) -> Result<Column, Refusal> {
        if key.len() > Catalogue::LONGEST_KEY {
            return Err(Refusal::KeyTooLong);
        }
        if count >= self.most {
            return self.take_over(cell, key).ok_or(Refusal::TooManySeries);
        }
        if let Some(column) = self.reuse(cell, key) {
            return Ok(column);
        }
        let mut all = self.layout.iter().chain(&self.blocks).zip(&self.used);
        let number = match all
            .position(|(block, used)| self.is_of(block, cell) && used.has_room(block, key))
        {
            Some(number) => number,
            None => self.add_block(cell)?,
        };
        let first = self.block(number).first_column;
        let used = &mut self.used[number];
        let position = used.columns;
        used.add(position, key);
        Ok(Column { index: first + position, generation: 1 })
    }

    /// The first column of a dropped series that has the cell, and room for the key.
    fn reuse(&mut self, cell: Cell, key: &[u8]) -> Option<Column> {
        let fits = |(&index, &generation): (&u32, &u32)| {
            let (number, block) = block_of(self.layout, index)?;
            let fits = self.is_of(block, cell) && self.used.get(number)?.has_text(block, key);
            fits.then_some((number, Column { index, generation: generation + 1 }))
        };
        let (number, column) = self.free.iter().find_map(fits)?;
        self.free.remove(&column.index);
        self.used[number].add(0, key);
        Some(column)
    }

    pub(super) fn is_of(&self, block: &Block, cell: Cell) -> bool {
        self.all_f64 || block.cell == cell
    }

    pub(super) fn block(&self, number: usize) -> &Block {
        self.layout.get(number).unwrap_or_else(|| &self.blocks[number - self.layout.len()])
    }

    fn add_block(&mut self, cell: Cell) -> Result<usize, Refusal> {
        let all = || self.layout.iter().chain(&self.blocks);
        let number = all().count();
        if number == MOST_BLOCKS {
            return Err(Refusal::TooManySeries);
        }
        let of_cell = all().filter(|block| self.is_of(block, cell));
        let coming = *self.coming.clone().of(cell);
        let width = block_width(&of_cell.map(|block| block.width), coming.max(1));
        let last = all().last();
        let offset = last.map_or(FIRST_BLOCK_AT, Block::end);
        let first_column = last.map_or(0, |block| block.columns().end);
        self.blocks.push(Block::plan(self.policy, offset, first_column, width, cell));
        self.used.push(Used::default());
        Ok(number)
    }
}
