//! The addresses of Prometheus' Pushgateway: jobs push their last values, which are repeated as a
//! scraped gateway would, but not for ever.

mod groups;
mod path;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode, Uri};
use rrd::Timestamp;
use tokio::time::sleep;

use super::{Denial, Inner, Intake};
use crate::exposition::{self, Format, PAGE_LIMIT, Page};
use crate::foreign::{Origin, Protocol, Sorter};
use crate::limits::WRITE_SAMPLE_LIMIT;
use crate::registry::Namespace;
use groups::{Groups, Name, Terms};

/// How long a push is good for when it does not say: a job that runs every day leaves no gap, and one
/// that is gone does not look alive for ever.
const TTL_MS: u64 = 25 * 3_600_000;
/// Most that a push may say: it is memory of ours.
const TTL_RANGE_MS: std::ops::RangeInclusive<u64> = 1_000..=30 * 86_400_000;
/// The header that says it; the query says `ttl` too, and wins.
const TTL_HEADER: &str = "roundel-ttl";
/// Series repeated in one append.
const AT_ONCE: usize = WRITE_SAMPLE_LIMIT;

/// What was pushed and is still good.
#[derive(Debug, Default)]
pub(super) struct Pushgateway(Mutex<Groups>);

impl Pushgateway {
    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `PUT` replaces a group, `POST` the families that it brings.
pub(super) async fn push(
    State(intake): State<Intake>,
    (method, uri): (Method, Uri),
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, Denial> {
    let inner = intake.0;
    let name = inner.group(&headers, &uri)?;
    let format = format(&headers)?;
    let ttl_ms = ttl_ms(&headers, &uri)?;
    let (mut held, body) = inner.room.body(&headers, body, PAGE_LIMIT).await?;
    let body = inner.room.unpack(&mut held, &headers, (body, PAGE_LIMIT))?;
    let at = inner.parts.clock.wall();
    let terms = Terms { at, until: at.plus_millis(ttl_ms), replaces_all: method == Method::PUT };
    let origin = Origin { protocol: Protocol::Pushgateway, relay: name.relay };
    let taken = inner
        .store(origin, held, move |inner, _, mut sorter| {
            let page = read(&body, format)?;
            let mut groups = inner.pushed.groups();
            if page.samples.is_empty() && terms.replaces_all {
                groups.end(&name, at, &mut sorter).map_err(unkept)?;
            } else {
                let full = |full: groups::Full| Denial::later("full", full.to_string());
                groups.push(&name, &page, terms, &mut sorter).map_err(full)?;
            }
            sorter.sorted.exemplars += page.exemplars;
            Ok(sorter.sorted)
        })
        .await?;
    taken.answer().map(|_| StatusCode::OK)
}

/// `DELETE` ends a group.
pub(super) async fn delete(
    State(intake): State<Intake>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Denial> {
    let inner = intake.0;
    let name = inner.group(&headers, &uri)?;
    let held = inner.room.take(0).await?;
    let at = inner.parts.clock.wall();
    let origin = Origin { protocol: Protocol::Pushgateway, relay: name.relay };
    let taken = inner
        .store(origin, held, move |inner, _, mut sorter| {
            inner.pushed.groups().end(&name, at, &mut sorter).map_err(unkept)?;
            Ok(sorter.sorted)
        })
        .await?;
    taken.answer().map(|_| StatusCode::ACCEPTED)
}

/// The end of a group that the disk does not keep.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands on")]
fn unkept(error: std::io::Error) -> Denial {
    Denial::later("store", format!("the group cannot be removed from the disk: {error}"))
}

/// The page of a push, of which nothing is taken when anything is wrong: what it replaces would be lost
/// for half of it.
fn read(body: &[u8], format: Format) -> Result<Page<'_>, Denial> {
    let page = exposition::read(body, format, WRITE_SAMPLE_LIMIT)
        .map_err(|fault| Denial::bad(fault.to_string()))?;
    if let Some(first) = page.faults.first() {
        return Err(Denial::bad(first.to_string()));
    }
    if page.samples.iter().any(|sample| sample.at.is_some()) {
        return Err(Denial::bad(
            "pushed samples have no timestamps: the last value is repeated until the next push; leave \
             them out, or send readings of the past by remote write",
        ));
    }
    let mut texts = HashSet::new();
    match page.samples.iter().find(|sample| !texts.insert(sample.series.text())) {
        Some(twice) => {
            let series: String = twice.series.text().chars().take(200).collect();
            Err(Denial::bad(format!("{series} is there twice; push it once")))
        }
        None => Ok(page),
    }
}

fn format(headers: &HeaderMap) -> Result<Format, Denial> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|name| name.to_ascii_lowercase().contains("protobuf")) {
        return Err(Denial::unsupported(
            "Content-Type: push Prometheus' text format, not protobuf",
        ));
    }
    Ok(Format::of(content_type))
}

/// How long this push is good for, in milliseconds.
fn ttl_ms(headers: &HeaderMap, uri: &Uri) -> Result<i64, Denial> {
    let mut asked = uri.query().unwrap_or_default().split('&');
    let asked = asked.find_map(|pair| pair.strip_prefix("ttl="));
    let told = headers.get(TTL_HEADER).map(|value| value.to_str().unwrap_or_default());
    let millis = match asked.or(told) {
        None => TTL_MS,
        Some(text) => rrd::time::parse_duration_ms(text)
            .filter(|millis| TTL_RANGE_MS.contains(millis))
            .ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                Denial::bad(format!("ttl {shown:?} is not a time from 1s to 30d; write \"2h\""))
            })?,
    };
    Ok(i64::try_from(millis).expect("thirty days"))
}

impl Inner {
    fn group(&self, headers: &HeaderMap, uri: &Uri) -> Result<Name, Denial> {
        let relay = self.relay(headers)?;
        Ok(Name { relay, labels: path::labels(uri.path())? })
    }

    /// Sends what was pushed once more, and ends what is over. One relay's trouble is no other's.
    pub(super) async fn repeat_pushed(self: &Arc<Self>, at: Timestamp) {
        let (listed, gone) = self.good_groups();
        for name in gone {
            self.pushed.groups().forget(&name);
        }
        let (mut unrepeated, mut first) = (0, None);
        for part in parts(listed) {
            let count = part.len();
            if let Err(denial) = self.repeat_part(part, at).await {
                unrepeated += count;
                first.get_or_insert(denial);
            }
        }
        if let Some(denial) = first {
            tracing::warn!(groups = unrepeated, %denial, "pushed values are not repeated at this step");
        }
    }

    async fn repeat_part(self: &Arc<Self>, part: Vec<Name>, at: Timestamp) -> Result<(), Denial> {
        let held = self.room.take(0).await?;
        let relay = part.first().and_then(|name| name.relay);
        let origin = Origin { protocol: Protocol::Pushgateway, relay };
        let turn = move |inner: &Self, _: &mut _, mut sorter: Sorter<'_>| {
            let mut groups = inner.pushed.groups();
            for name in &part {
                groups.turn(name, at, &mut sorter);
            }
            Ok(sorter.sorted)
        };
        self.store(origin, held, turn).await.map(|_| ())
    }

    /// Groups to repeat, and those of tokens or instances that somebody has put out meanwhile: those
    /// would come to life again.
    fn good_groups(&self) -> (Vec<(Name, usize)>, Vec<Name>) {
        let registry = &self.parts.registry;
        let (mut good, mut gone) = (Vec::new(), Vec::new());
        for (name, pushed_at, count) in self.pushed.groups().list() {
            let label = |label: &str| name.label(label).to_owned();
            let space =
                Namespace { relay: name.relay, job: label("job"), instance: label("instance") };
            let is_withdrawn = registry.relayed(&space).is_some_and(|instance| {
                instance.lifecycle.end.as_ref().is_some_and(|end| end.at >= pushed_at)
            });
            if is_withdrawn || self.standing(name.relay).is_err() {
                gone.push(name);
            } else {
                good.push((name, count));
            }
        }
        (good, gone)
    }
}

/// Groups of one relay together, as many as one append takes.
fn parts(listed: Vec<(Name, usize)>) -> Vec<Vec<Name>> {
    let mut parts: Vec<Vec<Name>> = Vec::new();
    let mut series = 0;
    for (name, count) in listed {
        series += count + 1;
        match parts.last_mut() {
            Some(part) if part[0].relay == name.relay && series <= AT_ONCE => part.push(name),
            _ => {
                series = count + 1;
                parts.push(vec![name]);
            }
        }
    }
    parts
}

impl Intake {
    /// Keeps what is pushed in `folder`, and takes what an earlier process left there.
    pub fn keep_pushed(&self, folder: PathBuf) -> std::io::Result<()> {
        self.0.pushed.groups().keep_in(folder)
    }

    /// Repeats what was pushed at each step of the archives, until `shutdown` is ready.
    pub async fn repeat_pushed(self, shutdown: impl Future<Output = ()>) {
        let inner = self.0;
        let step = inner.parts.foreign_policy.step();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let now = inner.parts.clock.wall();
            let at = now.floor(step) + step;
            let wait_ms = u64::try_from(at.millis_since(now)).unwrap_or(0);
            tokio::select! {
                () = &mut shutdown => return,
                () = sleep(Duration::from_millis(wait_ms)) => {}
            }
            inner.repeat_pushed(at).await;
        }
    }
}
