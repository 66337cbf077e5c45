//! What a cloud says of an instance, kept until silence asks for it.

use rrd::Timestamp;

/// How long before the silence a word counts for it: a spot notice comes two minutes ahead, an autoscaling
/// group waits for its hooks for up to an hour.
const FRESH_MS: i64 = 3_600_000;

/// The last word of a cloud on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// When it was heard.
    pub at: Timestamp,
    /// True: it is or will be gone. False: it runs.
    pub is_gone: bool,
    /// The word, for a person.
    pub what: String,
}

impl Hint {
    /// True when it still tells something of a silence that began at `silent_since`.
    pub(super) fn is_about(&self, silent_since: Timestamp) -> bool {
        self.at >= silent_since.plus_millis(-FRESH_MS)
    }
}
