//! A source: something on this machine that is asked at each look, besides the kernel.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use rrd::{Step, Timestamp};

use super::reading::Readings;

/// How long a source may take unless it says otherwise: half of the usual step.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Something that is asked at each look and may wait: an exporter, a plugin, a socket that collects.
///
/// A look never waits for a source. What comes within [`PROMPT`] belongs to the look's moment, what
/// comes later to its own; while a source is still being asked it is not asked again.
///
/// [`PROMPT`]: super::sources::PROMPT
pub(crate) trait Source: Send {
    /// Adds this source's readings to `out`, or says why there are none. Runs in a task of its own and
    /// must not block it; when the time is over the future is dropped, and the source asked again at
    /// the next look.
    fn read<'a>(&'a mut self, look: Look, out: &'a mut Readings) -> Answer<'a>;

    /// How long it may take.
    fn timeout(&self) -> Duration {
        TIMEOUT
    }

    /// Time between two looks at this source, when it is longer than the agent's step.
    fn step(&self) -> Option<Step> {
        None
    }
}

/// What a source's answer is waited for with.
pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), Trouble>> + Send + 'a>>;

/// The look a source is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Its moment.
    pub(crate) at: Timestamp,
    /// Time between looks of the agent.
    pub(crate) step: Step,
}

/// Why a source gave no readings, for a person. What is in `out` by then is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trouble(pub(crate) String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
