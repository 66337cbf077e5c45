//! A layout: how the programs around rrdtool name their files, and what that says of the series.

use std::path::Path;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

use crate::{LabelError, Labels, NAME};

/// How paths become instances, metric names and labels.
#[derive(Clone, Debug)]
pub enum Layout {
    /// `INSTANCE/.../NAME.rrd`, the folder given being the root; `INSTANCE.rrd` without folders.
    Plain,
    /// As one of the known programs lays out its files.
    Preset(Preset),
    /// A pattern with the groups `instance`, `metric` and any labels, for paths below the folder given.
    Pattern(Regex),
}

/// A program that writes files of rrdtool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// `<host>_<metric>_<id>.rrd`
    Cacti,
    /// `<group>/<host>-<plugin>-<field>-<g|c|d|a>.rrd`
    Munin,
    /// `<host>/<plugin>[-instance]/<type>[-instance].rrd`
    Collectd,
    /// `<cluster>/<host>/<metric>.rrd`
    Ganglia,
}

/// What a path says of one data source of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose series it is.
    pub instance: String,
    /// Labels of the series, `__name__` included.
    pub labels: Labels,
    /// The name as the path has it, where it is no metric name.
    pub renamed: Option<String>,
}

/// Why a path or a pattern is not understood.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// A path that the layout does not describe.
    #[error("its path does not read {0}; give another --preset, or a --map")]
    NotSuch(&'static str),
    /// A path that the pattern does not match.
    #[error("its path does not match the pattern of --map")]
    NoMatch,
    /// Not a regular expression, or a huge one.
    #[error("{0}")]
    Pattern(#[from] regex::Error),
    /// A pattern that names no instance.
    #[error("the pattern needs the group (?<instance>...), and may have (?<metric>...) and labels")]
    NoInstance,
    /// A preset nobody knows.
    #[error("{0:?} is no preset; there are cacti, munin, collectd and ganglia")]
    NoPreset(String),
    /// Labels that are none.
    #[error("{0}")]
    Label(#[from] LabelError),
    /// A name or a value that is too long.
    #[error("{what} is {len} bytes long, over the limit of {most}; shorten it with --map")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The limit of all senders.
        most: usize,
    },
}

/// Bytes of the name of an instance, as enrolment has it.
const LONGEST_INSTANCE: usize = 128;
/// Bytes of all labels of a series, as intake has it.
const LONGEST_KEY: usize = 2 << 10;

impl Layout {
    /// The layout of a pattern for paths.
    pub fn pattern(text: &str) -> Result<Self, LayoutError> {
        let regex = RegexBuilder::new(text).size_limit(1 << 20).build()?;
        if !regex.capture_names().flatten().any(|name| name == "instance") {
            return Err(LayoutError::NoInstance);
        }
        Ok(Self::Pattern(regex))
    }

    /// What instances of this layout have as their label `job`.
    pub const fn job(&self) -> &'static str {
        match self {
            Self::Plain | Self::Pattern(_) => "rrd",
            Self::Preset(Preset::Cacti) => "cacti",
            Self::Preset(Preset::Munin) => "munin",
            Self::Preset(Preset::Collectd) => "collectd",
            Self::Preset(Preset::Ganglia) => "ganglia",
        }
    }

    /// The place of source number `source` of the file at `path`, `below` being the part of the path
    /// under the folder that was given.
    pub fn place(
        &self,
        path: &Path,
        below: &Path,
        sources: &[String],
        source: usize,
    ) -> Result<Place, LayoutError> {
        let stems = Stems::of(path);
        let words = match self {
            Self::Plain => plain(&Stems::of(below)),
            Self::Preset(Preset::Cacti) => cacti(&stems, sources),
            Self::Preset(Preset::Munin) => munin(&stems),
            Self::Preset(Preset::Collectd) => collectd(&stems),
            Self::Preset(Preset::Ganglia) => ganglia(&stems),
            Self::Pattern(regex) => matched(regex, &below.to_string_lossy()),
        }?;
        words.place(&sources[source], sources.len())
    }
}

impl FromStr for Preset {
    type Err = LayoutError;
    fn from_str(text: &str) -> Result<Self, LayoutError> {
        Ok(match text {
            "cacti" => Self::Cacti,
            "munin" => Self::Munin,
            "collectd" => Self::Collectd,
            "ganglia" => Self::Ganglia,
            other => return Err(LayoutError::NoPreset(other.to_owned())),
        })
    }
}

/// Folders and name of a path, the last first; the name without its extension.
struct Stems(Vec<String>);

impl Stems {
    fn of(path: &Path) -> Self {
        let parts = path.components().rev().filter_map(|part| match part {
            std::path::Component::Normal(name) => Some(Path::new(name)),
            _ => None,
        });
        let text = |part: &Path| part.to_string_lossy().into_owned();
        let stem = |part: &Path| part.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let named = parts
            .enumerate()
            .map(|(at, part)| if at == 0 { stem(part).unwrap_or_default() } else { text(part) });
        Self(named.collect())
    }

    fn get(&self, back: usize) -> Option<&str> {
        self.0.get(back).map(String::as_str)
    }
}

/// What was found in a path.
struct Words {
    instance: String,
    metric: Metric,
    labels: Vec<(String, String)>,
}

/// How a series is called.
enum Metric {
    /// The sources of a file are one thing each.
    Source,
    /// The file is one thing; its sources are parts of it where there are several.
    File(String),
    /// As `File`, but a source of this name is the thing itself.
    But(String, &'static str),
}

impl Words {
    fn place(self, source: &str, source_count: usize) -> Result<Place, LayoutError> {
        let written = match self.metric {
            Metric::Source => source.to_owned(),
            Metric::File(metric) if source_count == 1 => metric,
            Metric::But(metric, usual) if source == usual => metric,
            Metric::File(metric) | Metric::But(metric, _) => format!("{metric}_{source}"),
        };
        let name = metric_name(&written);
        let pairs = self.labels.into_iter().chain([(NAME.to_owned(), name.clone())]);
        let labels = Labels::from_pairs(pairs)?;
        let too_long = |what, len, most| Err(LayoutError::TooLong { what, len, most });
        let key_len = labels.to_key().len();
        if self.instance.is_empty() || self.instance.chars().any(char::is_control) {
            return Err(LayoutError::NotSuch("INSTANCE without control characters"));
        }
        if self.instance.len() > LONGEST_INSTANCE {
            return too_long("the name of the instance", self.instance.len(), LONGEST_INSTANCE);
        }
        if key_len > LONGEST_KEY {
            return too_long("the text of all labels", key_len, LONGEST_KEY);
        }
        Ok(Place { instance: self.instance, labels, renamed: (name != written).then_some(written) })
    }
}

fn plain(stems: &Stems) -> Result<Words, LayoutError> {
    let stem = stems.get(0).ok_or(LayoutError::NotSuch("INSTANCE/NAME.rrd"))?;
    if stems.0.len() == 1 {
        let (instance, metric) = (stem.to_owned(), Metric::Source);
        return Ok(Words { instance, metric, labels: Vec::new() });
    }
    let (instance, rest) = stems.0.split_last().expect("two parts at least");
    let rest: Vec<&str> = rest.iter().rev().map(String::as_str).collect();
    let metric = Metric::File(rest.join("_"));
    Ok(Words { instance: instance.clone(), metric, labels: Vec::new() })
}

/// The middle is the name of one of the sources; only where it is not, the host ends at the first
/// underscore.
fn cacti(stems: &Stems, sources: &[String]) -> Result<Words, LayoutError> {
    let refuse = LayoutError::NotSuch("<host>_<metric>_<id>.rrd");
    let Some((front, id)) = stems.get(0).and_then(|stem| stem.rsplit_once('_')) else {
        return Err(refuse);
    };
    if !id.bytes().all(|byte| byte.is_ascii_digit()) || id.is_empty() {
        return Err(refuse);
    }
    let found = sources.iter().filter_map(|source| {
        let host = front.strip_suffix(source.as_str())?.strip_suffix('_')?;
        (!host.is_empty()).then_some((host, source.as_str()))
    });
    let found = found.min_by_key(|(host, _)| host.len());
    let Some((host, middle)) = found.or_else(|| front.split_once('_')) else { return Err(refuse) };
    let labels = vec![("id".to_owned(), id.to_owned()), ("source".to_owned(), middle.to_owned())];
    Ok(Words { instance: host.to_owned(), metric: Metric::Source, labels })
}

/// Hosts have hyphens too, and mostly end in the name of their group.
fn munin(stems: &Stems) -> Result<Words, LayoutError> {
    let refuse = || LayoutError::NotSuch("<group>/<host>-<plugin>-<field>-<g|c|d|a>.rrd");
    let (Some(stem), Some(group)) = (stems.get(0), stems.get(1)) else { return Err(refuse()) };
    let (front, kind) = stem.rsplit_once('-').ok_or_else(refuse)?;
    if !["g", "c", "d", "a"].contains(&kind) {
        return Err(refuse());
    }
    let (front, field) = front.rsplit_once('-').ok_or_else(refuse)?;
    let with_group = format!("{group}-");
    let (host, plugin) = match front.split_once(&with_group) {
        Some((before, plugin)) => (format!("{before}{group}"), plugin),
        None => front.rsplit_once('-').map(|(host, p)| (host.to_owned(), p)).ok_or_else(refuse)?,
    };
    let mut labels = vec![("group".to_owned(), group.to_owned())];
    labels.push(("field".to_owned(), field.to_owned()));
    let (plugin, part) = plugin.split_once('-').unwrap_or((plugin, ""));
    labels.push(("subgraph".to_owned(), part.to_owned()));
    Ok(Words { instance: host, metric: Metric::But(plugin.to_owned(), "42"), labels })
}

fn collectd(stems: &Stems) -> Result<Words, LayoutError> {
    let (Some(kind), Some(plugin), Some(host)) = (stems.get(0), stems.get(1), stems.get(2)) else {
        return Err(LayoutError::NotSuch("<host>/<plugin>[-instance]/<type>[-instance].rrd"));
    };
    let (plugin, plugin_instance) = plugin.split_once('-').unwrap_or((plugin, ""));
    let (kind, type_instance) = kind.split_once('-').unwrap_or((kind, ""));
    let metric = if plugin == kind { kind.to_owned() } else { format!("{plugin}_{kind}") };
    let labels = vec![
        ("plugin_instance".to_owned(), plugin_instance.to_owned()),
        ("type_instance".to_owned(), type_instance.to_owned()),
    ];
    Ok(Words { instance: host.to_owned(), metric: Metric::But(metric, "value"), labels })
}

fn ganglia(stems: &Stems) -> Result<Words, LayoutError> {
    let (Some(metric), Some(host), Some(cluster)) = (stems.get(0), stems.get(1), stems.get(2))
    else {
        return Err(LayoutError::NotSuch("<cluster>/<host>/<metric>.rrd"));
    };
    let labels = vec![("cluster".to_owned(), cluster.to_owned())];
    Ok(Words { instance: host.to_owned(), metric: Metric::But(metric.to_owned(), "sum"), labels })
}

fn matched(regex: &Regex, below: &str) -> Result<Words, LayoutError> {
    let captures = regex.captures(below).ok_or(LayoutError::NoMatch)?;
    let group = |name: &str| captures.name(name).map(|found| found.as_str().to_owned());
    let labels =
        regex.capture_names().flatten().filter(|name| !["instance", "metric"].contains(name));
    Ok(Words {
        instance: group("instance").filter(|name| !name.is_empty()).ok_or(LayoutError::NoMatch)?,
        metric: group("metric").map_or(Metric::Source, Metric::File),
        labels: labels.filter_map(|name| Some((name.to_owned(), group(name)?))).collect(),
    })
}

/// The nearest name that PromQL can say: letters, digits, `_` and `:`, and no digit first.
fn metric_name(written: &str) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut name: String = written.chars().map(|c| if good(c) { c } else { '_' }).collect();
    if !name.starts_with(|c: char| !c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(layout: &Layout, path: &str, sources: &[&str], expected: &str) {
        let sources: Vec<String> = sources.iter().map(|&name| name.to_owned()).collect();
        let below = path.trim_start_matches("/var/rrd/");
        let place = layout.place(Path::new(path), Path::new(below), &sources, sources.len() - 1);
        let shown = match place {
            Ok(place) => format!("{}: {}", place.instance, place.labels),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{path}");
    }

    #[test]
    fn paths_say_what_the_programs_mean_by_them() {
        use Preset::{Cacti, Collectd, Ganglia, Munin};
        for (preset, path, sources, expected) in [
            (
                Cacti,
                "/var/rrd/my_router_traffic_in_12.rrd",
                &["traffic_in", "traffic_out"][..],
                r#"my_router: traffic_out{id="12",source="traffic_in"}"#,
            ),
            (Cacti, "/var/rrd/web_hdd_free_7.rrd", &["x"], r#"web: x{id="7",source="hdd_free"}"#),
            (
                Cacti,
                "/var/rrd/nothing.rrd",
                &["x"],
                "its path does not read <host>_<metric>_<id>.rrd; give another --preset, or a --map",
            ),
            (
                Munin,
                "/var/rrd/example.com/web-1.example.com-cpu-idle-d.rrd",
                &["42"],
                r#"web-1.example.com: cpu{field="idle",group="example.com"}"#,
            ),
            (
                Munin,
                "/var/rrd/lan/db-1-load-load-g.rrd",
                &["42"],
                r#"db-1: load{field="load",group="lan"}"#,
            ),
            (
                Munin,
                "/var/rrd/lan/db.lan-diskstats_iops-sda-rdio-g.rrd",
                &["42"],
                r#"db.lan: diskstats_iops{field="rdio",group="lan",subgraph="sda"}"#,
            ),
            (
                Collectd,
                "/var/rrd/web-1/cpu-0/cpu-idle.rrd",
                &["value"],
                r#"web-1: cpu{plugin_instance="0",type_instance="idle"}"#,
            ),
            (
                Collectd,
                "/var/rrd/web-1/load/load.rrd",
                &["shortterm", "midterm"],
                "web-1: load_midterm",
            ),
            (
                Collectd,
                "/var/rrd/web-1/df-root/df_complex-free.rrd",
                &["value"],
                r#"web-1: df_df_complex{plugin_instance="root",type_instance="free"}"#,
            ),
            (
                Ganglia,
                "/var/rrd/grid/web-1/load_one.rrd",
                &["sum"],
                r#"web-1: load_one{cluster="grid"}"#,
            ),
            (
                Ganglia,
                "/var/rrd/grid/__SummaryInfo__/load_one.rrd",
                &["sum", "num"],
                r#"__SummaryInfo__: load_one_num{cluster="grid"}"#,
            ),
        ] {
            check(&Layout::Preset(preset), path, sources, expected);
        }
        check(&Layout::Plain, "/var/rrd/web-1.rrd", &["a", "b"], "web-1: b");
        check(&Layout::Plain, "/var/rrd/web-1/net/eth0.rrd", &["in", "out"], "web-1: net_eth0_out");
    }

    #[test]
    fn a_pattern_names_instance_metric_and_labels() {
        let layout =
            Layout::pattern(r"^(?<site>\w+)/(?<instance>[^/]+)/(?<metric>.+)\.rrd$").unwrap();
        check(&layout, "/var/rrd/ber/web-1/disk.io.rrd", &["v"], r#"web-1: disk_io{site="ber"}"#);
        check(&layout, "/var/rrd/x.rrd", &["v"], "its path does not match the pattern of --map");
        assert!(matches!(Layout::pattern("(?<metric>.*)"), Err(LayoutError::NoInstance)));
        assert!(matches!(Layout::pattern("("), Err(LayoutError::Pattern(_))));
    }

    #[test]
    fn a_name_that_promql_cannot_say_is_changed_and_told() {
        let sources = ["5min-load".to_owned()];
        let path = Path::new("web.rrd");
        let place = Layout::Plain.place(path, path, &sources, 0).unwrap();
        assert_eq!(place.labels.metric(), Some("_5min_load"));
        assert_eq!(place.renamed.as_deref(), Some("5min-load"));
    }
}
