//! Known steps of the rows of a page: nearly always as many in all of them.

/// By place. A row that has not come has as many as the others.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What the first row has.
    usual: Option<u16>,
    /// Those that have another count, in order of place.
    others: Vec<(u16, u16)>,
}

impl Known {
    /// Notes the count of a row; whoever puts rows here has seen that it is below 65,536.
    #[inline]
    pub(super) fn put(&mut self, place: usize, count: u32) {
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let usual = *self.usual.get_or_insert(count);
        if count != usual || !self.others.is_empty() {
            self.put_other(place, count);
        }
    }

    #[cold]
    fn put_other(&mut self, place: usize, count: u16) {
        // Places are given to at most 32,767 columns.
        let place = u16::try_from(place).unwrap_or(u16::MAX);
        match self.others.binary_search_by_key(&place, |(known, _)| *known) {
            Ok(at) => self.others[at].1 = count,
            Err(_) if self.usual == Some(count) => {}
            Err(at) => {
                if self.others.len() == self.others.capacity() {
                    self.others.reserve_exact(LEAST_GROWTH.max(self.others.len() / 4));
                }
                self.others.insert(at, (place, count));
            }
        }
    }

    #[inline]
    pub(super) fn get(&self, place: usize) -> u32 {
        let found = self.others.binary_search_by_key(&place, |(known, _)| usize::from(*known));
        let count = found.map_or(self.usual, |at| Some(self.others[at].1));
        count.map_or(0, u32::from)
    }
}

/// Room is made by a quarter, at least for so many.
const LEAST_GROWTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_the_count_that_was_put() {
        let mut known = Known::default();
        assert_eq!(known.get(0), 0);
        for (place, count) in [(3, 5), (0, 5), (9, 4), (1, 0), (2, 5), (9, 5), (1, 3), (12, 65_535)]
        {
            known.put(place, count);
            assert_eq!(known.get(place), count, "place {place}");
        }
        let all: Vec<u32> = (0..13).map(|place| known.get(place)).collect();
        assert_eq!(all, [5, 3, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 65_535]);
        assert_eq!(known.others.len(), 3);
    }
}
