//! The engine's snapshot: what a checkpoint keeps, so that replay may start behind it.

use std::sync::Arc;

use rrd::Timestamp;
use tracing::warn;

use super::{Engine, Opened, RulesFrame};
use crate::codec::{self, DamagedFrame, Moment, SNAPSHOT_BYTES};
use crate::judge::{Phases, SavedPhases};
use crate::outbox::{Outbox, SavedOutbox};
use crate::rules::Rules;
use crate::transition::Transition;

/// The form of a snapshot that this program writes and reads.
const SNAPSHOT_VERSION: u32 = 1;

type Saved = (
    u32,
    (u64, RulesFrame, SavedPhases, Vec<(String, Moment)>),
    (Option<Moment>, Moment),
    (SavedOutbox, Vec<(Moment, Transition)>, Vec<Transition>, Vec<Transition>),
);

impl Engine {
    /// Everything that a replay from the next frame on needs. The caller guards it with a checksum.
    pub fn snapshot(&self) -> Vec<u8> {
        let grid = self.evaluated.iter().map(|(rule, at)| (rule.clone(), Moment(*at))).collect();
        let open = self.open.values().map(|opened| (Moment(opened.at), (*opened.last).clone()));
        let saved: Saved = (
            SNAPSHOT_VERSION,
            (self.applied, self.files.clone(), self.phases.saved(), grid),
            (self.last_stamp.map(Moment), Moment(self.excused_until)),
            (
                self.outbox.saved(),
                open.collect(),
                self.history.iter().map(|transition| (**transition).clone()).collect(),
                self.unwritten.iter().cloned().collect(),
            ),
        );
        codec::encode(&saved)
    }

    /// The engine of a snapshot, replaying; `channels` hear of what is judged from now on.
    pub fn restore(snapshot: &[u8], channels: Vec<String>) -> Result<Self, DamagedFrame> {
        const WHAT: &str = "the alerter's snapshot";
        let version: u32 = match snapshot.first() {
            Some(first) => u32::from(*first),
            None => 0,
        };
        if version != SNAPSHOT_VERSION {
            return Err(DamagedFrame::new(WHAT, &format!("version {version} is not ours")));
        }
        let (
            _,
            (applied, files, phases, grid),
            (last_stamp, Moment(excused_until)),
            (outbox, open, history, unwritten),
        ): Saved = codec::decode::<_, SNAPSHOT_BYTES>(WHAT, snapshot)?;
        let rules = Rules::check(&files).inspect_err(|problems| {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            warn!(problem = first, "rules in the snapshot are refused; alerts stay as they are");
        });
        let opened = |(Moment(at), last): (Moment, Transition)| {
            (last.incident, Opened { at, last: Arc::new(last) })
        };
        Ok(Self {
            is_blind: rules.is_err(),
            // Rules that are not in force are not the ones to compare new files with.
            files: if rules.is_ok() { files } else { Vec::new() },
            rules: rules.unwrap_or_default(),
            phases: Phases::restored(phases),
            evaluated: grid.into_iter().map(|(rule, Moment(at))| (rule, at)).collect(),
            unwritten: unwritten.into(),
            outbox: Outbox::restored(outbox),
            open: open.into_iter().map(opened).collect(),
            history: history.into_iter().map(Arc::new).collect(),
            channels,
            applied,
            last_stamp: last_stamp.map(|Moment(at)| at),
            excused_until,
            next_boundary: Timestamp::MIN,
            ..Self::default()
        })
    }
}
