//! A roster: by column the key of the series that lives there, and by key its column.

use std::sync::Arc;

use super::keys::Key;

/// Who lives where in one instance. Members of a fleet have the same, and share it: [`super::keys::Keys`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    /// By column; `None` where no series lives.
    keys: Vec<Option<Arc<Key>>>,
    /// Columns that have a key, each key's once, in order of the keys' addresses.
    order: Vec<u16>,
}

impl Roster {
    /// The key of a column's series.
    pub(crate) fn key(&self, column: usize) -> Option<&Arc<Key>> {
        self.keys.get(column)?.as_ref()
    }

    /// How many keys have a column.
    pub(crate) const fn count(&self) -> usize {
        self.order.len()
    }

    /// The column of a key.
    pub(crate) fn find(&self, key: &Key) -> Option<usize> {
        self.place(key).ok().map(|place| usize::from(self.order[place]))
    }

    /// Room for so many columns.
    pub(crate) fn grow(&mut self, column_count: usize) {
        let more = column_count.saturating_sub(self.keys.len());
        if more > 0 {
            self.keys.reserve_exact(more);
            self.order.reserve_exact(column_count.saturating_sub(self.order.len()));
            self.keys.resize(column_count, None);
        }
    }

    /// Gives a column to a key. Another one's column is the latter's no more.
    pub(crate) fn set(&mut self, column: usize, key: Arc<Key>) {
        self.grow(column + 1);
        if self.keys[column].as_ref().is_some_and(|known| Arc::ptr_eq(known, &key)) {
            return;
        }
        self.clear(column);
        let number = u16::try_from(column).expect("at most 256 blocks of 64 columns");
        match self.place(&key) {
            Ok(place) => self.order[place] = number,
            Err(place) => self.order.insert(place, number),
        }
        self.keys[column] = Some(key);
    }

    /// Leaves a column without a series.
    pub(crate) fn clear(&mut self, column: usize) {
        let Some(key) = self.keys.get(column).and_then(Option::as_ref) else { return };
        if let Ok(place) = self.place(key)
            && usize::from(self.order[place]) == column
        {
            self.order.remove(place);
        }
        self.keys[column] = None;
    }

    /// Leaves all columns from this one on without a series.
    pub(crate) fn truncate(&mut self, column_count: usize) {
        (column_count..self.keys.len()).for_each(|column| self.clear(column));
        self.keys.truncate(column_count);
    }

    /// How many columns it tells of.
    pub(crate) const fn column_count(&self) -> usize {
        self.keys.len()
    }

    /// The same keys in the same columns.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let address = |key: &Option<Arc<Key>>| key.as_ref().map(Arc::as_ptr);
        self.order.len() == other.order.len()
            && self.keys.iter().map(address).eq(other.keys.iter().map(address))
    }

    /// Where among the columns that have a key this one's is, or would be.
    fn place(&self, key: &Key) -> Result<usize, usize> {
        let address = std::ptr::from_ref(key);
        self.order.binary_search_by(|&column| {
            let known = self.keys[usize::from(column)].as_ref();
            known.map(Arc::as_ptr).cmp(&Some(address))
        })
    }
}
