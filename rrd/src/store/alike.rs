//! Numbers by column that are nearly always the same in all of them, and then take no room.

use std::sync::Arc;

/// One value a column. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Alike<T> {
    len: usize,
    /// What most columns have.
    usual: T,
    others: Others<T>,
}

#[derive(Clone, Debug)]
enum Others<T> {
    None,
    /// Those that differ, in order of column.
    Few(Arc<[(u32, T)]>),
    /// All values: too many differ.
    Each(Arc<[T]>),
}

/// An exception takes twice as much as a value in the list of all, and a search.
const MOST_EXCEPTIONS_IN: usize = 4;

impl<T: Copy + PartialEq> Alike<T> {
    /// Of no column; `usual` is what those to come are likely to have.
    pub(crate) const fn none(usual: T) -> Self {
        Self { len: 0, usual, others: Others::None }
    }

    /// These values, in order of column; `None` where there are none.
    fn of(values: &[T]) -> Option<Self> {
        // Whatever more than half of them have is left over when unlike ones cancel each other out.
        let mut votes = 0_usize;
        let mut usual = None;
        for value in values {
            match usual {
                Some(chosen) if chosen == *value => votes += 1,
                Some(_) if votes > 0 => votes -= 1,
                _ => (usual, votes) = (Some(*value), 1),
            }
        }
        let usual = usual?;
        let is_other = |value: &T| *value != usual;
        let count = values.iter().filter(|value| is_other(value)).count();
        let others = match count {
            0 => Others::None,
            _ if count > values.len() / MOST_EXCEPTIONS_IN => Others::Each(values.into()),
            _ => {
                let others = (0..).zip(values.iter().copied());
                Others::Few(others.filter(|(_, value)| is_other(value)).collect())
            }
        };
        Some(Self { len: values.len(), usual, others })
    }

    /// Has these values, in order of column.
    pub(crate) fn put(&mut self, values: &[T]) {
        *self = Self::of(values).unwrap_or(Self::none(self.usual));
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The value of a column, if there is such a column.
    #[inline]
    pub(crate) fn get(&self, column: usize) -> Option<T> {
        let is_there = column < self.len;
        is_there.then(|| match &self.others {
            Others::None => self.usual,
            Others::Few(few) => self.among(few, column),
            Others::Each(values) => values.get(column).map_or(self.usual, |value| *value),
        })
    }

    fn among(&self, few: &[(u32, T)], column: usize) -> T {
        let found = few.binary_search_by(|(known, _)| (*known as usize).cmp(&column));
        found.map_or(self.usual, |at| few[at].1)
    }

    /// All values, in order of column.
    pub(crate) fn to_vec(&self) -> Vec<T> {
        match &self.others {
            Others::Each(values) => values.to_vec(),
            others => {
                let mut values = vec![self.usual; self.len];
                if let Others::Few(few) = others {
                    few.iter().for_each(|(column, value)| values[*column as usize] = *value);
                }
                values
            }
        }
    }

    /// Room for so many columns; new ones have this value.
    pub(crate) fn grow(&mut self, len: usize, value: T) {
        if len <= self.len {
            return;
        }
        if self.len == 0 {
            *self = Self { len, ..Self::none(value) };
        } else if value == self.usual && !matches!(self.others, Others::Each(_)) {
            self.len = len;
        } else {
            let mut values = self.to_vec();
            values.resize(len, value);
            self.put(&values);
        }
    }

    /// Changes the value of a column there is. After many changes, [`Alike::settle`].
    pub(crate) fn set(&mut self, column: usize, value: T) {
        if self.get(column).is_none_or(|known| known == value) {
            return;
        }
        if !matches!(self.others, Others::Each(_)) {
            self.others = Others::Each(self.to_vec().into());
        }
        if let Others::Each(values) = &mut self.others {
            Arc::make_mut(values)[column] = value;
        }
    }

    /// Looks anew for what most columns have.
    pub(crate) fn settle(&mut self) {
        if let Others::Each(values) = &self.others {
            self.put(&Arc::clone(values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(alike: &Alike<i64>, values: &[i64]) {
        assert_eq!((alike.to_vec(), alike.len()), (values.to_vec(), values.len()));
        for (column, value) in values.iter().enumerate() {
            assert_eq!(alike.get(column), Some(*value), "column {column}");
        }
        assert_eq!(alike.get(values.len()), None);
    }

    #[test]
    fn values_are_kept_whatever_most_of_them_are() {
        let mut alike = Alike::none(7);
        check(&alike, &[]);
        for values in [
            vec![1; 9],
            vec![1, 2, 3, 4],
            vec![5, 1, 1, 1, 1, 1, 6, 1, 1],
            vec![1, 1, 1, 1, 1, 1, 1, 1, 2],
            vec![2, 3, 1, 1, 1, 1, 1, 1, 1],
            vec![3],
            vec![],
        ] {
            alike.put(&values);
            check(&alike, &values);
        }
    }

    #[test]
    fn what_is_alike_takes_no_room() {
        let mut alike = Alike::none(0);
        alike.grow(100, 0);
        for column in 0..100 {
            alike.set(column, 5);
        }
        assert!(matches!(alike.others, Others::Each(_)));
        alike.settle();
        assert!(matches!(alike.others, Others::None));
        alike.set(40, 6);
        alike.settle();
        assert!(matches!(&alike.others, Others::Few(few) if few.len() == 1));
        alike.grow(101, 0);
        let mut values = vec![5; 100];
        values[40] = 6;
        values.push(0);
        check(&alike, &values);
    }

    #[test]
    fn a_clone_stays_as_it_was() {
        let mut alike = Alike::none(0);
        alike.grow(3, 0);
        alike.set(1, 1);
        let before = alike.clone();
        alike.set(2, 2);
        alike.set(3, 9);
        check(&before, &[0, 1, 0]);
        check(&alike, &[0, 1, 2]);
    }
}
