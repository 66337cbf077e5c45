//! Names: what collectd calls a value, as its own `write_prometheus` would write it.

use rrd::NAME;

use crate::foreign::spelling::{Pairs, label_name, metric_name};

/// The parts of a value's name: `host/plugin-instance/type-instance`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity<'a> {
    pub(crate) host: &'a str,
    pub(crate) plugin: &'a str,
    pub(crate) plugin_instance: &'a str,
    /// collectd's type, such as `if_octets`.
    pub(crate) kind: &'a str,
    pub(crate) kind_instance: &'a str,
}

impl<'a> Identity<'a> {
    pub(super) const fn parts(&self) -> [&'a str; 5] {
        [self.host, self.plugin, self.plugin_instance, self.kind, self.kind_instance]
    }

    /// The labels of one of its data sources.
    pub(crate) fn pairs(&self, source: &str, counts: bool) -> Pairs {
        let mut words = vec!["collectd"];
        words.extend((self.plugin != self.kind).then_some(self.plugin));
        words.push(self.kind);
        words.extend((!source.is_empty() && source != "value").then_some(source));
        words.extend(counts.then_some("total"));
        let mut pairs: Pairs = vec![
            (NAME.to_owned(), metric_name(&words.join("_"))),
            ("instance".to_owned(), self.host.to_owned()),
            ("job".to_owned(), "collectd".to_owned()),
        ];
        let plugin = label_name(self.plugin);
        let kind = if self.plugin_instance.is_empty() { plugin.clone() } else { "type".to_owned() };
        let more = [(plugin, self.plugin_instance), (kind, self.kind_instance)];
        let more = more.into_iter().filter(|(_, value)| !value.is_empty());
        pairs.extend(more.map(|(name, value)| (name, value.to_owned())));
        pairs
    }
}
