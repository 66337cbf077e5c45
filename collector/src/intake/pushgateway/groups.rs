//! Groups of pushed series: their last values, kept until their time is over.

mod kept;
mod share;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;

use rrd::{Kind, Timestamp};

use crate::exposition::{Page, Series};
use crate::foreign::Sorter;
use crate::registry::TokenId;
use crate::scrape::page::Hand;
pub(super) use share::Full;
use share::{Shares, Used};

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

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: HashMap<Name, Group>,
    shares: Shares,
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
        let known = self.members.get(name);
        let goes = |family: &str| terms.replaces_all || pushed.contains_key(family);
        let gone = known.map_or(Used::default(), |group| group.size_of(goes));
        let groups = usize::from(known.is_none());
        let comes = Used { groups, series: page.samples.len(), bytes };
        self.shares.change(name.relay, gone, comes)?;
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
        // A disk may take its time, and others wait for the table of series.
        sorter.rest();
        self.save(name);
        Ok(())
    }

    /// Forgets a group, if there is one, and hands the ends of its series to `sorter`. Errors, and
    /// changes nothing, where a restart might know it again.
    pub(super) fn end(
        &mut self,
        name: &Name,
        at: Timestamp,
        sorter: &mut Sorter<'_>,
    ) -> io::Result<()> {
        if self.members.contains_key(name) {
            sorter.rest();
            self.unsave(name)?;
            self.finish(name, at, sorter);
        }
        Ok(())
    }

    fn finish(&mut self, name: &Name, at: Timestamp, sorter: &mut Sorter<'_>) {
        let Some(mut group) = self.remove(name) else { return };
        let at = group.next(at);
        let mut hand = Hand::of(&name.labels, false, (at, sorter));
        for one in group.families.values().flatten() {
            one.hand(f64::NAN, &mut hand);
        }
        hand.own(PUSHED_AT, f64::NAN);
    }

    /// Forgets a group and says nothing. A file of it that comes back is forgotten again.
    pub(super) fn forget(&mut self, name: &Name) {
        self.discard(name);
        self.remove(name);
    }

    fn remove(&mut self, name: &Name) -> Option<Group> {
        let group = self.members.remove(name)?;
        self.shares.remove(name.relay, Used { groups: 1, ..group.size_of(|_| true) });
        Some(group)
    }

    /// Hands a group's values to `sorter` once more, or their end when its time is over.
    pub(super) fn turn(&mut self, name: &Name, at: Timestamp, sorter: &mut Sorter<'_>) {
        let Some(group) = self.members.get_mut(name) else { return };
        let until = group.until;
        if until <= at {
            sorter.rest();
            self.discard(name);
            self.finish(name, until, sorter);
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
    /// What those families take that are `wanted`.
    fn size_of(&self, wanted: impl Fn(&str) -> bool) -> Used {
        let families = self.families.iter().filter(|(family, _)| wanted(family));
        families.fold(Used::default(), |used, (_, family)| Used {
            series: used.series + family.len(),
            bytes: used.bytes + byte_count(family),
            ..used
        })
    }

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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use rrd::{Column, InstanceId};

    use super::*;
    use crate::exposition::{self, Format};
    use crate::foreign::cache::{Place, SeriesCache};
    use crate::foreign::{Origin, Protocol};
    use crate::limits::Window;

    const AT: Timestamp = Timestamp::from_secs(1_790_000_000);

    fn sorter(cache: &SeriesCache) -> Sorter<'_> {
        let origin = Origin { protocol: Protocol::Pushgateway, relay: None };
        Sorter::new(cache, origin, Window::at(AT, 3_600_000))
    }

    fn group(job: &str) -> Name {
        Name { relay: None, labels: vec![("job".to_owned(), job.to_owned())] }
    }

    fn push(groups: &mut Groups, job: &str, sorter: &mut Sorter<'_>) -> Result<(), Full> {
        let page = exposition::read(b"m 1\nn{a=\"b\"} 2\n", Format::Text, 10).unwrap();
        let terms = Terms { at: AT, until: AT.plus_millis(60_000), replaces_all: false };
        groups.push(&group(job), &page, terms, sorter)
    }

    #[test]
    fn a_push_of_known_series_is_saved_while_others_may_remember_theirs() {
        let cache = SeriesCache::new(7);
        let mut groups = Groups::default();
        let mut first = sorter(&cache);
        push(&mut groups, "j", &mut first).unwrap();
        let keys: Vec<_> = first.sorted.strangers.iter().map(|one| one.key).collect();
        assert_eq!(keys.len(), 3);
        let column = Column { index: 1, generation: 0 };
        let place = Place { instance: InstanceId(1), column };
        cache.put(keys.iter().map(|key| (*key, place)));
        let mut second = sorter(&cache);
        push(&mut groups, "j", &mut second).unwrap();
        assert!(second.sorted.strangers.is_empty(), "all are known");
        let (done, waits) = mpsc::channel();
        let is_free = std::thread::scope(|scope| {
            scope.spawn(|| {
                cache.put([(keys[0], place)]);
                done.send(()).unwrap();
            });
            let is_free = waits.recv_timeout(Duration::from_secs(5)).is_ok();
            drop(second);
            is_free
        });
        assert!(is_free, "the table was still held");
    }

    #[test]
    fn a_group_can_be_pushed_again_where_no_other_fits() {
        let cache = SeriesCache::new(7);
        for more in [
            Used { series: share::ALL.series, ..Used::default() },
            Used { bytes: share::ALL.bytes, ..Used::default() },
        ] {
            let mut groups = Groups::default();
            push(&mut groups, "j", &mut sorter(&cache)).unwrap();
            groups.shares.add(Some(TokenId(9)), more);
            let full = groups.shares.all;
            assert_eq!(push(&mut groups, "k", &mut sorter(&cache)), Err(Full::All));
            assert_eq!(push(&mut groups, "j", &mut sorter(&cache)), Ok(()));
            assert_eq!(groups.shares.all, full);
            groups.forget(&group("j"));
            assert_eq!(groups.shares.all, more);
        }
    }

    #[test]
    fn a_relay_that_runs_wild_does_not_keep_out_another() {
        let cache = SeriesCache::new(7);
        let mut groups = Groups::default();
        let page = exposition::read(b"m 1\n", Format::Text, 10).unwrap();
        let terms = Terms { at: AT, until: AT.plus_millis(60_000), replaces_all: true };
        let mut sorter = sorter(&cache);
        let mut push = |groups: &mut Groups, relay, job: usize| {
            let name = Name { relay, ..group(&job.to_string()) };
            groups.push(&name, &page, terms, &mut sorter)
        };
        let (wild, other) = (Some(TokenId(1)), Some(TokenId(2)));
        let full = (0..share::ALL.groups).find_map(|job| push(&mut groups, wild, job).err());
        assert_eq!(full, Some(Full::Relay));
        assert!(full.unwrap().to_string().contains("a relay token of their own"));
        assert_eq!(groups.members.len(), share::ALL.groups / 2);
        push(&mut groups, other, 0).unwrap();
        push(&mut groups, wild, 0).unwrap();
        groups.forget(&Name { relay: wild, ..group("0") });
        push(&mut groups, wild, 7_777).unwrap();
        assert_eq!(push(&mut groups, wild, 7_778), Err(Full::Relay));
    }

    #[test]
    fn an_end_that_a_restart_might_undo_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = SeriesCache::new(7);
        let mut groups = Groups::default();
        groups.keep_in(folder.path().join("pushed")).unwrap();
        push(&mut groups, "j", &mut sorter(&cache)).unwrap();
        std::fs::remove_dir_all(folder.path().join("pushed")).unwrap();
        let mut ends = sorter(&cache);
        groups.end(&group("j"), AT, &mut ends).unwrap_err();
        assert!(ends.sorted.strangers.is_empty() && groups.list().len() == 1);
        std::fs::create_dir(folder.path().join("pushed")).unwrap();
        groups.end(&group("j"), AT, &mut ends).unwrap();
        assert!(ends.sorted.strangers.len() == 3 && groups.list().is_empty());
    }

    #[test]
    fn groups_whose_values_hold_nul_have_files_of_their_own() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let one = vec![pair("job", "a"), pair("x", "b")];
        let other = vec![pair("job", "a\0x\0b")];
        let folder = tempfile::tempdir().unwrap();
        let cache = SeriesCache::new(7);
        let mut groups = Groups::default();
        groups.keep_in(folder.path().to_owned()).unwrap();
        let page = exposition::read(b"m 1\n", Format::Text, 10).unwrap();
        let terms = Terms { at: AT, until: AT.plus_millis(60_000), replaces_all: true };
        let mut sorter = sorter(&cache);
        for labels in [one, other] {
            groups.push(&Name { relay: None, labels }, &page, terms, &mut sorter).unwrap();
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 2);
        let keys: HashSet<_> =
            sorter.sorted.strangers.iter().map(|one| format!("{:?}", one.key)).collect();
        assert_eq!(keys.len(), sorter.sorted.strangers.len());
    }
}
