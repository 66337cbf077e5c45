//! A round-robin store: fixed-size archives of many series, with rrdtool's semantics.
//!
//! Synchronous; it never asks for the time and never opens a socket. The words of the whole program
//! (time, labels, kinds, policies) are defined here, because every other crate speaks them.

pub mod clock;
pub mod disk;
mod kind;
mod labels;
mod matcher;
pub mod time;

pub use clock::{Clock, ManualClock};
pub use disk::{Disk, File};
pub use kind::Kind;
pub use labels::{LabelError, Labels, NAME};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use time::{Span, Step, Timestamp};
