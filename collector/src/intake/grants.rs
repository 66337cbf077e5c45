//! Columns for series: looked up, or granted with room on the disk before the first sample is
//! taken.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rrd::{
    Column, GrantError, GrantFrame, GrantRequest, InstanceId, NewSeries, Policy, Refusal, Store,
};

use super::{Denial, Inner};
use crate::accounting::Reason;
use crate::limits::SERIES_GRANT;
use crate::registry::{Instance, Source};

/// Series of one grant frame: that many of the longest labels fit the frames of the smallest journal
/// (16 MiB), which takes no body above half a megabyte.
const SERIES_IN_FRAME: usize = 200;

/// The column of one series, or why it has none.
pub(super) type Granted = Result<Column, (Reason, String)>;

impl Inner {
    /// The policy of an instance's archives.
    pub(super) fn policy(&self, instance: &Instance) -> &Policy {
        match instance.source {
            Source::Enrolled(_) => &self.parts.agent_policy,
            Source::Relay(_) => &self.parts.foreign_policy,
        }
    }

    /// How far back an instance's longest archive reaches.
    pub(super) fn keep_ms(policy: &Policy) -> i64 {
        let reach = |archive: &rrd::ArchiveSpec| {
            i64::try_from(archive.step.as_millis().saturating_mul(archive.row_count))
                .unwrap_or(i64::MAX)
        };
        policy.archives().iter().map(reach).max().unwrap_or(i64::MAX)
    }

    /// The column of each series of `instance`. Waits for the disk where series are new.
    ///
    /// Errors only when the journal takes no grant; a series without a place is refused by itself.
    pub(super) fn columns(
        &self,
        instance: &Instance,
        series: &[NewSeries],
    ) -> Result<Vec<Granted>, Denial> {
        let store = &self.parts.store;
        let mut found: Vec<Option<Granted>> = series
            .iter()
            .map(|one| store.resolve(instance.id, &one.labels.to_key()).map(Ok))
            .collect();
        let new: Vec<usize> =
            found.iter().enumerate().filter(|(_, one)| one.is_none()).map(|(at, _)| at).collect();
        if !new.is_empty() {
            let wanted: Vec<NewSeries> = new.iter().map(|at| series[*at].clone()).collect();
            for (at, granted) in new.into_iter().zip(self.grant(instance, &wanted)?) {
                found[at] = Some(granted);
            }
        }
        Ok(found.into_iter().map(|one| one.expect("found or granted")).collect())
    }

    /// Grants what the instance's limit leaves room for; the series after that are refused.
    fn grant(&self, instance: &Instance, series: &[NewSeries]) -> Result<Vec<Granted>, Denial> {
        let room = self.granted.room(&self.parts.store, instance.id);
        let (taken, left) = series.split_at(series.len().min(room));
        let mut granted = Vec::with_capacity(series.len());
        for part in taken.chunks(SERIES_IN_FRAME) {
            granted.extend(self.grant_all(instance, part)?);
        }
        let message =
            format!("the instance has {SERIES_GRANT} series, as many as it may have; send fewer");
        granted.extend(left.iter().map(|_| Err((Reason::SeriesLimit, message.clone()))));
        Ok(granted)
    }

    fn grant_all(&self, instance: &Instance, series: &[NewSeries]) -> Result<Vec<Granted>, Denial> {
        let request = GrantRequest {
            instance: instance.id,
            policy: self.policy(instance),
            labels: &instance.labels,
            series,
        };
        let mut append = |frame: &GrantFrame| -> Result<u64, journal::Refused> {
            let seq = self.parts.journal.append(rrd::FRAME_GRANT, &frame.encode())?;
            self.granted.add(instance.id, frame.series.len());
            Ok(seq)
        };
        let all = |reason, message: String| Ok(vec![Err((reason, message)); series.len()]);
        match self.parts.store.grant(request, &mut append) {
            Ok(granted) => Ok(granted.into_iter().map(|one| one.map_err(explained)).collect()),
            Err(GrantError::Append(refused)) => Err(refused.into()),
            Err(error @ GrantError::DiskFull { .. }) => {
                tracing::warn!(instance = %instance.id, %error, "no space for new series");
                all(Reason::DiskFull, "no space is left for new series; free some".to_owned())
            }
            Err(error @ GrantError::LabelsTooLong(_)) => all(Reason::LabelLimit, error.to_string()),
            Err(error) => {
                tracing::error!(instance = %instance.id, %error, "cannot grant columns");
                let message = "the store could not take the series; the server's log says why";
                all(Reason::Store, message.to_owned())
            }
        }
    }
}

fn explained(refusal: Refusal) -> (Reason, String) {
    let reason = match refusal {
        Refusal::TooManySeries => Reason::SeriesLimit,
        Refusal::KeyTooLong => Reason::LabelLimit,
    };
    (reason, refusal.to_string())
}

/// How many columns each instance has. Two requests at once may pass the limit by what both bring;
/// the store's own limit they cannot pass.
#[derive(Debug, Default)]
pub(super) struct GrantedCounts {
    counts: OnceLock<Mutex<HashMap<InstanceId, usize>>>,
}

impl GrantedCounts {
    fn room(&self, store: &Store, instance: InstanceId) -> usize {
        let counts = self.counts.get_or_init(|| {
            let counted = store.instances().into_iter().map(|one| (one.id, one.series_count));
            Mutex::new(counted.collect())
        });
        let count = lock(counts).get(&instance).copied().unwrap_or_default();
        SERIES_GRANT.saturating_sub(count)
    }

    fn add(&self, instance: InstanceId, new: usize) {
        if let Some(counts) = self.counts.get() {
            *lock(counts).entry(instance).or_default() += new;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
