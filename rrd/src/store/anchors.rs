//! Anchors of one counter, wherever they are: in the file, waiting, and where its series stands.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use super::columns::Series;
use super::instance::Form;
use super::read::Source;
use crate::file::{ANCHOR_LEN, AnchorRing, Block, Patches, run_of};
use crate::series::{RUN_STEPS, run_ms};
use crate::waiting::Waiting;
use crate::{Anchor, Column, Timestamp};

/// Some anchors of a column, the newest of each run. What comes first counts: the newest places are asked
/// before the older ones.
pub(super) struct Anchors {
    column: Column,
    run_ms: i64,
    /// Runs that are looked for.
    runs: Range<i64>,
    /// Those of this time are wanted, none later than where the series stands: an unfinished round may
    /// have left such in the file.
    from: Timestamp,
    to: Timestamp,
    found: BTreeMap<i64, Anchor>,
    /// Where the series stands.
    stand: Option<Anchor>,
}

impl Anchors {
    /// None as yet; no anchors at all where it is no counter, or has not begun.
    pub(super) fn of(
        form: &Form,
        series: &Series<'_>,
        (from, to): (Timestamp, Timestamp),
    ) -> Option<Self> {
        let kind = series.class.definition.kind;
        if !kind.is_count() || series.head.is_unborn() {
            return None;
        }
        let step = form.policy.step();
        let run_ms = run_ms(step);
        let last = series.head.last();
        let runs = runs_kept(form, series.head.opened(step).row(step));
        let (column, to) = (series.column(), to.min(last));
        let runs = runs.start.max(run_of(from, run_ms))..runs.end.min(run_of(to, run_ms) + 1);
        let stand =
            series.head.stand(kind, step).filter(|stand| from <= stand.at && stand.at <= to);
        Some(Self { column, run_ms, runs, from, to, found: BTreeMap::new(), stand })
    }

    /// All that can be read.
    pub(super) const fn always() -> (Timestamp, Timestamp) {
        (Timestamp::MIN, Timestamp::MAX)
    }

    fn add(&mut self, anchor: Anchor) {
        let run = run_of(anchor.at, self.run_ms);
        if self.runs.contains(&run) {
            self.found.entry(run).or_insert(anchor);
        }
    }

    /// Adds what waits, the newest first.
    pub(super) fn add_waiting<'a>(&mut self, waiting: impl Iterator<Item = &'a Waiting>) {
        let Column { index, generation } = self.column;
        for anchor in waiting.flat_map(|waiting| waiting.anchors(index, generation)) {
            self.add(anchor);
        }
    }

    /// Adds what the file has.
    pub(super) fn add_filed(&mut self, source: &Source<'_>, block: &Block) {
        let missing: Vec<i64> =
            self.runs.clone().filter(|run| !self.found.contains_key(run)).collect();
        self.read(source, block, &missing);
    }

    /// Adds what former archives have of these runs of theirs, which may be of other steps: what waits, the
    /// newest first, and what the file has.
    pub(super) fn add_former<'a>(
        &mut self,
        waiting: impl Iterator<Item = &'a Waiting>,
        source: &Source<'_>,
        (block, runs): (&Block, Range<i64>),
    ) {
        let Column { index, generation } = self.column;
        let mut waits = BTreeSet::new();
        for anchor in waiting.flat_map(|waiting| waiting.anchors(index, generation)) {
            let run = block.anchors.run_of(anchor.at);
            // The newest of a run is the first that comes.
            if runs.contains(&run) && waits.insert(run) {
                self.add(anchor);
            }
        }
        let moment = |run: i64| Timestamp::from_millis(run.saturating_mul(self.run_ms));
        let wanted = block.anchors.run_of(moment(self.runs.start).plus_millis(1))
            ..block.anchors.run_of(moment(self.runs.end)) + 1;
        let runs = runs.start.max(wanted.start)..runs.end.min(wanted.end);
        let filed: Vec<i64> = runs.rev().filter(|run| !waits.contains(run)).collect();
        self.read(source, block, &filed);
    }

    fn read(&mut self, source: &Source<'_>, block: &Block, runs: &[i64]) {
        if runs.is_empty() {
            return;
        }
        let (column, position) = (self.column, self.column.index - block.first_column);
        source.read_anchors(&block.anchors, runs, position, |run, bytes| {
            if let Some(anchor) = block.anchors.decode(column, run, bytes) {
                self.add(anchor);
            }
        });
    }

    /// Oldest first.
    pub(super) fn into_vec(self) -> Vec<Anchor> {
        let Self { found, from, to, stand, .. } = self;
        let mut all: Vec<_> =
            found.into_values().filter(|anchor| from <= anchor.at && anchor.at <= to).collect();
        let is_newer = |stand: &Anchor| all.last().is_none_or(|newest| newest.at < stand.at);
        all.extend(stand.filter(is_newer));
        all
    }

    /// Those that a file is to keep: without the one that the series itself tells.
    pub(super) fn into_kept(self) -> Vec<Anchor> {
        Self { stand: None, ..self }.into_vec()
    }
}

/// Runs of which anchors may be read when this is the newest closed row of the finest archive: always as
/// many as there are places, so that none of them is of an older lap.
pub(super) fn runs_kept(form: &Form, newest_row: i64) -> Range<i64> {
    let open = newest_row.div_euclid(RUN_STEPS);
    open + 1 - AnchorRing::reach(&form.archives[0])..open + 1
}

/// Writes the newest of each run that the block has room for.
pub(super) fn push_anchors(
    patches: &mut Patches<'_>,
    block: &Block,
    column: Column,
    newest_first: impl Iterator<Item = Anchor>,
) -> io::Result<()> {
    let ring = &block.anchors;
    let (mut newest, mut written) = (None, None);
    for anchor in newest_first {
        let run = ring.run_of(anchor.at);
        let is_same_lap = *newest.get_or_insert(run) - run < ring.place_count();
        if is_same_lap && written.is_none_or(|later| run < later) {
            let at = ring.offset_of(run, column.index - block.first_column);
            patches.push(at, &AnchorRing::encode(column, anchor))?;
            written = Some(run);
        }
    }
    Ok(())
}

impl Source<'_> {
    /// Hands over the bytes of each anchor that can be read.
    fn read_anchors(
        &self,
        ring: &AnchorRing,
        runs: &[i64],
        position: u32,
        mut take: impl FnMut(i64, &[u8; ANCHOR_LEN]),
    ) {
        let instance = self.instance;
        let failed = |reason: io::Error| {
            let what = format!("cannot be read: {reason}; its rows are unknown, check the disk");
            (self.failed)(instance.damage(what), &reason);
        };
        let len = instance.file_len();
        let source = match self.handles.source(instance.id, &instance.path, len) {
            Ok(source) => source,
            Err(reason) => return failed(reason),
        };
        for &run in runs {
            let mut bytes = [0; ANCHOR_LEN];
            match source.read_at(&mut bytes, ring.offset_of(run, position)) {
                Ok(()) => take(run, &bytes),
                Err(reason) => return failed(reason),
            }
        }
    }
}
