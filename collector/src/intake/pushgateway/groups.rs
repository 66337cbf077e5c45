//! Groups of pushed series: their last values, kept until their time is over.

mod kept;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

use rrd::{Kind, Timestamp};
use thiserror::Error;

use crate::exposition::{Page, Series};
use crate::foreign::Sorter;
use crate::registry::TokenId;
use crate::scrape::page::Hand;

/// Groups kept: ten thousand jobs that push on their own.
const GROUPS: usize = 10_000;
/// Series of all groups.
const SERIES: usize = 200_000;
/// Bytes of the texts of all series.
const BYTES: usize = 32 << 20;

/// The gauge that says when a group was pushed last.
const PUSHED_AT: &str = "push_time_seconds";

/// Who pushed a group, and its labels, sorted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) relay: Option<TokenId>,
    pub(super) labels: Vec<(String, String)>,
}

impl Name {
    /// The value of a label; empty when the group has none.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(label, _)| label == name).map_or("", |(_, value)| value)
    }
}

/// How long a push is good for, and what it replaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) at: Timestamp,
    pub(super) until: Timestamp,
    /// All of the group, or only families that the push has too.
    pub(super) replaces_all: bool,
}

/// Why a push is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("as many pushed series are kept as fit; delete groups, or push with a shorter ttl")]
pub(super) struct Full;

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: HashMap<Name, Group>,
    series: usize,
    bytes: usize,
    /// Where each has its file, so that a restart does not forget it.
    folder: Option<PathBuf>,
}

/// One group.
#[derive(Debug)]
struct Group {
    families: BTreeMap<Box<str>, Vec<Pushed>>,
    pushed_at: Timestamp,
    until: Timestamp,
    /// When its values were handed on last. What follows is later, or it would count as the same.
    handed_at: Timestamp,
}

/// One series of a group.
#[derive(Debug)]
struct Pushed {
    text: Box<str>,
    kind: Option<Kind>,
    value: f64,
}

impl Groups {
    /// Keeps a page in place of what it replaces, and hands what changed to `sorter`: the values of
    /// the page and the ends of what is gone.
    pub(super) fn push(
        &mut self,
        name: &Name,
        page: &Page<'_>,
        terms: Terms,
        sorter: &mut Sorter<'_>,
    ) -> Result<(), Full> {
        let mut pushed: BTreeMap<Box<str>, Vec<Pushed>> = BTreeMap::new();
        for sample in &page.samples {
            let family = pushed.entry(sample.family.into()).or_default();
            let text = sample.series.text().into();
            family.push(Pushed { text, kind: sample.kind, value: sample.value });
        }
        let bytes: usize = page.samples.iter().map(|sample| sample.series.text().len()).sum();
        let is_new = !self.members.contains_key(name);
        let is_full = self.series + page.samples.len() > SERIES || self.bytes + bytes > BYTES;
        if is_full || (is_new && self.members.len() >= GROUPS) {
            return Err(Full);
        }
        let group = self.members.entry(name.clone()).or_insert_with(|| Group {
            families: BTreeMap::new(),
            pushed_at: terms.at,
            until: terms.until,
            handed_at: Timestamp::MIN,
        });
        let at = group.next(terms.at);
        let replaced: Vec<Vec<Pushed>> = if terms.replaces_all {
            std::mem::take(&mut group.families).into_values().collect()
        } else {
            pushed.keys().filter_map(|family| group.families.remove(family)).collect()
        };
        let replaced: Vec<Pushed> = replaced.into_iter().flatten().collect();
        let here: HashSet<&str> = page.samples.iter().map(|one| one.series.text()).collect();
        let mut hand = Hand::of(&name.labels, false, (at, sorter));
        for gone in replaced.iter().filter(|one| !here.contains(one.text.as_ref())) {
            gone.hand(f64::NAN, &mut hand);
        }
        for one in pushed.values().flatten() {
            one.hand(one.value, &mut hand);
        }
        hand.own(PUSHED_AT, terms.at.as_secs_f64());
        group.families.extend(pushed);
        (group.pushed_at, group.until) = (terms.at, terms.until);
        self.series = self.series + page.samples.len() - replaced.len();
        self.bytes = self.bytes + bytes - byte_count(&replaced);
        self.save(name);
        Ok(())
    }

    /// Forgets a group and hands the ends of its series to `sorter`. False when there is none.
    pub(super) fn end(&mut self, name: &Name, at: Timestamp, sorter: &mut Sorter<'_>) -> bool {
        let Some(mut group) = self.remove(name) else { return false };
        let at = group.next(at);
        let mut hand = Hand::of(&name.labels, false, (at, sorter));
        for one in group.families.values().flatten() {
            one.hand(f64::NAN, &mut hand);
        }
        hand.own(PUSHED_AT, f64::NAN);
        true
    }

    /// Forgets a group and says nothing.
    pub(super) fn forget(&mut self, name: &Name) {
        self.remove(name);
    }

    fn remove(&mut self, name: &Name) -> Option<Group> {
        let group = self.members.remove(name)?;
        self.unsave(name);
        for family in group.families.values() {
            self.series -= family.len();
            self.bytes -= byte_count(family);
        }
        Some(group)
    }

    /// Hands a group's values to `sorter` once more, or their end when its time is over.
    pub(super) fn turn(&mut self, name: &Name, at: Timestamp, sorter: &mut Sorter<'_>) {
        let Some(group) = self.members.get_mut(name) else { return };
        let until = group.until;
        if until <= at {
            self.end(name, until, sorter);
            return;
        }
        let at = group.next(at);
        let mut hand = Hand::of(&name.labels, false, (at, sorter));
        for one in group.families.values().flatten() {
            one.hand(one.value, &mut hand);
        }
        hand.own(PUSHED_AT, group.pushed_at.as_secs_f64());
    }

    /// Every group, when it was pushed, and how many series it has.
    pub(super) fn list(&self) -> Vec<(Name, Timestamp, usize)> {
        let listed = self.members.iter().map(|(name, group)| {
            let count = group.families.values().map(Vec::len).sum();
            (name.clone(), group.pushed_at, count)
        });
        let mut listed: Vec<_> = listed.collect();
        listed.sort();
        listed
    }
}

impl Group {
    /// The moment to hand values on under, when it is `at`.
    fn next(&mut self, at: Timestamp) -> Timestamp {
        self.handed_at = at.max(self.handed_at.plus_millis(1));
        self.handed_at
    }
}

impl Pushed {
    fn hand(&self, value: f64, hand: &mut Hand<'_, '_>) {
        // It was a series when it was read.
        if let Ok(series) = Series::read(&self.text) {
            hand.series(series, value, self.kind);
        }
    }
}

fn byte_count(family: &[Pushed]) -> usize {
    family.iter().map(|one| one.text.len()).sum()
}
