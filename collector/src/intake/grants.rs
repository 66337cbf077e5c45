//! Columns for series: looked up, or granted with room on the disk before the first sample is
//! taken.

use rrd::{Column, GrantError, GrantFrame, GrantRequest, NewSeries, Policy, Refusal, Room};

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
        if !store.is_loaded(instance.id) {
            return self.grant(instance, series);
        }
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
        let mut granted = Vec::with_capacity(series.len());
        for part in series.chunks(SERIES_IN_FRAME) {
            granted.extend(self.grant_all(instance, part)?);
        }
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
            self.parts.journal.append(rrd::FRAME_GRANT, &frame.encode())
        };
        let all = |reason, message: String| Ok(vec![Err((reason, message)); series.len()]);
        // The history of a silent series would be lost for the new one: beyond the limit refuse that.
        let before = self.parts.store.archive_bytes(instance.id);
        let granted = loop {
            let bytes = self.disk_room();
            let room = Room { most: SERIES_GRANT, reuse_after_ms: u64::MAX, bytes };
            match self.parts.store.grant_within(room, request, &mut append) {
                Err(GrantError::DiskFull { needed, .. }) if needed > bytes => {
                    if !self.make_room(needed) {
                        self.limit_reached(instance.id);
                        let limit = "the archives have reached the disk limit; raise it or withdraw \
                                     instances that are gone";
                        return all(Reason::DiskFull, limit.to_owned());
                    }
                }
                outcome => break outcome,
            }
        };
        self.has_grown(instance.id, before);
        match granted {
            Ok(granted) => Ok(granted.into_iter().map(|one| one.map_err(explained)).collect()),
            Err(GrantError::Append(refused)) => Err(refused.into()),
            Err(error @ GrantError::Leaving(_)) => Err(Denial::later("busy", error.to_string())),
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
    match refusal {
        Refusal::TooManySeries => {
            let message = format!(
                "the instance has {SERIES_GRANT} series, as many as it may have; send fewer"
            );
            (Reason::SeriesLimit, message)
        }
        Refusal::KeyTooLong => (Reason::LabelLimit, refusal.to_string()),
    }
}
