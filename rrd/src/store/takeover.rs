//! Taking over: which column goes to a new series when the instance has all it may have.
//!
//! What the former series kept is added to the two of its metric that [`super::other`] names. Where these
//! are not there yet, they have columns of series that go in the same way: nothing grows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::grant::GrantRequest;
use super::instance::{Form, Growth, Index, Instance, block_of};
use super::keys::Key;
use super::other::{is_other, others};
use super::places::Places;
use super::state::State;
use super::{Store, lock};
use crate::file::Catalogue;
use crate::{Cell, ChangeError, Column, GrantError, Labels, MAX_COLUMNS, Timestamp};

/// How many series an instance may have, and what becomes of new ones beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Series at most; never more than [`MAX_COLUMNS`].
    pub most: usize,
    /// Beyond that a new series takes the column of the one silent longest, if it has been so for
    /// this long in journal time; what that one kept is added to `other:METRIC:avg` and
    /// `other:METRIC:count`. [`u64::MAX`] is never.
    pub reuse_after_ms: u64,
    /// Bytes by which the archive may grow.
    pub bytes: u64,
}

impl Room {
    /// A day: a machine that is off for the night finds its series again.
    pub const REUSE_AFTER_MS: u64 = 86_400_000;
}

impl Default for Room {
    fn default() -> Self {
        Self { most: MAX_COLUMNS, reuse_after_ms: Self::REUSE_AFTER_MS, bytes: u64::MAX }
    }
}

/// Silent series of one metric that must go together where it has no columns for what they kept: one
/// for the new series, and two for these.
const FIRST_TO_GO: usize = 3;

/// A series that another may take the place of.
#[derive(Clone, Debug)]
pub(super) struct Silent {
    heard: Timestamp,
    pub(super) index: u32,
    pub(super) generation: u32,
    pub(super) key: Arc<Key>,
    /// Its metric, by number.
    family: usize,
}

impl Silent {
    pub(super) fn column(&self) -> Column {
        Column { index: self.index, generation: self.generation }
    }
}

/// The silent series of one metric.
#[derive(Debug)]
struct Family {
    /// The two series that take what they kept.
    others: [Labels; 2],
    /// These are there.
    has_others: bool,
    /// Silent series left; 0 once they are known not to be enough.
    left: usize,
}

/// A column for what series have kept whose place others take.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) labels: Labels,
    pub(super) column: Column,
    pub(super) cell: Cell,
}

/// Series silent for long enough, the longest first.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    silent: Vec<Silent>,
    families: Vec<Family>,
}

impl Candidates {
    /// Those of an instance at `now`. One that never had a reading may just have been granted, and one that
    /// the request names is not silent any more.
    pub(super) fn of(
        state: &State,
        index: &Index,
        request: &GrantRequest<'_>,
        (now, room): (Timestamp, Room),
    ) -> Self {
        let wanted: HashSet<_> =
            request.series.iter().map(|series| series.labels.to_key()).collect();
        let latest = now.plus_millis(-i64::try_from(room.reuse_after_ms).unwrap_or(i64::MAX));
        let (mut found, mut numbers) = (Self::default(), HashMap::new());
        for series in state.all_series() {
            let (column, heard) = (series.column(), series.head.heard());
            let is_silent = !series.head.is_unborn() && heard <= latest;
            // A grant that is not applied yet may have given the column away.
            let is_there = is_silent && index.column(series.key) == Some(column);
            let bytes = series.key.bytes();
            if !is_there || wanted.contains(bytes) || is_other(bytes) {
                continue;
            }
            let labels = Labels::from_key(bytes).ok();
            let kind = series.class.definition.kind;
            let Some(others) = labels.and_then(|labels| others(&labels, kind)) else { continue };
            let others = others.map(|(_, labels)| labels);
            let number = *numbers.entry(others[0].to_key()).or_insert(found.families.len());
            if number == found.families.len() {
                let has_others = others.iter().all(|one| index.get(&one.to_key()).is_some());
                found.families.push(Family { others, has_others, left: 0 });
            }
            found.families[number].left += 1;
            let (Column { index, generation }, key) = (column, Arc::clone(series.key));
            found.silent.push(Silent { heard, index, generation, key, family: number });
        }
        found.silent.sort_unstable_by_key(|one| (one.heard, one.index));
        found
    }

    fn family(&self, place: usize) -> &Family {
        &self.families[self.silent[place].family]
    }

    fn may_go(&self, place: usize) -> bool {
        let family = self.family(place);
        family.has_others || family.left >= FIRST_TO_GO
    }

    /// The others of its metric, in order.
    fn siblings(&self, place: usize) -> impl Iterator<Item = usize> {
        let family = self.silent[place].family;
        (0..self.silent.len())
            .filter(move |&other| other != place && self.silent[other].family == family)
    }

    fn remove(&mut self, place: usize) -> Silent {
        let silent = self.silent.remove(place);
        self.families[silent.family].left -= 1;
        silent
    }
}

impl Places<'_> {
    /// The column of the series that has been silent longest, of those with this cell, room for the key,
    /// and columns for what they kept.
    pub(super) fn take_over(&mut self, cell: Cell, key: &[u8]) -> Option<Column> {
        let mut all = std::mem::take(&mut self.candidates);
        let column = (0..all.silent.len()).find_map(|place| {
            let fits =
                all.may_go(place) && self.fits(&all.silent[place], Some(cell), key).is_some();
            fits.then(|| self.take(&mut all, place, (cell, key)))?
        });
        self.candidates = all;
        column
    }

    /// Takes this one's column, and two more where what it kept has none; nothing where they do not fit.
    fn take(
        &mut self,
        all: &mut Candidates,
        place: usize,
        (cell, key): (Cell, &[u8]),
    ) -> Option<Column> {
        let before = self.used.clone();
        let column = self.give(&all.silent[place], Some(cell), key)?;
        let mut gone = vec![place];
        if !all.family(place).has_others {
            let mut siblings = all.siblings(place);
            let mut others = Vec::new();
            for labels in &all.family(place).others {
                let key = labels.to_key();
                let given = siblings
                    .find_map(|other| Some((other, self.give(&all.silent[other], None, &key)?)));
                let Some((other, column)) = given else { break };
                gone.push(other);
                let cell = self.cell_of(column);
                others.push(Other { labels: labels.clone(), column, cell });
            }
            drop(siblings);
            let family = &mut all.families[all.silent[place].family];
            if others.len() < family.others.len() {
                family.left = 0;
                self.used = before;
                return None;
            }
            family.has_others = true;
            self.others.append(&mut others);
        }
        gone.sort_unstable();
        self.taken.extend(gone.into_iter().rev().map(|place| all.remove(place)));
        Some(column)
    }

    /// The block of a column that a series with this cell and key may have after another, and how full it is
    /// without that one.
    fn fits(
        &self,
        former: &Silent,
        cell: Option<Cell>,
        key: &[u8],
    ) -> Option<(usize, super::instance::Used)> {
        let (number, block) = block_of(self.layout, former.index)?;
        let mut used = *self.used.get(number)?;
        used.text = used.text.saturating_sub(Catalogue::entry_len(former.key.bytes()));
        let is_of = cell.is_none_or(|cell| self.is_of(block, cell));
        (is_of && used.has_text(block, key)).then_some((number, used))
    }

    fn give(&mut self, former: &Silent, cell: Option<Cell>, key: &[u8]) -> Option<Column> {
        let (number, used) = self.fits(former, cell, key)?;
        self.used[number] = used;
        self.used[number].add(0, key);
        Some(Column { index: former.index, generation: former.generation + 1 })
    }

    fn cell_of(&self, column: Column) -> Cell {
        match block_of(self.layout, column.index) {
            Some((_, block)) if !self.all_f64 => block.cell,
            _ => Cell::F64,
        }
    }
}

impl Instance {
    /// True where what series kept can be added to others: no change of archives is under way, not too many
    /// wait for a round, and the file that the round writes has room beside this one.
    pub(super) fn may_take_over(&self, growth: &Growth, room: Room) -> bool {
        if room.reuse_after_ms == u64::MAX {
            return false;
        }
        let state = lock(&self.state);
        let is_other = growth.asked.as_ref().is_some_and(|a| a.policy != state.form.policy);
        let is_under_way = growth.asked.is_some() || state.former.is_some();
        let is_changing = state.former.as_ref().is_some_and(|former| former.folds().is_empty());
        !is_other
            && !is_changing
            && !state.has_most_folds()
            && (is_under_way || self.file_len() <= room.bytes)
    }
}

impl Store {
    /// Makes room for the file that a round is to write; `None` where it is there.
    pub(super) fn make_room_to_fold<E>(
        &self,
        instance: &Instance,
        growth: &Growth,
    ) -> Result<Option<Arc<Form>>, GrantError<E>> {
        if growth.asked.is_some() || lock(&instance.state).former.is_some() {
            return Ok(None);
        }
        match self.make_room_of(instance, instance.form()) {
            Ok(form) => Ok(Some(form)),
            Err(ChangeError::DiskFull { instance, needed }) => {
                Err(GrantError::DiskFull { instance, needed })
            }
            Err(ChangeError::Disk { instance, reason }) => {
                Err(GrantError::Disk { instance, reason })
            }
            Err(ChangeError::Append(refused)) => Err(GrantError::Append(refused)),
            Err(_) => Err(GrantError::Leaving(instance.id)),
        }
    }
}
