//! A source of series that answers what is at hand, and notes what is not.

use std::sync::atomic::{AtomicBool, Ordering};

use rrd::{Matcher, Span};

use crate::read::{Read, Rows, RowsWanted, Series};
use crate::{Answer, Error, Expr, Limits};

/// Series that are looked at for one selector: a few microseconds.
const LOOKS_AT: usize = 256;
/// Series that one selector finds.
const SERIES: usize = 4;
/// Points of all selectors: a day of minutes of four series.
const POINTS: u64 = 6_000;
/// Rows that all windows look at.
const LOOKS: u64 = 60_000;

impl Expr {
    /// The answer that `evaluate` comes to if it takes some hundred microseconds at most, be it an error:
    /// few series, few points. `None` where it may take longer, of which nearly all was not done.
    ///
    /// ```
    /// let (expr, at) = (query::Expr::parse("1 + 1").unwrap(), rrd::Timestamp::from_secs(0));
    /// let read = query::memory::MemoryRead::default();
    /// assert!(expr.if_small(&read, |read, limits| expr.instant(read, at, limits)).is_some());
    /// ```
    pub fn if_small(
        &self,
        read: &dyn Read,
        evaluate: impl FnOnce(&dyn Read, &Limits) -> Result<Answer, Error>,
    ) -> Option<Result<Answer, Error>> {
        let near = Near { read, is_missed: AtomicBool::new(false) };
        let limits = Limits { series: SERIES, points: POINTS, looks: LOOKS, ..Limits::default() };
        let answer = evaluate(&near, &limits);
        let is_whole = !near.is_missed.into_inner() && !matches!(answer, Err(Error::Limit(_)));
        is_whole.then_some(answer)
    }
}

struct Near<'a> {
    read: &'a dyn Read,
    /// A selector was not answered, and so no answer counts.
    is_missed: AtomicBool,
}

impl Read for Near<'_> {
    fn select(&self, matchers: &[Matcher]) -> Vec<Series> {
        if self.read.looks_at(matchers).is_some_and(|count| count <= LOOKS_AT) {
            return self.read.select(matchers);
        }
        self.is_missed.store(true, Ordering::Relaxed);
        Vec::new()
    }

    fn rows(&self, series: &Series, archive: usize, span: Span) -> Rows {
        self.read.rows(series, archive, span)
    }

    fn rows_into(&self, rows: &mut Rows, series: &Series, wanted: RowsWanted) {
        self.read.rows_into(rows, series, wanted);
    }
}

#[cfg(test)]
mod tests {
    use rrd::Timestamp;

    use super::*;
    use crate::memory::MemoryRead;

    /// Knows how many series it looks at.
    struct Counted(MemoryRead, usize);

    impl Read for Counted {
        fn select(&self, matchers: &[Matcher]) -> Vec<Series> {
            self.0.select(matchers)
        }

        fn looks_at(&self, _: &[Matcher]) -> Option<usize> {
            Some(self.1)
        }

        fn rows(&self, series: &Series, archive: usize, span: Span) -> Rows {
            self.0.rows(series, archive, span)
        }
    }

    #[test]
    fn what_is_small_is_answered_and_all_else_is_left() {
        let all: Vec<_> = (0..9).map(|n| format!("up{{n=\"{n}\"}} 1x9")).collect();
        let read = MemoryRead::load(&all.join("\n")).unwrap();
        let at = Timestamp::from_secs(300);
        let is_answered = |text: &str, looks_at: usize| {
            let (expr, read) = (Expr::parse(text).unwrap(), Counted(read.clone(), looks_at));
            let small = expr.if_small(&read, |read, limits| expr.instant(read, at, limits));
            let whole = expr.instant(&read, at, &Limits::default());
            assert!(small.as_ref().is_none_or(|small| *small == whole), "{text}");
            small.is_some()
        };
        for (text, looks_at, expected) in [
            ("up{n=\"3\"}", LOOKS_AT, true),
            ("up{n=\"3\"}", LOOKS_AT + 1, false),
            ("up", 9, false),
            ("absent(down)", LOOKS_AT + 1, false),
            ("absent(down)", 1, true),
            ("max_over_time(up{n=\"3\"}[9m])", 9, true),
            ("sum_over_time(vector(1)[9d:1ms])", 0, false),
        ] {
            assert_eq!(is_answered(text, looks_at), expected, "{text}");
        }
        let expr = Expr::parse("up").unwrap();
        assert!(expr.if_small(&read, |read, limits| expr.instant(read, at, limits)).is_none());
    }
}
