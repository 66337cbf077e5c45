//! Rows of a round on their way into the file: archive by archive, as they lie there and as they wait.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::anchors::push_anchors;
use super::column_rows::{ColumnRows, RowSource, RunRows};
use super::round::{ColumnWork, Work};
use super::state::NO_ROW;
use crate::Column;
use crate::file::{Block, Patches, Ring, Shape};
use crate::series::Run;
use crate::waiting::{StraightRows, Waiting, repairs_of, with_repairs};

impl Work {
    /// All rows that wait, and what counters stood at.
    pub(super) fn write_rows(&mut self, patches: &mut Patches<'_>) -> io::Result<()> {
        let mut filed_rows = self.filed.rows.to_vec();
        let checksums = Arc::make_mut(&mut self.filed.checksums);
        let mut all = Rows {
            columns: &self.columns,
            frozen: &self.frozen,
            repaired: &self.repaired,
            filed: &filed_rows,
            checksums,
            runs: Vec::new(),
        };
        for block in self.layout.iter() {
            for (archive, ring) in block.rings.iter().enumerate() {
                all.write_archive((block, archive), ring, patches)?;
            }
            all.write_anchors(block, patches)?;
        }
        for (filed, column) in filed_rows.iter_mut().zip(&self.columns) {
            if column.has_rows_after(*filed) {
                *filed = column.newest_row;
            }
        }
        self.filed.rows.put(&filed_rows);
        Ok(())
    }
}

/// What a round has of the columns of a file.
struct Rows<'a> {
    columns: &'a [ColumnWork],
    frozen: &'a [Arc<Waiting>],
    /// In order of column.
    repaired: &'a [u32],
    /// By column: the newest row in the file.
    filed: &'a [i64],
    checksums: &'a mut [u32],
    runs: Vec<Run>,
}

impl Rows<'_> {
    fn write_archive(
        &mut self,
        (block, archive): (&Block, usize),
        ring: &Ring,
        patches: &mut Patches<'_>,
    ) -> io::Result<()> {
        let [mut births, mut filed_rows, mut newest_rows] = [(); 3].map(|()| Closed::of(ring));
        for (position, index) in (0..).zip(block.columns()) {
            let place = index as usize;
            let Some(work) = self.columns.get(place) else { break };
            let filed = self.filed.get(place).copied().unwrap_or(NO_ROW);
            if !work.has_rows_after(filed) {
                continue;
            }
            let column = Column { index, generation: work.generation };
            let begin = births.newest(work.birth_row);
            let rows = ColumnRows {
                ring,
                column,
                position,
                begin,
                filed: if filed == NO_ROW { begin } else { filed_rows.newest(filed) },
                newest: newest_rows.newest(work.newest_row),
            };
            let is_repaired = self.repaired.binary_search(&index).is_ok();
            let straight = match self.frozen {
                [one] if !is_repaired => one.straight(index, work.generation, archive),
                _ => None,
            };
            let (frozen, runs) = (self.frozen, &mut self.runs);
            let mut source =
                Waits { frozen, of: (column, archive), is_repaired, straight, runs, at: None };
            let checksum = &mut self.checksums[place * block.rings.len() + archive];
            *checksum = rows.write(&mut source, *checksum, patches)?;
        }
        Ok(())
    }

    fn write_anchors(&self, block: &Block, patches: &mut Patches<'_>) -> io::Result<()> {
        for index in block.columns() {
            let Some(work) = self.columns.get(index as usize) else { break };
            if work.tells_counts {
                let waiting = self.frozen.iter().rev();
                let anchors = waiting.flat_map(|w| w.anchors(index, work.generation));
                let column = Column { index, generation: work.generation };
                push_anchors(patches, block, column, anchors)?;
            }
        }
        Ok(())
    }
}

/// The newest closed row of an archive, given that of the finest: neighbours mostly stand at the same.
struct Closed<'a> {
    ring: &'a Ring,
    last: Option<(i64, i64)>,
}

impl<'a> Closed<'a> {
    const fn of(ring: &'a Ring) -> Self {
        Self { ring, last: None }
    }

    #[inline]
    fn newest(&mut self, finest: i64) -> i64 {
        match self.last {
            Some((known, newest)) if known == finest => newest,
            _ => self.last.insert((finest, self.ring.newest(finest))).1,
        }
    }
}

/// Rows of one archive of a column as they wait.
struct Waits<'a> {
    frozen: &'a [Arc<Waiting>],
    of: (Column, usize),
    /// Late readings have changed some.
    is_repaired: bool,
    /// Nearly always.
    straight: Option<StraightRows<'a>>,
    /// All others, once they have been looked up.
    runs: &'a mut Vec<Run>,
    at: Option<usize>,
}

impl RowSource for Waits<'_> {
    fn fill(&mut self, rows: Range<i64>, shape: Shape, bytes: &mut [u8]) {
        if !self.straight.is_some_and(|straight| straight.write(rows.clone(), shape, bytes)) {
            self.fill_any(rows, shape, bytes);
        }
    }
}

impl Waits<'_> {
    #[inline(never)]
    fn fill_any(&mut self, rows: Range<i64>, shape: Shape, bytes: &mut [u8]) {
        let at = self.at.unwrap_or_else(|| {
            self.look_up();
            0
        });
        let mut rest = RunRows::from(self.runs, at);
        rest.fill(rows, shape, bytes);
        self.at = Some(rest.at());
    }

    /// All runs there are, oldest first.
    fn look_up(&mut self) {
        let (Column { index, generation }, archive) = self.of;
        self.runs.clear();
        let waiting = self.frozen.iter().rev();
        self.runs.extend(waiting.flat_map(|w| w.runs(index, generation, archive)));
        self.runs.reverse();
        if self.is_repaired {
            let frozen = self.frozen.iter().map(Arc::as_ref);
            let repairs = repairs_of(frozen, self.of.0, archive);
            *self.runs = with_repairs(std::mem::take(self.runs), &repairs);
        }
    }
}
