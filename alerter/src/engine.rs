//! The engine: rules, phases, open alerts and outbox, driven by the journal's frames in order.
//!
//! Two kinds of state. Phases and grid times follow from the samples before them and change when
//! judged; open alerts, history and outbox change only when the journal brings the transitions
//! back. What was judged and has not come back yet is `unwritten`: after a crash, replay judges
//! again, the frames it meets strike their transitions off, and what is left was lost and is owed.

mod snapshot;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use query::Read;
use rrd::{Labels, Timestamp};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::Problem;
use crate::codec::{self, DamagedFrame, FRAME_BYTES};
use crate::judge::{Absence, Phases, evaluate};
use crate::outbox::{Delivery, Outbox, Row};
use crate::rules::{Rule, Rules};
use crate::transition::{IncidentId, State, Transition, TransitionId};
use crate::view::{OpenAlert, ROWS_SHOWN, RuleView, View};

/// Journal frame: the texts of all rule files.
pub const FRAME_RULES: u8 = 32;
/// Journal frame: transitions and the channels that are to hear of each.
pub const FRAME_TRANSITIONS: u8 = 33;
/// Journal frame: the outcome of one attempt to deliver one outbox row.
pub const FRAME_DELIVERY: u8 = 34;

/// Bytes after which transitions go on in another frame: half of what the smallest journal (16 MiB)
/// takes. A longer one would be refused each time it is appended, and nobody would ever be told.
const TRANSITIONS_FRAME_BYTES: usize = 256 << 10;

/// Most bytes of all rule files together: what one journal frame takes, and room for their names.
const RULES_BYTES: usize = journal::MAX_BODY_BYTES / 4 * 3;

/// Most transitions kept to look back at; the newest win.
pub(crate) const HISTORY_MOST: usize = 2_000;

/// A gap in the journal's time, in milliseconds, that only a stopped server leaves: it ticks every
/// five seconds.
const PAUSE_MS: i64 = 60_000;

/// How long senders have to find back after a pause, in milliseconds: the slowest usual interval
/// (a minute) and a sender's longest wait between retries.
const EXCUSED_MS: i64 = 5 * 60_000;

type RulesFrame = Vec<(String, String)>;
type TransitionsFrame = Vec<(Transition, Vec<String>)>;

/// Everything the worker drives. Behind one lock, held for the length of a call.
#[derive(Default)]
pub struct Engine {
    files: RulesFrame,
    rules: Rules,
    phases: Phases,
    /// The newest grid boundary at which each rule was judged.
    evaluated: BTreeMap<String, Timestamp>,
    /// Why the newest evaluation of a rule failed.
    failures: BTreeMap<String, String>,
    /// Judged, but not yet back from the journal; in order of judgement.
    unwritten: VecDeque<Transition>,
    outbox: Outbox,
    open: BTreeMap<IncidentId, Opened>,
    history: VecDeque<Arc<Transition>>,
    /// Channels that hear of transitions judged from now on.
    channels: Vec<String>,
    /// The newest frame applied.
    applied: u64,
    /// The newest stamp seen.
    last_stamp: Option<Timestamp>,
    /// Until then, missing series are not held against anybody.
    excused_until: Timestamp,
    /// No rule has a grid boundary to judge at before this.
    next_boundary: Timestamp,
    is_live: bool,
    /// Some of `unwritten` was refused by the journal.
    is_behind: bool,
    /// The rules of the snapshot could not be read.
    is_blind: bool,
    bell: Arc<Notify>,
}

/// An open alert without what its phase knows.
struct Opened {
    at: Timestamp,
    last: Arc<Transition>,
}

impl Engine {
    /// An engine without rules that replays: nothing is to be appended before [`Engine::end_replay`].
    pub fn new(channels: Vec<String>) -> Self {
        Self { channels, next_boundary: Timestamp::MIN, ..Self::default() }
    }

    /// The body of a [`FRAME_RULES`] for these files, or everything that is wrong with them.
    pub fn rules_frame(files: &[(String, String)]) -> Result<Vec<u8>, Vec<Problem>> {
        Rules::check(files)?;
        let body = codec::encode(&files.to_vec());
        if body.len() > RULES_BYTES {
            let message = format!(
                "{} bytes of rules, at most {RULES_BYTES} fit the journal; shorten them",
                body.len()
            );
            return Err(vec![Problem { file: "rules".to_owned(), line: 1, message }]);
        }
        Ok(body)
    }

    /// True when these files are the rules in force already, and no frame is needed.
    pub fn has_rules(&self, files: &[(String, String)]) -> bool {
        self.files == files
    }

    /// The rules in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Rings when rows may have become due; [`crate::notify::run`] listens.
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Judges every rule whose grid has a boundary in (its last one, `stamp`], at the last such
    /// boundary. To be called with each frame's stamp before that frame is applied.
    ///
    /// Returns bodies of [`FRAME_TRANSITIONS`] to append; none during replay.
    #[must_use = "transitions that are not appended are not delivered"]
    pub fn advance(&mut self, stamp: Timestamp, read: &dyn Read) -> Vec<Vec<u8>> {
        let absence = self.absence(stamp);
        if stamp < self.next_boundary && !self.is_behind {
            return Vec::new();
        }
        let mut transitions = Vec::new();
        // Rules that another release wrote and this one cannot read were not removed.
        if !self.is_blind {
            transitions.extend(self.phases.close_removed(&self.rules, stamp));
        }
        self.next_boundary = Timestamp::MAX;
        for rule in self.rules.iter() {
            self.next_boundary = self.next_boundary.min(stamp.floor(rule.every) + rule.every);
            let boundary = stamp.floor(rule.every);
            if self.evaluated.get(&rule.name).is_some_and(|last| *last >= boundary) {
                continue;
            }
            self.evaluated.insert(rule.name.clone(), boundary);
            let readings = match evaluate(&rule.expr, read, boundary) {
                Ok(readings) => {
                    self.failures.remove(&rule.name);
                    readings
                }
                Err(failure) => {
                    note_failure(&mut self.failures, rule, failure);
                    Vec::new()
                }
            };
            transitions.extend(self.phases.judge_as(rule, readings, boundary, absence));
        }
        self.owe(transitions)
    }

    /// Notices a pause of this server itself: nobody could send meanwhile, so nobody is missing.
    fn absence(&mut self, stamp: Timestamp) -> Absence {
        let last = self.last_stamp.replace(stamp).unwrap_or(stamp);
        if stamp.millis_since(last) > PAUSE_MS {
            self.excused_until = stamp.plus_millis(EXCUSED_MS);
        }
        if stamp < self.excused_until { Absence::Excused } else { Absence::Counts }
    }

    /// Closes the alerts of a withdrawn instance: those whose series carry all of `labels`.
    /// To be called when the frame that withdraws it is applied; returns bodies to append.
    #[must_use = "transitions that are not appended are not delivered"]
    pub fn withdraw(&mut self, labels: &Labels, stamp: Timestamp) -> Vec<Vec<u8>> {
        let transitions = self.phases.withdraw(labels, stamp);
        self.owe(transitions)
    }

    /// An append of what [`Engine::advance`], [`Engine::withdraw`] or [`Engine::end_replay`] gave
    /// was refused: the next call gives everything that is not in the journal again, in order.
    pub fn append_refused(&mut self) {
        self.is_behind = true;
    }

    fn owe(&mut self, transitions: Vec<Transition>) -> Vec<Vec<u8>> {
        let fresh = self.unwritten.len();
        self.unwritten.extend(transitions);
        if !self.is_live {
            return Vec::new();
        }
        let owed = if std::mem::take(&mut self.is_behind) { 0 } else { fresh };
        self.bodies(self.unwritten.iter().skip(owed))
    }

    /// Ends the replay of the journal. Returns bodies of [`FRAME_TRANSITIONS`] for what was judged
    /// but never reached the journal.
    #[must_use = "transitions that are not appended are not delivered"]
    pub fn end_replay(&mut self) -> Vec<Vec<u8>> {
        self.is_live = true;
        self.bodies(self.unwritten.iter())
    }

    fn bodies<'t>(&self, transitions: impl Iterator<Item = &'t Transition>) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        let mut frame = TransitionsFrame::new();
        let mut bytes = 0;
        for transition in transitions {
            let entry = (transition.clone(), self.hearers(transition));
            bytes += codec::encode(&entry).len();
            if !frame.is_empty() && bytes > TRANSITIONS_FRAME_BYTES {
                bodies.push(codec::encode(&std::mem::take(&mut frame)));
                bytes = 0;
            }
            frame.push(entry);
        }
        if !frame.is_empty() {
            bodies.push(codec::encode(&frame));
        }
        bodies
    }

    fn hearers(&self, transition: &Transition) -> Vec<String> {
        if transition.notify { self.channels.clone() } else { Vec::new() }
    }

    /// Applies a committed frame. A frame at or below the newest applied one changes nothing.
    pub fn apply(&mut self, seq: u64, kind: u8, body: &[u8]) -> Result<(), DamagedFrame> {
        if seq <= self.applied {
            return Ok(());
        }
        match kind {
            FRAME_RULES => self.apply_rules(body)?,
            FRAME_TRANSITIONS => self.apply_transitions(body)?,
            FRAME_DELIVERY => self.outbox.settle(&Delivery::decode(body)?),
            _ => return Err(DamagedFrame::new("a frame", &format!("kind {kind} is not ours"))),
        }
        self.applied = seq;
        self.bell.notify_one();
        Ok(())
    }

    fn apply_rules(&mut self, body: &[u8]) -> Result<(), DamagedFrame> {
        let files: RulesFrame = codec::decode::<_, FRAME_BYTES>("a rules frame", body)?;
        match Rules::check(&files) {
            Ok(rules) => {
                info!(rules = rules.len(), files = files.len(), "rules are in force");
                self.evaluated.retain(|name, _| rules.get(name).is_some());
                self.failures.retain(|name, _| rules.get(name).is_some());
                (self.files, self.rules) = (files, rules);
                self.next_boundary = Timestamp::MIN;
                self.is_blind = false;
            }
            // They were good when they were appended: another release reads them otherwise.
            Err(problems) => {
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                warn!(problem = first, "rules in the journal are refused; the old ones stay");
            }
        }
        Ok(())
    }

    fn apply_transitions(&mut self, body: &[u8]) -> Result<(), DamagedFrame> {
        let frame: TransitionsFrame = codec::decode::<_, FRAME_BYTES>("a transitions frame", body)?;
        for (transition, channels) in frame {
            if !self.strike_off(transition.id) {
                if self.is_repeat(&transition) {
                    continue;
                }
                self.adopt(&transition);
            }
            self.record(Arc::new(transition), channels);
        }
        Ok(())
    }

    /// True when this transition was applied before, as after an append made twice.
    fn is_repeat(&self, transition: &Transition) -> bool {
        let newer = |opened: &Opened| opened.last.sequence >= transition.sequence;
        self.open.get(&transition.incident).is_some_and(newer)
            || self.history.iter().rev().any(|past| past.id == transition.id)
    }

    fn strike_off(&mut self, id: TransitionId) -> bool {
        let place = self.unwritten.iter().position(|owed| owed.id == id);
        place.and_then(|place| self.unwritten.remove(place)).is_some()
    }

    /// The journal holds what judging again did not come to: the journal wins.
    fn adopt(&mut self, told: &Transition) {
        warn!(rule = told.rule, transition = %told.id, "judged otherwise before; taken as it was");
        self.unwritten.retain(|owed| (&owed.rule, &owed.labels) != (&told.rule, &told.labels));
        if let Some(rule) = self.rules.get(&told.rule) {
            self.phases.adopt(rule, told);
        }
    }

    fn record(&mut self, transition: Arc<Transition>, channels: Vec<String>) {
        info!(
            transition = %transition.id,
            rule = transition.rule,
            subject = transition.subject(),
            from = %transition.from,
            to = %transition.to,
            "alert changed"
        );
        for channel in channels {
            self.outbox.add(Arc::clone(&transition), channel, transition.at);
        }
        if transition.to == State::Ok {
            self.open.remove(&transition.incident);
        } else {
            let last = Arc::clone(&transition);
            let opened = Opened { at: transition.at, last: Arc::clone(&last) };
            let opened = self.open.entry(transition.incident).or_insert(opened);
            if last.sequence > opened.last.sequence {
                opened.last = last;
            }
        }
        self.history.push_back(transition);
        if self.history.len() > HISTORY_MOST {
            self.history.pop_front();
        }
    }

    /// Up to `most` rows to deliver at `now`, and when the next after them is due.
    pub fn due(
        &self,
        now: Timestamp,
        busy: &BTreeSet<u64>,
        most: usize,
    ) -> (Vec<Row>, Option<Timestamp>) {
        let rows = self.outbox.due(now, busy, most);
        let taken: BTreeSet<u64> =
            busy.iter().copied().chain(rows.iter().map(|row| row.number)).collect();
        let next = self.outbox.next_due(&taken);
        (rows, next)
    }

    /// What there is to show.
    pub fn view(&self) -> View {
        let latest = self.phases.latest();
        let mut open: Vec<OpenAlert> =
            self.open.iter().map(|(id, opened)| opened.view(*id, &latest)).collect();
        open.sort_by_key(|alert| (std::cmp::Reverse(alert.state), std::cmp::Reverse(alert.opened)));
        View {
            open,
            history: self.history.iter().rev().cloned().collect(),
            waiting: self.outbox.waiting().take(ROWS_SHOWN).cloned().collect(),
            waiting_count: self.outbox.waiting().len(),
            dead: self.outbox.dead().take(ROWS_SHOWN).cloned().collect(),
            counts: self.outbox.counts().clone(),
            rules: self.rules.iter().map(|rule| self.rule_view(rule)).collect(),
        }
    }

    fn rule_view(&self, rule: &Rule) -> RuleView {
        let raise = |level: Option<crate::rules::Level>| level.map(|l| l.raise.to_string());
        RuleView {
            name: rule.name.clone(),
            file: rule.file.clone(),
            expr: rule.text.clone(),
            thresholds: [raise(rule.warning), raise(rule.critical)],
            census: self.phases.census(&rule.name),
            problem: self.failures.get(&rule.name).cloned(),
            evaluated: self.evaluated.get(&rule.name).copied(),
        }
    }
}

impl Opened {
    fn view(&self, incident: IncidentId, latest: &BTreeMap<IncidentId, Option<f64>>) -> OpenAlert {
        OpenAlert {
            incident,
            rule: self.last.rule.clone(),
            labels: self.last.labels.clone(),
            state: self.last.to,
            opened: self.at,
            last: Arc::clone(&self.last),
            value: latest.get(&incident).copied().flatten(),
        }
    }
}

/// Keeps why a rule could not be evaluated, and logs it when it is news.
fn note_failure(failures: &mut BTreeMap<String, String>, rule: &Rule, failure: String) {
    if failures.get(&rule.name) != Some(&failure) {
        warn!(rule = rule.name, file = rule.file, reason = failure, "a rule cannot be evaluated");
        failures.insert(rule.name.clone(), failure);
    }
}
