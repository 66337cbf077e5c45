//! A view: what pages and the API show of the alerter, taken in one short look.

use std::collections::BTreeMap;
use std::sync::Arc;

use rrd::{Labels, Timestamp};

use crate::letter::reading_text;
use crate::outbox::{Counts, DeadLetter, Row};
use crate::transition::{IncidentId, State, Transition};

/// Everything there is to show, at one moment. Transitions are shared, not copied.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Open alerts, gravest first, then newest first.
    pub open: Vec<OpenAlert>,
    /// The newest transitions, newest first.
    pub history: Vec<Arc<Transition>>,
    /// What waits for delivery, oldest first; a page full at most.
    pub waiting: Vec<Row>,
    /// How many rows wait in all.
    pub waiting_count: usize,
    /// What was given up, newest first; a page full at most.
    pub dead: Vec<DeadLetter>,
    /// Deliveries by channel, since the data folder was made.
    pub counts: BTreeMap<String, Counts>,
    /// The rules in order of file and place.
    pub rules: Vec<RuleView>,
}

/// Most rows of the outbox a view holds: a page shows no more.
pub(crate) const ROWS_SHOWN: usize = 200;

/// An incident that is not over.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenAlert {
    /// Its name, also the anchor of links in mail (`/alerts#inc_…`).
    pub incident: IncidentId,
    /// The rule.
    pub rule: String,
    /// Labels of the series, the rule's laid over them.
    pub labels: Labels,
    /// What it is in now.
    pub state: State,
    /// When its first transition was judged.
    pub opened: Timestamp,
    /// Its newest transition.
    pub last: Arc<Transition>,
    /// The newest value judged; `None` when data are missing.
    pub value: Option<f64>,
}

impl OpenAlert {
    /// The newest value with its unit, as a person reads it: `97 %`, or `no data`.
    pub fn reading(&self) -> String {
        reading_text(self.value, &self.last.unit)
    }
}

/// A rule and how it is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleView {
    /// The rule's name.
    pub name: String,
    /// The file it stands in.
    pub file: String,
    /// Its query.
    pub expr: String,
    /// Its thresholds as written: WARNING, CRITICAL.
    pub thresholds: [Option<String>; 2],
    /// Series in each state: OK, UNKNOWN, WARNING, CRITICAL.
    pub census: [usize; 4],
    /// Why its newest evaluation failed; `None` when it did not.
    pub problem: Option<String>,
    /// Its newest evaluation.
    pub evaluated: Option<Timestamp>,
}
