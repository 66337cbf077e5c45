//! A directory: which instances have a label of some value, so that a selection that names one does
//! not ask them all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use super::instance::Instance;
use super::{lock, read, write};
use crate::{InstanceId, MatchOp, Matcher};

/// Names of labels that instances are listed by. Each list takes some bytes an instance, and fleets
/// are asked for by few names.
const MOST_NAMES: usize = 16;

/// One in so many instances are few: to look one up takes longer than to come by.
const FEW: usize = 4;

/// Lists of instances by the labels that are asked for. Every selection reads it; written when a name
/// is asked for again and no labels have changed since: while they change all the time, all instances
/// are asked, and no list is made for nothing.
#[derive(Default)]
pub(super) struct Directory {
    /// Counts changes of instances' labels.
    changes: AtomicU64,
    lists: RwLock<Lists>,
}

/// Lists as of one count of changes.
#[derive(Default)]
struct Lists {
    changes: u64,
    /// By name of a label; without a list where it has been asked for once.
    names: HashMap<Box<str>, Option<Arc<List>>>,
}

/// All instances by their value of one label, each list in order of id.
#[derive(Default)]
struct List {
    /// All instances.
    total: usize,
    with: HashMap<Box<str>, Vec<InstanceId>>,
    /// Their series may have the label.
    without: Vec<InstanceId>,
}

/// How often a name has been asked for since labels have changed.
enum Asked {
    Never,
    Once,
    Often(Arc<List>),
}

impl Directory {
    /// To be called after the labels of an instance have changed, before anybody is told.
    pub(super) fn has_changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// All instances that can have a series for these matchers, and maybe others, in order of id;
    /// `None` where no list tells few of them from all.
    pub(super) fn candidates(
        &self,
        matchers: &[Matcher],
        all: impl Fn() -> Vec<Arc<Instance>>,
    ) -> Option<Vec<InstanceId>> {
        shortest(matchers, |name| self.list(name, &all))
    }

    /// As [`Directory::candidates`], where that is known at once.
    pub(super) fn known_candidates(&self, matchers: &[Matcher]) -> Option<Vec<InstanceId>> {
        let changes = self.changes.load(Ordering::Acquire);
        shortest(matchers, |name| match read(&self.lists).get(changes, name) {
            Asked::Often(list) => Some(list),
            Asked::Once | Asked::Never => None,
        })
    }

    fn list(&self, name: &str, all: impl Fn() -> Vec<Arc<Instance>>) -> Option<Arc<List>> {
        // Before any labels are looked at: where some change meanwhile, the list is an old one.
        let changes = self.changes.load(Ordering::Acquire);
        let is_wanted = match read(&self.lists).get(changes, name) {
            Asked::Often(list) => return Some(list),
            Asked::Once => true,
            Asked::Never => false,
        };
        let list = is_wanted.then(|| Arc::new(List::of(name, &all())));
        write(&self.lists).put(changes, name, list.clone());
        list
    }
}

/// The fewest instances that a list of a label's name tells from all.
fn shortest(
    matchers: &[Matcher],
    list: impl Fn(&str) -> Option<Arc<List>>,
) -> Option<Vec<InstanceId>> {
    let is_narrow =
        |m: &&Matcher| m.op() == MatchOp::Equal && !m.value().is_empty() && m.name() != crate::NAME;
    let narrow = matchers.iter().filter(is_narrow);
    let lists = narrow.filter_map(|m| Some((list(m.name())?, m.value())));
    let (list, value) = lists.min_by_key(|(list, value)| list.count(value))?;
    list.tells_few(value).then(|| list.candidates(value))
}

impl Lists {
    /// The list of this name, if it has been asked for since labels have changed.
    fn get(&self, changes: u64, name: &str) -> Asked {
        match self.names.get(name) {
            Some(Some(list)) if self.changes == changes => Asked::Often(Arc::clone(list)),
            Some(None) if self.changes == changes => Asked::Once,
            _ => Asked::Never,
        }
    }

    fn put(&mut self, changes: u64, name: &str, list: Option<Arc<List>>) {
        if self.changes > changes {
            return;
        }
        if self.changes < changes {
            self.names.clear();
            self.changes = changes;
        }
        if self.names.len() < MOST_NAMES || self.names.contains_key(name) {
            self.names.insert(name.into(), list);
        }
    }
}

impl List {
    fn of(name: &str, instances: &[Arc<Instance>]) -> Self {
        let mut list = Self { total: instances.len(), ..Self::default() };
        for instance in instances {
            let labels = lock(&instance.state).labels.clone();
            let ids = match labels.get(name) {
                Some(value) => list.with.entry(value.into()).or_default(),
                None => &mut list.without,
            };
            ids.push(instance.id);
        }
        list
    }

    fn count(&self, value: &str) -> usize {
        self.with.get(value).map_or(0, Vec::len) + self.without.len()
    }

    /// True where it is less work to look up each than to look at all.
    fn tells_few(&self, value: &str) -> bool {
        self.count(value) <= self.total / FEW
    }

    fn candidates(&self, value: &str) -> Vec<InstanceId> {
        let with = self.with.get(value).map_or(&[][..], Vec::as_slice);
        let mut ids = [with, &self.without].concat();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::instance::Form;
    use crate::store::keys::Keys;
    use crate::{Labels, Policy};

    fn instances(labels: &[&[(&str, &str)]]) -> Vec<Arc<Instance>> {
        let form = Form::of("1m:1h".parse::<Policy>().unwrap());
        let of = |(id, labels): (u128, &&[(&str, &str)])| {
            let (form, keys) = (Arc::clone(&form), Arc::<Keys>::default());
            let instance = Instance::new(InstanceId(id), std::path::Path::new("x"), form, keys);
            lock(&instance.state).labels = Labels::from_pairs(labels.iter().copied()).unwrap();
            Arc::new(instance)
        };
        (1..).zip(labels).map(of).collect()
    }

    fn equal(name: &str, value: &str) -> [Matcher; 1] {
        [Matcher::new(name, MatchOp::Equal, value).unwrap()]
    }

    #[test]
    fn a_name_that_is_asked_for_again_is_listed_until_labels_change() {
        let host = |name| [("host", name)];
        let hosts = ["a", "b", "c", "d", "e", "f", "g", "a"].map(host);
        let mut pairs: Vec<&[(&str, &str)]> = hosts.iter().map(<[_; 1]>::as_slice).collect();
        pairs.push(&[]);
        let all = instances(&pairs);
        let directory = Directory::default();
        let ask = |value| directory.candidates(&equal("host", value), || all.clone());
        let ids = |ids: &[u128]| Some(ids.iter().map(|&id| InstanceId(id)).collect::<Vec<_>>());
        let known = |value| directory.known_candidates(&equal("host", value));
        assert_eq!(ask("b"), None, "nobody knows whether it is asked for again");
        assert_eq!(known("b"), None, "and to be asked for what is known makes no list");
        assert_eq!(ask("b"), ids(&[2, 9]), "and one whose series may have the label");
        assert_eq!((known("b"), known("a")), (ids(&[2, 9]), None));
        assert_eq!(ask("x"), ids(&[9]));
        assert_eq!(ask("a"), None, "three of nine are not few");
        lock(&all[2].state).labels = Labels::from_pairs(host("b")).unwrap();
        assert_eq!(ask("c"), ids(&[3, 9]), "nobody has been told");
        directory.has_changed();
        assert_eq!((known("c"), ask("c")), (None, None));
        assert_eq!(ask("c"), ids(&[9]));
    }

    #[test]
    fn names_and_conditions_that_tell_nothing_have_no_list() {
        let one: &[(&str, &str)] = &[("a", "1")];
        let all = instances(&[one; 100]);
        let directory = Directory::default();
        let ask = |matchers: &[Matcher]| directory.candidates(matchers, || all.clone());
        for op in [MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex] {
            let matchers = [Matcher::new("a", op, "2").unwrap()];
            assert_eq!((ask(&matchers), ask(&matchers)), (None, None), "{op:?}");
        }
        for (name, value) in [("a", ""), (crate::NAME, "up")] {
            let matchers = equal(name, value);
            assert_eq!((ask(&matchers), ask(&matchers)), (None, None), "{name}={value}");
        }
        for number in 0..2 * MOST_NAMES {
            ask(&equal(&format!("name{number}"), "x"));
        }
        assert_eq!(read(&directory.lists).names.len(), MOST_NAMES);
    }
}
