//! Exporters on this machine: their pages of Prometheus' text form become readings.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use http::Uri;
use rrd::{Kind, Labels, Step};
use serde::Deserialize;

use super::reading::Readings;
use super::settings::parse_step;
use super::source::{Answer, Look, Source, Trouble};
use crate::exposition::{self, Page, Sample, Series};
use crate::foreign::kinds;
use crate::scrape::access::Access;
use crate::scrape::fetch::Fetcher;
use crate::scrape::seen::Seen;

/// Samples taken of a page, unless its table says otherwise: two and a half grants of an instance.
const SAMPLES: usize = 5_000;
/// Most that a table may say: as many as a push takes.
const SAMPLES_MAX: usize = 20_000;
/// Time for a page, unless its table says otherwise: half of the usual step.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The label that tells one exporter's series from another's.
const LABEL: &str = "exporter";
/// Labels of the instance, which a page may not take.
const TAKEN: [&str; 3] = [LABEL, "job", "instance"];

/// The table of an exporter in `agent.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Where its page is.
    url: String,
    /// Whether it may be on another machine.
    #[serde(default)]
    remote: bool,
    step: Option<String>,
    timeout: Option<String>,
    samples: Option<usize>,
    /// Authorities of its certificate, in a file that is read for each page, as those below are.
    ca_file: Option<String>,
    /// The token that it is shown.
    bearer_file: Option<String>,
    /// The user that it is told, with the password in a file.
    username: Option<String>,
    password_file: Option<String>,
}

impl Table {
    fn access(&self) -> Result<Access, String> {
        Access::written(|name| match name {
            "ca_file" => self.ca_file.as_deref(),
            "bearer_file" => self.bearer_file.as_deref(),
            "username" => self.username.as_deref(),
            "password_file" => self.password_file.as_deref(),
            _ => None,
        })
    }
}

/// An exporter and what is known of its page.
pub(super) struct Exporter {
    name: String,
    uri: Uri,
    access: Access,
    step: Option<Step>,
    limit: Duration,
    sample_limit: usize,
    fetcher: Fetcher,
    series: Known,
    seen: Seen,
}

/// Makes the exporter `name` of its table.
pub(super) fn build(name: &str, table: toml::Table) -> Result<Box<dyn Source>, String> {
    let table: Table = table.try_into().map_err(|error: toml::de::Error| error.to_string())?;
    let duration = |text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => match parse_step(text) {
            Some(step) => Ok(Some(step)),
            None => Err(format!("{text:?} is not a time from 1s to 1h; write it as \"10s\"")),
        },
    };
    let limit = duration(&table.timeout)?.map(|limit| Duration::from_millis(limit.as_millis()));
    let sample_limit = table.samples.unwrap_or(SAMPLES);
    if !(1..=SAMPLES_MAX).contains(&sample_limit) {
        return Err(format!("samples is from 1 to {SAMPLES_MAX}"));
    }
    Ok(Box::new(Exporter {
        name: name.to_owned(),
        uri: checked(&table.url, table.remote)?,
        access: table.access()?,
        step: duration(&table.step)?,
        limit: limit.unwrap_or(TIMEOUT),
        sample_limit,
        fetcher: Fetcher::new(),
        series: Known::default(),
        seen: Seen::default(),
    }))
}

fn checked(url: &str, may_be_remote: bool) -> Result<Uri, String> {
    let uri: Uri = url.parse().map_err(|error| format!("url {url:?}: {error}"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    if !matches!(uri.scheme_str(), Some("http" | "https")) || host.is_empty() {
        return Err(format!("url {url:?} is no address; write http://127.0.0.1:PORT/metrics"));
    }
    let is_local = host.parse().map_or(host == "localhost", |ip: IpAddr| ip.is_loopback());
    if !is_local && !may_be_remote {
        return Err(format!("{url} is on another machine; add remote = true if that is meant"));
    }
    Ok(uri)
}

impl Source for Exporter {
    fn read<'a>(&'a mut self, _: Look, out: &'a mut Readings) -> Answer<'a> {
        Box::pin(async move {
            let started = tokio::time::Instant::now();
            let fetched = self.fetcher.opened(&self.uri, &self.access, self.limit).await;
            let outcome = match &fetched {
                Ok(fetched) => exposition::read(&fetched.body, fetched.format, self.sample_limit)
                    .map_err(|fault| Trouble(fault.to_string())),
                Err(why) => Err(Trouble(why.clone())),
            };
            let took_s = started.elapsed().as_secs_f64();
            let name = [(LABEL, self.name.as_str())];
            let is_up = outcome.is_ok();
            out.gauge("agent_exporter_up", &name, f64::from(u8::from(is_up)));
            out.gauge("agent_exporter_scrape_duration_seconds", &name, took_s);
            let page = outcome.as_ref().map_or(&[][..], |page| &page.samples);
            out.gauge("agent_exporter_samples", &name, count(page.len()));
            self.ended(page, out);
            match outcome {
                Ok(page) => self.taken(&page, out),
                Err(why) => {
                    self.seen.remember(&[]);
                    Err(why)
                }
            }
        })
    }

    /// Longer than the page may take, so that this end is not cut off before it has said so.
    fn timeout(&self) -> Duration {
        self.limit + Duration::from_secs(1)
    }

    fn step(&self) -> Option<Step> {
        self.step
    }
}

impl Exporter {
    /// Ends the series that the page has no more.
    fn ended(&mut self, page: &[Sample<'_>], out: &mut Readings) {
        for series in self.seen.vanished(page) {
            // Whatever is not known any more was given up; silence ends it too.
            if let Some(entry) = self.series.0.get(series.text()) {
                entry.add(f64::NAN, out);
            }
        }
    }

    fn taken(&mut self, page: &Page<'_>, out: &mut Readings) -> Result<(), Trouble> {
        self.series.bound(2 * self.sample_limit);
        let siblings = Siblings::of(page);
        for sample in &page.samples {
            self.series.of(&self.name, sample, &siblings).add(sample.value, out);
        }
        self.seen.remember(&page.samples);
        let name = [(LABEL, self.name.as_str())];
        out.gauge("agent_exporter_faulty_lines", &name, count(page.faults.count()));
        match page.faults.first() {
            None => Ok(()),
            Some(first) => Err(Trouble(told(page.faults.count(), &first.to_string()))),
        }
    }
}

/// What a person is told of a page that was taken in part.
pub(super) fn told(fault_count: usize, first: &str) -> String {
    format!("{fault_count} lines of the page are not taken; first: {first}")
}

/// What is known of series, by the text that a page writes them with.
#[derive(Default)]
struct Known(HashMap<Box<str>, Entry>);

struct Entry {
    metric: String,
    labels: exposition::Pairs,
    kind: Kind,
}

impl Known {
    /// What is known of a sample's series of the exporter `name`.
    fn of(&mut self, name: &str, sample: &Sample<'_>, siblings: &Siblings<'_>) -> &Entry {
        let text = sample.series.text();
        if !self.0.contains_key(text) {
            let (metric, mut labels) = exposition::parts(&sample.series);
            let kind = sample.kind.unwrap_or_else(|| siblings.kind(&sample.series));
            for (label, _) in &mut labels {
                if TAKEN.contains(&label.as_str()) {
                    label.insert_str(0, "exported_");
                }
            }
            labels.push((LABEL.to_owned(), name.to_owned()));
            self.0.insert(text.into(), Entry { metric, labels, kind });
        }
        &self.0[text]
    }

    /// Forgets all when there is too much of it: the next page fills it again.
    fn bound(&mut self, most: usize) {
        if self.0.len() > most {
            self.0.clear();
        }
    }
}

impl Entry {
    fn add(&self, value: f64, out: &mut Readings) {
        let labels: Vec<(&str, &str)> =
            self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        out.add(&self.metric, &labels, self.kind, value);
    }
}

/// All series of a page, for names that mean something only where another stands beside them.
pub(super) struct Siblings<'p> {
    page: &'p Page<'p>,
    texts: OnceCell<HashSet<&'p str>>,
}

impl<'p> Siblings<'p> {
    pub(super) fn of(page: &'p Page<'p>) -> Self {
        Self { page, texts: OnceCell::new() }
    }

    /// The kind that a series' name suggests where its page does not tell.
    pub(super) fn kind(&self, series: &Series<'_>) -> Kind {
        let Ok(labels) = Labels::from_pairs(exposition::labels(series)) else {
            return Kind::Unknown;
        };
        let metric = labels.metric().unwrap_or_default();
        kinds::by_name(metric, &labels, |name| {
            let samples = self.page.samples.iter();
            let texts = self.texts.get_or_init(|| samples.map(|one| one.series.text()).collect());
            texts.contains(series.text().replacen(metric, name, 1).as_str())
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one page stay below 2^53")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests;
