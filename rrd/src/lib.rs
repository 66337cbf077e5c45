//! A round-robin store: fixed-size archives of many series, with rrdtool's semantics.
//!
//! Synchronous; it never asks for the time and never opens a socket. The words of the whole program
//! (time, labels, kinds, policies) are defined here, because every other crate speaks them.

/// Series an instance may have: ten times what a busy machine's exporter sends.
pub const MAX_COLUMNS: usize = 10_000;

mod calendar;
mod cell;
pub mod clock;
mod codec;
mod cold;
pub mod disk;
mod error;
mod file;
mod frame;
mod handles;
pub mod hex;
mod ids;
pub mod import;
mod kind;
mod labels;
mod map;
mod matcher;
pub mod parallel;
mod policy;
mod series;
pub mod size;
mod store;
pub mod time;
pub mod tool;
mod waiting;

pub use calendar::Calendar;
pub use cell::Cell;
pub use clock::{Clock, ManualClock};
pub use codec::{Change, ChangeFrame, GrantFrame, GrantedSeries};
pub use disk::{Disk, File, MemDisk, OsDisk};
pub use error::{ChangeError, Damage, GrantError, Refusal, StoreError};
pub use frame::{Batch, FRAME_CHANGE, FRAME_GRANT, FRAME_SAMPLES, FrameError, Sample, SampleFrame};
pub use ids::{Column, InstanceId, InstanceIdError, SeriesRef};
pub use kind::Kind;
pub use labels::{LabelError, Labels, NAME};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use policy::{ArchiveSpec, Policy, PolicyError};
pub use store::{
    Anchor, BadTile, ChangePlan, Check, Checked, GrantRequest, InstanceChange, InstanceInfo, Loss,
    NewSeries, ONE_SLOT_DAMAGED, ReclaimCandidate, RollUp, RollUpFrame, RolledUp, Room, Round,
    RoundReport, RowParts, Rows, RowsWanted, SeriesInfo, SlotView, Slots, Store, Verdicts,
    inspect_slots,
};
pub use time::{Span, Step, Timestamp};
