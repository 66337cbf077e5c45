//! Arbitrary text: whatever is asked, the answer is a value or an error, never a panic.

use proptest::prelude::*;
use query::memory::MemoryRead;
use query::{Expr, Limits, Range};
use rrd::{Step, Timestamp};

/// Pieces that make up PromQL, and some that break it.
const PIECES: &[&str] = &[
    "a",
    "b",
    "sum",
    "topk",
    "rate",
    "clamp",
    "label_replace",
    "absent",
    "scalar",
    "vector",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "5m",
    "1h:5m",
    "1e300",
    "0x",
    "08",
    "offset",
    "@",
    "start()",
    "end()",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "bool",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "==",
    "!=",
    "<",
    ">=",
    "and",
    "or",
    "unless",
    "atan2",
    "\"x\"",
    "'\\",
    "`",
    "=~",
    "!~",
    "\"(\"",
    "\"\\xe9\"",
    ",",
    "#",
    "\n",
    "NaN",
    "Inf",
    "inf",
    "é",
    "a{x=\"1\"}",
    "a[5m]",
    "fill",
    "smoothed",
    ":",
    ".",
    "0",
    "-1",
];

fn survives(text: &str) {
    let Ok(expr) = Expr::parse(text) else { return };
    let read =
        MemoryRead::load("a{x=\"1\"} 0+1x20\na{x=\"2\"} 1 _ 3\nkind counter\nb 1x9").unwrap();
    let limits = Limits { points: 10_000, ..Limits::default() };
    let range = Range {
        start: Timestamp::from_secs(0),
        end: Timestamp::from_secs(900),
        step: Step::from_secs(60).unwrap(),
    };
    drop(expr.instant(&read, range.end, &limits));
    drop(expr.range(&read, range, &limits));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_survived(text in ".{0,60}") {
        survives(&text);
    }

    #[test]
    fn any_jumble_of_promql_is_survived(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..14),
        spaced in any::<bool>(),
    ) {
        survives(&pieces.join(if spaced { " " } else { "" }));
    }

    #[test]
    fn any_composed_query_is_survived(
        outer in prop::sample::select(&["sum({})", "topk(1, {})", "-{}", "{} + {}", "({}) or a", "abs({})",
            "absent({})", "{} > bool 1", "{} * on(x) group_left {}", "scalar({}) + {}", "round({}, 0)",
            "quantile(NaN, {})", "clamp({}, NaN, 1)", "timestamp({})", "sort({})"][..]),
        middle in prop::sample::select(&["rate({}[5m])", "max_over_time({}[3m] offset 1m)", "{} offset -5m",
            "{} @ end()", "{}", "changes({}[1ms])"][..]),
        leaf in prop::sample::select(&["a", "b", "{x=~\".+\"}", "nothing"][..]),
    ) {
        survives(&outer.replace("{}", &middle.replace("{}", leaf)));
    }
}
