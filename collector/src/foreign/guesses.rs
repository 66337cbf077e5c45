//! Kinds that were guessed: remembered for a while, because what a sender says of its families may
//! come after their first samples.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rrd::{Column, InstanceId, Kind};

use crate::registry::TokenId;

/// Guesses remembered of one relay: a new Prometheus brings that many series within its first
/// minutes, and each takes some eighty bytes.
const GUESS_LIMIT: usize = 50_000;
/// Relays with guesses: those that bring new series at the moment.
const RELAY_LIMIT: usize = 100;
/// How old a series may be to change its kind: its rows are lost by that.
const YOUNG: Duration = Duration::from_mins(10);
/// Doubts kept for the operator.
const DOUBT_LIMIT: usize = 100;

/// A series whose kind was guessed when it was granted its column.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Guess {
    pub(crate) instance: InstanceId,
    pub(crate) column: Column,
    pub(crate) metric: Box<str>,
    pub(crate) kind: Kind,
    /// When, on the monotonic clock.
    pub(crate) at: Duration,
}

/// A series that is kept as one kind and said to be another, too old to be changed unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub(crate) instance: InstanceId,
    pub(crate) metric: Box<str>,
    /// What its sender says; it is kept as the other.
    pub(crate) is_counter: bool,
}

/// The guesses of all relays, and the doubts that came of them.
#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    of_relay: HashMap<Option<TokenId>, VecDeque<Guess>>,
    doubts: VecDeque<Doubt>,
}

impl Guesses {
    /// Remembers guesses; the oldest are forgotten where there are too many.
    pub(crate) fn note(&self, relay: Option<TokenId>, new: impl IntoIterator<Item = Guess>) {
        let mut new = new.into_iter().peekable();
        if new.peek().is_none() {
            return;
        }
        let mut inside = self.lock();
        if inside.of_relay.len() >= RELAY_LIMIT && !inside.of_relay.contains_key(&relay) {
            inside.of_relay.clear();
        }
        let held = inside.of_relay.entry(relay).or_default();
        held.extend(new);
        let surplus = held.len().saturating_sub(GUESS_LIMIT);
        held.drain(..surplus);
    }

    /// Guesses of `relay` that are wrong by what it has `told` of their metrics, and young enough to
    /// be put right; each is answered once. Those too old become doubts, which are answered, too.
    pub(crate) fn wrong(
        &self,
        relay: Option<TokenId>,
        now: Duration,
        told: impl Fn(&str) -> Option<Kind>,
    ) -> (Vec<Guess>, Vec<Doubt>) {
        let mut inside = self.lock();
        let Some(held) = inside.of_relay.get_mut(&relay) else { return Default::default() };
        let is_wrong = |guess: &Guess| {
            told(&guess.metric).is_some_and(|kind| kind.is_counter() != guess.kind.is_counter())
        };
        let (wrong, right) = std::mem::take(held).into_iter().partition(is_wrong);
        *held = right;
        let (young, old): (Vec<Guess>, Vec<Guess>) = <VecDeque<Guess>>::into_iter(wrong)
            .partition(|one| now.saturating_sub(one.at) <= YOUNG);
        let doubt = |guess: Guess| Doubt {
            instance: guess.instance,
            metric: guess.metric,
            is_counter: !guess.kind.is_counter(),
        };
        let mut new = Vec::new();
        for doubt in old.into_iter().map(doubt) {
            if !inside.doubts.contains(&doubt) && !new.contains(&doubt) {
                new.push(doubt);
            }
        }
        inside.doubts.extend(new.iter().cloned());
        let surplus = inside.doubts.len().saturating_sub(DOUBT_LIMIT);
        inside.doubts.drain(..surplus);
        (young, new)
    }

    /// The newest doubts, oldest first.
    pub(crate) fn doubts(&self) -> Vec<Doubt> {
        self.lock().doubts.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doubt {
    /// What it comes to, and the command that puts it right.
    pub(crate) fn told(&self) -> String {
        let (said, kept) =
            if self.is_counter { ("counter", "gauge") } else { ("gauge", "counter") };
        let Self { instance, metric, .. } = self;
        let shown: String = metric.chars().flat_map(char::escape_debug).collect();
        let matcher = in_shell(&matcher(metric));
        format!(
            "{shown} is kept as a {kept} and its sender says it is a {said}; to begin it anew, say: \
             roundel instances drop {instance} --match {matcher}"
        )
    }
}

/// What matches series of this metric and no others. Its name is the sender's: it may hold what ends
/// a line or steers a terminal, and a tilde in front would make it an expression.
fn matcher(metric: &str) -> String {
    if !metric.starts_with('~') && !metric.chars().any(is_unseen) {
        return format!("__name__={metric}");
    }
    let mut expression = String::from("__name__=~");
    for char in metric.chars() {
        if is_unseen(char) {
            // Expressions know `\u{a}` as Rust does.
            expression.extend(char.escape_unicode());
        } else {
            expression.push_str(&regex::escape(char.encode_utf8(&mut [0; 4])));
        }
    }
    expression
}

/// True for a character that a person would not see as itself.
fn is_unseen(char: char) -> bool {
    !matches!(char, '\'' | '"' | '\\') && char.escape_debug().count() > 1
}

/// A text as one word of a shell's.
fn in_shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(index: u32, metric: &str, kind: Kind, at_secs: u64) -> Guess {
        Guess {
            instance: InstanceId(1),
            column: Column { index, generation: 1 },
            metric: metric.into(),
            kind,
            at: Duration::from_secs(at_secs),
        }
    }

    fn told(metric: &str) -> Option<Kind> {
        match metric {
            "hits" => Some(Kind::Total),
            "odd_total" => Some(Kind::Gauge),
            _ => None,
        }
    }

    #[test]
    fn wrong_guesses_are_put_right_once_while_they_are_young() {
        let guesses = Guesses::default();
        let hits = guess(1, "hits", Kind::Unknown, 0);
        let odd = guess(2, "odd_total", Kind::Total, 0);
        guesses.note(None, [hits.clone(), odd.clone(), guess(3, "level", Kind::Unknown, 0)]);
        let now = Duration::from_mins(10);
        assert_eq!(guesses.wrong(Some(TokenId(1)), now, told), Default::default());
        assert_eq!(guesses.wrong(None, now, told), (vec![hits, odd], vec![]));
        assert_eq!(guesses.wrong(None, now, told), Default::default());
    }

    #[test]
    fn older_ones_are_told_with_the_command_that_puts_them_right() {
        let guesses = Guesses::default();
        guesses.note(None, (0..3).map(|index| guess(index, "hits", Kind::Unknown, 0)));
        let (young, old) = guesses.wrong(None, Duration::from_secs(601), told);
        assert_eq!((young.len(), old.len()), (0, 1), "one line for all series of a metric");
        assert!(old[0].told().contains("--match '__name__=hits'"), "{}", old[0].told());
        assert_eq!(guesses.doubts(), old);
    }

    #[test]
    fn whatever_a_metric_is_called_the_command_is_one_line_and_drops_it_alone() {
        for (metric, word) in [
            ("hits", "'__name__=hits'"),
            ("it's $(reboot)", r"'__name__=it'\''s $(reboot)'"),
            ("a\nb.c", r"'__name__=~a\u{a}b\.c'"),
            ("\u{1b}[2J'", r"'__name__=~\u{1b}\[2J'\'''"),
            ("~.*", r"'__name__=~\~\.\*'"),
        ] {
            let doubt = Doubt { instance: InstanceId(1), metric: metric.into(), is_counter: false };
            let told = doubt.told();
            assert!(told.ends_with(&format!(" --match {word}")), "{told}");
            assert!(!told.contains(char::is_control), "{told:?}");
            if let Some(expression) = matcher(metric).strip_prefix("__name__=~") {
                let found = rrd::Matcher::new(rrd::NAME, rrd::MatchOp::Regex, expression).unwrap();
                assert!(found.matches(&rrd::Labels::default().with(rrd::NAME, metric)));
                assert!(!found.matches(&rrd::Labels::default().with(rrd::NAME, "hits")));
            }
        }
    }

    #[test]
    fn no_sender_makes_them_grow_for_ever() {
        let guesses = Guesses::default();
        for relay in 0..200 {
            let many = (0..1_000).map(|index| guess(index, &format!("m{index}"), Kind::Total, 0));
            guesses.note(Some(TokenId(relay)), many);
        }
        guesses.note(None, (0..60_000).map(|index| guess(index, "hits", Kind::Unknown, 0)));
        let inside = guesses.lock();
        assert!(inside.of_relay.len() <= RELAY_LIMIT);
        assert_eq!(inside.of_relay[&None].len(), GUESS_LIMIT);
        drop(inside);
        let all = |_: &str| Some(Kind::Gauge);
        for relay in 0..200 {
            guesses.wrong(Some(TokenId(relay)), Duration::from_hours(1), all);
        }
        assert!(guesses.doubts().len() <= DOUBT_LIMIT);
    }
}
