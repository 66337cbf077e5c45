//! The two levels of a written rule: their thresholds, how long they must hold, where they clear.

use std::ops::Range;

use super::{Reader, Table};
use crate::rules::Level;
use crate::threshold::{Condition, Direction};

/// Longest `for` and `every`: a month. What must last longer is a question for a graph.
const LONGEST_MS: u64 = 31 * 86_400_000;

impl Reader<'_> {
    pub(super) fn levels(
        &mut self,
        table: &Table<'_>,
        rule: &Range<usize>,
    ) -> (Option<Level>, Option<Level>) {
        if !table.contains_key("warning") && !table.contains_key("critical") {
            let message =
                "the rule never alarms: it needs `warning` or `critical`, such as \"> 80\"";
            self.report(rule, message.to_owned());
        }
        let warning = self.condition(table, "warning");
        let critical = self.condition(table, "critical");
        if let (Some((mild, _)), Some((grave, span))) = (&warning, &critical) {
            self.order(*mild, *grave, span);
        }
        let hold = self.durations(table, "for");
        let clear_hold = self.durations(table, "clear_for");
        let (mild, grave) = self.clears(table, warning.as_ref(), critical.as_ref());
        let level =
            |raise: Option<(Condition, Range<usize>)>, clear: Option<Condition>, at: usize| {
                let (raise, _) = raise?;
                let clear = clear.unwrap_or_else(|| raise.default_clear());
                Some(Level { raise, clear, for_ms: hold[at], clear_for_ms: clear_hold[at] })
            };
        (level(warning, mild, 0), level(critical, grave, 1))
    }

    fn condition(&mut self, table: &Table<'_>, key: &str) -> Option<(Condition, Range<usize>)> {
        let (text, span) = self.text(table, key, "> 80")?;
        match text.parse() {
            Ok(condition) => Some((condition, span)),
            Err(error) => {
                self.report(&span, format!("{key}: {error}"));
                None
            }
        }
    }

    /// CRITICAL must lie beyond WARNING: being critical implies being in warning.
    fn order(&mut self, mild: Condition, grave: Condition, span: &Range<usize>) {
        if mild.direction() != grave.direction() {
            let message = format!(
                "critical {grave} and warning {mild} point to opposite sides; write two rules"
            );
            self.report(span, message);
        } else if !beyond(mild, grave) {
            let message = format!("critical {grave} is milder than warning {mild}; swap them");
            self.report(span, message);
        }
    }

    /// A duration for both levels (WARNING, CRITICAL), or one each.
    fn durations(&mut self, table: &Table<'_>, key: &str) -> [u64; 2] {
        let Some(value) = table.get(key) else { return [0; 2] };
        if let Some(each) = value.get_ref().as_table() {
            self.known_keys(each, &["warning", "critical"]);
            return ["warning", "critical"]
                .map(|level| self.duration(each, level, "5m").map_or(0, |(ms, _)| ms));
        }
        [self.duration(table, key, "5m").map_or(0, |(ms, _)| ms); 2]
    }

    pub(super) fn duration(
        &mut self,
        table: &Table<'_>,
        key: &str,
        example: &str,
    ) -> Option<(u64, Range<usize>)> {
        let (text, span) = self.text(table, key, example)?;
        match rrd::time::parse_duration_ms(&text) {
            Some(millis) if millis <= LONGEST_MS => Some((millis, span)),
            Some(_) => {
                self.report(&span, format!("{key} = {text:?} is too long; at most 31d"));
                None
            }
            None => {
                let message =
                    format!("{key} = {text:?} is not a duration; write it as 30s, 5m, 1h or 1h30m");
                self.report(&span, message);
                None
            }
        }
    }

    /// Clearing conditions of WARNING and CRITICAL. One text is for the milder level: the graver
    /// one steps down by its own default.
    fn clears(
        &mut self,
        table: &Table<'_>,
        warning: Option<&(Condition, Range<usize>)>,
        critical: Option<&(Condition, Range<usize>)>,
    ) -> (Option<Condition>, Option<Condition>) {
        let Some(value) = table.get("clear") else { return (None, None) };
        if let Some(each) = value.get_ref().as_table() {
            self.known_keys(each, &["warning", "critical"]);
            let mild = self.clear(each, "warning", warning);
            let grave = self.clear(each, "critical", critical);
            if let (Some(mild), Some(grave)) = (mild, grave)
                && !beyond(grave, mild)
            {
                let message =
                    format!("warning clears at {mild}, before critical at {grave}; swap them");
                self.report(&value.span(), message);
            }
            return (mild, grave);
        }
        if warning.is_some() {
            let mild = self.clear(table, "clear", warning);
            let grave = critical.map(|(raise, _)| raise.default_clear());
            // Close thresholds: the graver level never clears later than the milder one.
            (mild, grave.map(|grave| mild.filter(|mild| !beyond(grave, *mild)).unwrap_or(grave)))
        } else {
            (None, self.clear(table, "clear", critical))
        }
    }

    /// One clearing condition, which must lie on the good side of the one it ends.
    fn clear(
        &mut self,
        table: &Table<'_>,
        key: &str,
        raise: Option<&(Condition, Range<usize>)>,
    ) -> Option<Condition> {
        let (clear, span) = self.condition(table, key)?;
        let (raise, _) = raise?;
        let opposite = match raise.direction() {
            Direction::Up => clear.direction() == Direction::Down,
            Direction::Down => clear.direction() == Direction::Up,
            Direction::None => true,
        };
        if !opposite {
            let message = format!(
                "clear {clear} points the same way as {raise}; write where it is good again, such as {:?}",
                raise.default_clear().to_string()
            );
            self.report(&span, message);
        } else if overlap(*raise, clear) {
            let message = format!(
                "clear {clear} would end the alarm {raise} while it is still in breach; \
                 choose a value on the good side, such as {:?}",
                raise.default_clear().to_string()
            );
            self.report(&span, message);
        }
        Some(clear)
    }
}

/// True when `grave` lies at or beyond `mild`, both pointing the same way.
fn beyond(mild: Condition, grave: Condition) -> bool {
    match mild.direction() {
        Direction::Up => grave.threshold >= mild.threshold,
        Direction::Down => grave.threshold <= mild.threshold,
        Direction::None => true,
    }
}

/// True when some value satisfies both conditions, which point opposite ways.
fn overlap(raise: Condition, clear: Condition) -> bool {
    let at_clear = raise.holds(clear.threshold) && clear.holds(clear.threshold);
    match raise.direction() {
        Direction::Up => clear.threshold > raise.threshold || at_clear,
        Direction::Down => clear.threshold < raise.threshold || at_clear,
        Direction::None => at_clear,
    }
}
