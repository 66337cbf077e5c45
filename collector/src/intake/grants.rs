//! Columns for series: looked up, or granted with room on the disk before the first sample is
//! taken.

use std::borrow::Cow;

use rrd::{Column, GrantError, GrantFrame, GrantRequest, NewSeries, Policy, Refusal, Room};

use super::{Denial, Inner};
use crate::accounting::Reason;
use crate::limits::SERIES_GRANT;
use crate::registry::{Instance, Source};

/// Series of one grant frame: that many of the longest labels fit the frames of the smallest journal
/// (16 MiB), which takes no body above half a megabyte.
const SERIES_IN_FRAME: usize = 200;
/// Instances whose archives are made or grow at once: as many files are open, by each of the requests that
/// have a turn, and one sync of the disk is shared by all.
const INSTANCES_AT_ONCE: usize = 64;

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
        let mut columns = self.columns_of_all(&[(instance, series)])?;
        Ok(columns.pop().expect("columns for each instance"))
    }

    /// The same for several instances, each named once: the disk is waited for once for many.
    pub(super) fn columns_of_all(
        &self,
        wanted: &[(&Instance, &[NewSeries])],
    ) -> Result<Vec<Vec<Granted>>, Denial> {
        let mut found: Vec<Vec<Option<Granted>>> =
            wanted.iter().map(|(instance, series)| self.known_columns(instance, series)).collect();
        for first in (0..wanted.len()).step_by(INSTANCES_AT_ONCE) {
            let last = wanted.len().min(first + INSTANCES_AT_ONCE);
            self.find(&wanted[first..last], &mut found[first..last])?;
        }
        let all = |found: Vec<Option<Granted>>| {
            found.into_iter().map(|one| one.expect("known or granted")).collect()
        };
        Ok(found.into_iter().map(all).collect())
    }

    fn known_columns(&self, instance: &Instance, series: &[NewSeries]) -> Vec<Option<Granted>> {
        let store = &self.parts.store;
        if !store.is_loaded(instance.id) {
            return vec![None; series.len()];
        }
        let column = |one: &NewSeries| store.resolve(instance.id, &one.labels.to_key()).map(Ok);
        series.iter().map(column).collect()
    }

    /// Grants what is not found, a frame of each instance at a time.
    fn find(
        &self,
        wanted: &[(&Instance, &[NewSeries])],
        found: &mut [Vec<Option<Granted>>],
    ) -> Result<(), Denial> {
        loop {
            let (mut places, mut parts) = (Vec::new(), Vec::new());
            for (number, (found, (instance, series))) in found.iter().zip(wanted).enumerate() {
                let missing = (0..found.len()).filter(|place| found[*place].is_none());
                let missing: Vec<usize> = missing.take(SERIES_IN_FRAME).collect();
                if !missing.is_empty() {
                    parts.push((*instance, part(series, &missing)));
                    places.push((number, missing));
                }
            }
            if parts.is_empty() {
                return Ok(());
            }
            for ((number, missing), granted) in places.into_iter().zip(self.grant(&parts)?) {
                for (place, granted) in missing.into_iter().zip(granted) {
                    found[number][place] = Some(granted);
                }
            }
        }
    }

    /// Grants what the instances' limits leave room for; the series after that are refused.
    fn grant(
        &self,
        parts: &[(&Instance, Cow<'_, [NewSeries]>)],
    ) -> Result<Vec<Vec<Granted>>, Denial> {
        let store = &self.parts.store;
        let before: Vec<u64> =
            parts.iter().map(|(instance, _)| store.archive_bytes(instance.id)).collect();
        let bytes = self.disk_room();
        let requests: Vec<_> = parts
            .iter()
            .map(|(instance, series)| (room(instance, bytes), self.request(instance, series)))
            .collect();
        let answers = store.grant_each(&requests, &mut |frame| self.append_grant(frame));
        for ((instance, _), before) in parts.iter().zip(before) {
            self.has_grown(instance.id, before);
        }
        for ((instance, _), answer) in parts.iter().zip(&answers) {
            self.forget_former(instance, answer);
        }
        let told = parts.iter().zip(answers).map(|((instance, series), answer)| match answer {
            // Alone it may have what others are made to give.
            Err(GrantError::DiskFull { .. }) => self.grant_alone(instance, series),
            answer => told(instance, series.len(), answer),
        });
        told.collect()
    }

    fn request<'a>(&'a self, instance: &'a Instance, series: &'a [NewSeries]) -> GrantRequest<'a> {
        let (policy, labels) = (self.policy(instance), &instance.labels);
        GrantRequest { instance: instance.id, policy, labels, series }
    }

    fn append_grant(&self, frame: &GrantFrame) -> Result<u64, journal::Refused> {
        self.parts.journal.append(rrd::FRAME_GRANT, &frame.encode())
    }

    fn grant_alone(
        &self,
        instance: &Instance,
        series: &[NewSeries],
    ) -> Result<Vec<Granted>, Denial> {
        let request = self.request(instance, series);
        let before = self.parts.store.archive_bytes(instance.id);
        let answer = loop {
            let bytes = self.disk_room();
            let room = room(instance, bytes);
            let mut append = |frame: &GrantFrame| self.append_grant(frame);
            match self.parts.store.grant_within(room, request, &mut append) {
                Err(GrantError::DiskFull { needed, .. }) if needed > bytes => {
                    if !self.make_room(needed) {
                        self.limit_reached(instance.id);
                        let limit = "the archives have reached the disk limit; raise it or withdraw \
                                     instances that are gone";
                        return Ok(none(series.len(), Reason::DiskFull, limit));
                    }
                }
                outcome => break outcome,
            }
        };
        self.has_grown(instance.id, before);
        self.forget_former(instance, &answer);
        told(instance, series.len(), answer)
    }

    /// Where a column was another series' before, nobody shall be sent there any more who asks for that one.
    /// Agents in a session are told once the worker has seen one of its readings.
    fn forget_former(
        &self,
        instance: &Instance,
        answer: &Result<Vec<Result<Column, Refusal>>, GrantError<journal::Refused>>,
    ) {
        let mut granted = answer.iter().flatten().flatten();
        if granted.any(|column| column.generation > 1) {
            self.cache.forget(instance.id);
        }
    }
}

/// What the sender is told of a grant of so many series.
fn told(
    instance: &Instance,
    count: usize,
    answer: Result<Vec<Result<Column, Refusal>>, GrantError<journal::Refused>>,
) -> Result<Vec<Granted>, Denial> {
    match answer {
        Ok(granted) => {
            let most = series_grant(instance);
            let explained = |refusal| explained(refusal, most);
            Ok(granted.into_iter().map(|one| one.map_err(explained)).collect())
        }
        Err(GrantError::Append(refused)) => Err(refused.into()),
        Err(error @ GrantError::Leaving(_)) => Err(Denial::later("busy", error.to_string())),
        Err(error @ GrantError::DiskFull { .. }) => {
            tracing::warn!(instance = %instance.id, %error, "no space for new series");
            let message = "no space is left for new series; free some";
            Ok(none(count, Reason::DiskFull, message))
        }
        Err(error @ GrantError::LabelsTooLong(_)) => {
            Ok(none(count, Reason::LabelLimit, &error.to_string()))
        }
        Err(error) => {
            tracing::error!(instance = %instance.id, %error, "cannot grant columns");
            let message = "the store could not take the series; the server's log says why";
            Ok(none(count, Reason::Store, message))
        }
    }
}

/// The series at these places, in order; copied only where others lie between them.
fn part<'a>(series: &'a [NewSeries], places: &[usize]) -> Cow<'a, [NewSeries]> {
    match (places.first(), places.last()) {
        (Some(&first), Some(&last)) if last - first < places.len() => {
            Cow::Borrowed(&series[first..=last])
        }
        _ => places.iter().map(|place| series[*place].clone()).collect(),
    }
}

fn room(instance: &Instance, bytes: u64) -> Room {
    Room { most: series_grant(instance), reuse_after_ms: Room::REUSE_AFTER_MS, bytes }
}

fn none(count: usize, reason: Reason, message: &str) -> Vec<Granted> {
    vec![Err((reason, message.to_owned())); count]
}

/// Series that an instance may have: what its token or the person who approved it said, or the usual.
fn series_grant(instance: &Instance) -> usize {
    instance.series_quota.and_then(|series| usize::try_from(series).ok()).unwrap_or(SERIES_GRANT)
}

fn explained(refusal: Refusal, most: usize) -> (Reason, String) {
    match refusal {
        Refusal::TooManySeries => {
            let message = format!(
                "the instance has {most} series, as many as it may have, and none that was silent \
                     for a day can make room; send fewer"
            );
            (Reason::SeriesLimit, message)
        }
        Refusal::KeyTooLong => (Reason::LabelLimit, refusal.to_string()),
    }
}
