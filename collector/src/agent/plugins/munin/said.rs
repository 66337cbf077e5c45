//! What a Munin plugin says: the lines of its configuration and its values.

use std::collections::BTreeMap;

/// Fields of one plugin, of all its graphs.
const FIELDS_MAX: usize = 1_000;
/// Bytes of the name of a graph or a field.
const NAME_MAX: usize = 200;

/// The graph and the name of a field.
pub(super) type Key = (String, String);

/// All that was said in one run.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) fields: BTreeMap<Key, Field>,
    /// The newest value of each field that has one; also a configuration may bring them.
    pub(super) values: BTreeMap<Key, Value>,
    /// Lines that could not be read.
    pub(super) unreadable: usize,
}

/// How the values of a field are to be taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Field {
    pub(super) kind: FieldKind,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

/// What a value means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FieldKind {
    #[default]
    Gauge,
    Counter,
    Derive,
    Absolute,
}

/// A value and the second that the plugin gives it, where it does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) at: Option<u64>,
    /// `None` where the plugin could not tell (`U`).
    pub(super) number: Option<f64>,
}

impl Said {
    /// Reads what `plugin` wrote.
    pub(super) fn by(plugin: &str, text: &str) -> Self {
        let mut said = Self::default();
        let mut graph = plugin;
        for line in text.lines().map(str::trim) {
            if line == "." {
                break;
            }
            if line.is_empty() || line.starts_with('#') || line.starts_with("graph_") {
                continue;
            }
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if key == "multigraph" {
                graph = value.trim();
            } else if said.take(graph, key, value.trim()).is_none() {
                said.unreadable += 1;
            }
        }
        said
    }

    /// Takes an attribute of a field; `None` when it makes no sense.
    fn take(&mut self, graph: &str, key: &str, text: &str) -> Option<()> {
        let (field, attribute) = key.rsplit_once('.')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let is_name = !field.is_empty() && field.chars().all(plain);
        if !is_name || field.len() > NAME_MAX || graph.len() > NAME_MAX {
            return None;
        }
        let key = (graph.to_owned(), field.to_owned());
        match attribute {
            "value" => self.value(key, text)?,
            "type" => self.field(key)?.kind = FieldKind::written(text)?,
            "min" => self.field(key)?.min = Some(text.parse().ok()?),
            "max" => self.field(key)?.max = Some(text.parse().ok()?),
            // How it is drawn, and what it is called there.
            _ => {}
        }
        Some(())
    }

    fn field(&mut self, key: Key) -> Option<&mut Field> {
        let has_room = self.fields.len() < FIELDS_MAX || self.fields.contains_key(&key);
        has_room.then(|| self.fields.entry(key).or_default())
    }

    fn value(&mut self, key: Key, text: &str) -> Option<()> {
        let value = Value::written(text)?;
        let held = self.values.get(&key);
        if held.is_none() && self.values.len() >= FIELDS_MAX {
            return None;
        }
        if held.is_none_or(|held| held.at <= value.at) {
            self.values.insert(key, value);
        }
        Some(())
    }
}

impl FieldKind {
    fn written(text: &str) -> Option<Self> {
        Some(match text.to_ascii_uppercase().as_str() {
            "GAUGE" => Self::Gauge,
            "COUNTER" => Self::Counter,
            "DERIVE" => Self::Derive,
            "ABSOLUTE" => Self::Absolute,
            _ => return None,
        })
    }
}

impl Value {
    /// `5`, `U`, `1700000000:5` or `N:5`.
    fn written(text: &str) -> Option<Self> {
        let (at, number) = match text.split_once(':') {
            None | Some(("N", _)) => (None, text.trim_start_matches("N:")),
            Some((at, number)) => (Some(at.parse().ok()?), number),
        };
        let number = match number {
            "U" => None,
            number => Some(number.parse().ok().filter(|number: &f64| number.is_finite())?),
        };
        Some(Self { at, number })
    }
}

impl Field {
    /// True where a level of this field may lie.
    pub(super) fn allows(&self, level: f64) -> bool {
        self.min.is_none_or(|min| level >= min) && self.max.is_none_or(|max| level <= max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(said: &Said, graph: &str, field: &str) -> Option<f64> {
        said.values.get(&(graph.to_owned(), field.to_owned()))?.number
    }

    #[test]
    fn a_configuration_says_how_values_are_taken() {
        let said = Said::by(
            "cpu",
            "graph_title CPU usage\ngraph_order system user\n\nsystem.label system\nsystem.min 0\n\
             system.type DERIVE\nsystem.info CPU time. Spent by the kernel\nuser.label user\nuser.max 1e3\n",
        );
        let key = |field: &str| ("cpu".to_owned(), field.to_owned());
        let system = Field { kind: FieldKind::Derive, min: Some(0.0), max: None };
        assert_eq!(said.fields[&key("system")], system);
        assert_eq!(said.fields[&key("user")], Field { max: Some(1000.0), ..Field::default() });
        assert_eq!((said.values.len(), said.unreadable), (0, 0));
    }

    #[test]
    fn values_are_of_the_graph_they_stand_in() {
        let said = Said::by(
            "df",
            "a.value 1\nmultigraph df.inode\na.value 2.5\nb.value U\nmultigraph df\nb.value -3e2\n.\nc.value 1\n",
        );
        assert_eq!(number(&said, "df", "a"), Some(1.0));
        assert_eq!(number(&said, "df.inode", "a"), Some(2.5));
        assert_eq!(number(&said, "df", "b"), Some(-300.0));
        assert_eq!((number(&said, "df.inode", "b"), said.values.len()), (None, 4));
    }

    #[test]
    fn of_several_values_of_a_field_the_newest_counts() {
        let said = Said::by("x", "a.value 1700000010:2\na.value 1700000005:1\nb.value N:7\n");
        assert_eq!((number(&said, "x", "a"), number(&said, "x", "b")), (Some(2.0), Some(7.0)));
    }

    #[test]
    fn what_makes_no_sense_is_counted() {
        for line in [
            "nonsense",
            "a.value x",
            "a.value",
            "a.type FLOAT",
            "a.value inf",
            ".value 1",
            "a b.value 1",
        ] {
            assert_eq!(Said::by("x", line).unreadable, 1, "{line}");
            assert!(Said::by("x", line).values.is_empty(), "{line}");
        }
        let many: Vec<String> =
            (0..2 * FIELDS_MAX).map(|n| format!("f{n}.value 1\nf{n}.min 0\n")).collect();
        let said = Said::by("x", &many.concat());
        let counts = (said.values.len(), said.fields.len(), said.unreadable);
        assert_eq!(counts, (FIELDS_MAX, FIELDS_MAX, 2 * FIELDS_MAX));
    }
}
