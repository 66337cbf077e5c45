//! Missing steps: how many of the closed steps of open rows are not known.
//!
//! Nearly all steps are known, and then nothing here is looked at. How many are known follows: what is not
//! missing of the steps that have closed since the row began.

use super::phase::Grid;
use crate::calendar::RowWidth;

/// By place: that of a column times the archives but the finest, and the how manieth of those.
///
/// Counts wrap around: a record may say that more are known than its row has begun, and is given back as
/// it was.
#[derive(Clone, Debug)]
pub(crate) enum Missing {
    /// Where no row has more steps than two bytes can count.
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

/// Those of one column.
#[derive(Debug)]
pub(crate) struct MissingMut<'a> {
    pub(crate) all: &'a mut Missing,
    /// The place of its first.
    pub(crate) first: usize,
}

/// Those of one column, to be read.
#[derive(Clone, Copy)]
pub(crate) struct MissingRef<'a> {
    pub(crate) all: &'a Missing,
    pub(crate) first: usize,
}

impl Missing {
    /// Of no column.
    pub(crate) fn none(grid: &Grid) -> Self {
        let is_narrow = |width: &RowWidth| u16::try_from(width.most_steps()).is_ok();
        if grid.widths().iter().all(is_narrow) {
            Self::Narrow(Vec::new())
        } else {
            Self::Wide(Vec::new())
        }
    }

    /// Room for so many, and no more; none of the new ones is missing.
    pub(crate) fn grow(&mut self, len: usize) {
        match self {
            Self::Narrow(counts) => grow(counts, len),
            Self::Wide(counts) => grow(counts, len),
        }
    }
}

fn grow<T: Copy + Default>(counts: &mut Vec<T>, len: usize) {
    counts.reserve_exact(len.saturating_sub(counts.len()));
    counts.resize(len.max(counts.len()), T::default());
}

impl MissingRef<'_> {
    /// How many are known of a row of which so many steps have closed.
    #[expect(clippy::cast_possible_truncation, reason = "counts wrap around")]
    pub(super) fn known(self, index: usize, elapsed: u32) -> u32 {
        let place = self.first + index;
        match self.all {
            Missing::Narrow(counts) => {
                let missing = counts.get(place).copied().unwrap_or_default();
                u32::from((elapsed as u16).wrapping_sub(missing))
            }
            Missing::Wide(counts) => {
                elapsed.wrapping_sub(counts.get(place).copied().unwrap_or_default())
            }
        }
    }
}

impl MissingMut<'_> {
    /// As [`MissingRef::known`].
    pub(super) fn known(&self, index: usize, elapsed: u32) -> u32 {
        MissingRef { all: self.all, first: self.first }.known(index, elapsed)
    }

    /// Has this many known of a row of which so many steps have closed.
    pub(super) fn know(&mut self, index: usize, (known, elapsed): (u32, u32)) {
        self.set(index, elapsed.wrapping_sub(known));
    }

    /// So many are missing.
    #[expect(clippy::cast_possible_truncation, reason = "counts wrap around")]
    pub(super) fn set(&mut self, index: usize, count: u32) {
        let place = self.first + index;
        match self.all {
            Missing::Narrow(counts) => put(counts, place, count as u16),
            Missing::Wide(counts) => put(counts, place, count),
        }
    }

    /// So many more are missing.
    pub(super) fn add(&mut self, index: usize, count: u32) {
        // What is known of nothing is what is missing, with its sign turned.
        let missing = self.known(index, 0).wrapping_neg();
        self.set(index, missing.wrapping_add(count));
    }
}

fn put<T>(counts: &mut [T], place: usize, count: T) {
    if let Some(known) = counts.get_mut(place) {
        *known = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    #[test]
    fn counts_are_as_wide_as_the_rows_need() {
        for (policy, most) in [
            ("1m:1h,1d:10d", u32::from(u16::MAX)),
            ("1s:1m,1d:10d", u32::MAX),
            ("1s:1m,1d@Europe/Paris:10d", u32::MAX),
        ] {
            let mut all = Missing::none(&Grid::of(Policy::parse(policy).unwrap().archives()));
            all.grow(4);
            let mut some = MissingMut { all: &mut all, first: 2 };
            for (known, elapsed) in [(0, 0), (7, 7), (0, 7), (5, 7), (7, 5), (0, most), (most, 0)] {
                some.know(1, (known, elapsed));
                assert_eq!(some.known(1, elapsed), known, "{policy}, {known} of {elapsed}");
                assert_eq!(some.known(0, elapsed), elapsed, "{policy}, its neighbour");
            }
            some.know(0, (5, 7));
            some.add(0, 3);
            assert_eq!(some.known(0, 10), 5, "{policy}");
        }
    }
}
