//! Settings: what `agent.toml` says, in the words a person wrote there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rrd::Step;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::error::AgentError;
use super::sources::SOURCES_MAX;
use super::trust::Pin;

/// Bytes of `agent.toml`: sixty-four sources with a page each.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Smallest and largest spool: four segments, and what a machine would hardly give.
const SPOOL_RANGE_MIB: std::ops::RangeInclusive<usize> = 4..=4096;

/// Shortest and longest step an agent may be told, in milliseconds.
pub(super) const STEP_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;

/// The configuration file of an agent. All of it may be absent; the command line wins over it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the collector is.
    pub collector: Option<String>,
    /// A file that holds the join token.
    pub token_file: Option<PathBuf>,
    /// Folder that keeps this machine's identity and spool.
    pub state: Option<PathBuf>,
    /// Bytes of the spool, written as `"64MiB"`.
    #[serde(deserialize_with = "size")]
    pub spool: Option<usize>,
    /// Where the cloud's metadata service is, instead of its usual address; `"off"` asks nobody.
    pub imds: Option<String>,
    /// The name to ask for.
    pub name: Option<String>,
    /// Time between looks.
    #[serde(deserialize_with = "step")]
    pub step: Option<Step>,
    /// Where `/proc` is mounted.
    pub proc: Option<PathBuf>,
    /// Authorities of the collector's certificate (PEM), instead of the public ones.
    pub ca: Option<PathBuf>,
    /// SHA-256 of the collector's authority or certificate, where there is no file of it.
    pub ca_hash: Option<Pin>,
    /// Certificate to show to a collector that asks for one (PEM), and its key.
    pub cert: Option<PathBuf>,
    /// The key of `cert` (PEM).
    pub key: Option<PathBuf>,
    /// Labels the machine declares of itself.
    pub labels: BTreeMap<String, String>,
    /// Sources besides the kernel, by name; `kind` says what each is, the rest is its own.
    pub sources: BTreeMap<String, toml::Table>,
}

impl Settings {
    /// Reads the file at `path`. Errors with the line and the remedy.
    pub fn read(path: &Path) -> Result<Self, AgentError> {
        let problem = |problem: String| AgentError::Settings { path: path.to_owned(), problem };
        let size = std::fs::metadata(path).map_err(|error| problem(error.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(problem(format!("longer than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        Self::parse(&text).map_err(problem)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if settings.cert.is_some() != settings.key.is_some() {
            return Err("cert and key belong together; give both or none".to_owned());
        }
        if settings.sources.len() > SOURCES_MAX {
            return Err(format!("more than {SOURCES_MAX} sources; take some out"));
        }
        Ok(settings)
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = text.strip_suffix("MiB").and_then(|number| number.parse::<usize>().ok());
    let bytes = bytes.filter(|mib| SPOOL_RANGE_MIB.contains(mib)).map(|mib| mib << 20);
    let bad = || format!("{text:?} is not a size from 4MiB to 4096MiB; write it as \"64MiB\"");
    Ok(Some(bytes.ok_or_else(|| D::Error::custom(bad()))?))
}

fn step<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Step>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let step = parse_step(&text);
    let bad = || format!("{text:?} is not a time from 1s to 1h; write it as \"10s\"");
    Ok(Some(step.ok_or_else(|| D::Error::custom(bad()))?))
}

/// A step that an agent may be told, as a person writes it.
pub(super) fn parse_step(text: &str) -> Option<Step> {
    rrd::time::parse_duration_ms(text)
        .filter(|millis| STEP_RANGE_MS.contains(millis))
        .and_then(Step::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_all_that_the_command_line_can_and_the_sources() {
        let settings = Settings::parse(
            "collector = \"https://metrics.example\"\nstep = \"30s\"\n\
             [labels]\nrole = \"web\"\n\
             [sources.nginx]\nkind = \"exporter\"\nurl = \"http://127.0.0.1:9113/metrics\"\n",
        )
        .unwrap();
        assert_eq!(settings.collector.as_deref(), Some("https://metrics.example"));
        assert_eq!(settings.step, Step::from_secs(30));
        assert_eq!(settings.labels["role"], "web");
        assert_eq!(settings.sources["nginx"]["kind"].as_str(), Some("exporter"));
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("stepp = \"10s\"", "stepp"),
            ("step = \"10\"", "write it as \"10s\""),
            ("step = \"2h\"", "1s to 1h"),
            ("labels = 3", "labels"),
            ("ca_hash = \"sha256:0\"", "64 hexadecimal digits"),
            ("cert = \"a.pem\"", "belong together"),
            ("spool = \"1MiB\"", "4MiB to 4096MiB"),
        ] {
            let problem = Settings::parse(text).unwrap_err();
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
