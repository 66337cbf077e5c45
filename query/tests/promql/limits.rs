//! Limits and refusals: what a query may not ask, and how it is told.

use query::memory::MemoryRead;
use query::{Error, Expr, Limits, Options, Range};
use rrd::{Step, Timestamp};

use crate::story::load;

#[test]
fn what_parses_but_is_not_evaluated_is_refused_by_name() {
    for (expr, named) in [
        ("histogram_avg(a)", "function histogram_avg"),
        ("histogram_count(a)", "function histogram_count"),
        ("histogram_quantiles(a, \"q\", 0.5, 0.9)", "function histogram_quantiles"),
        ("info(a)", "function info"),
        ("max_of(1, 2)", "function max_of"),
        ("limitk(1, a)", "limitk"),
        ("limit_ratio(0.5, a)", "limit_ratio"),
        ("a + fill(0) b", "fill"),
        ("{job=\"a\" or zone=\"b\"}", "\"or\" between matchers"),
    ] {
        let error = Expr::parse(expr).expect_err(expr);
        assert!(matches!(error, Error::Unsupported { .. }), "{expr}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(named) && text.contains("evaluated are: "), "{expr}: {text}");
    }
}

#[test]
fn what_is_not_promql_is_a_parse_error() {
    for expr in [
        "",
        "up{",
        "up up",
        "sum(",
        "rate(up)",
        "1 < 2",
        "a and 1",
        "frobnicate(a)",
        "{job=~\".*\"}",
        "exp(Inf)",
        "up[5m] + 1",
        "sum(up[5m])",
        "up{job=~\"(\"}",
        "up[0s]",
        "topk(a)",
        "\"a\" + 1",
    ] {
        let error = Expr::parse(expr).expect_err(expr);
        assert!(matches!(error, Error::Parse { .. }), "{expr}: {error:?}");
    }
}

#[test]
fn a_range_query_answers_lines_only() {
    let story = load("a 1");
    for expr in ["a[5m]", "\"text\""] {
        let error = story.try_range((0, 5, 1), expr, Options::default()).expect_err(expr);
        assert!(error.to_string().contains("for range query"), "{expr}: {error}");
    }
}

#[test]
fn too_many_points_or_series_are_refused_before_they_are_read() {
    let read = MemoryRead::load("a{i=\"1\"} 1\na{i=\"2\"} 1").unwrap();
    let range = |minutes: i64| Range {
        start: Timestamp::from_secs(0),
        end: Timestamp::from_secs(60 * minutes),
        step: Step::from_secs(60).unwrap(),
    };
    let ask =
        |minutes, limits| Expr::parse("sum(a)").unwrap().range(&read, range(minutes), &limits);
    let limits =
        Limits { points_per_line: 100, series: 2, points: 20, answer: 10, ..Limits::default() };
    assert!(ask(9, limits.clone()).is_ok());
    for (minutes, limits, expected) in [
        (10, limits.clone(), "needs more than 20 points"),
        (100, limits.clone(), "exceeded maximum resolution of 100 points per timeseries"),
        (1, Limits { series: 1, ..limits }, "finds 2 series, over the limit of 1"),
    ] {
        let error = ask(minutes, limits).unwrap_err();
        assert!(matches!(error, Error::Limit(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn an_answer_of_too_many_points_is_refused_before_it_is_written() {
    let read = MemoryRead::load("a{i=\"1\"} 1x59\na{i=\"2\"} 1x59").unwrap();
    let (start, end) = (Timestamp::from_secs(0), Timestamp::from_secs(3_540));
    let range = Range { start, end, step: Step::from_secs(60).unwrap() };
    let limits = Limits { answer: 60, ..Limits::default() };
    let too_many = [
        Expr::parse("a").unwrap().range(&read, range, &limits),
        Expr::parse("a[1h]").unwrap().instant(&read, end, &limits),
    ];
    for answer in too_many {
        let error = answer.unwrap_err();
        assert!(error.to_string().contains("over the limit of 60; aggregate"), "{error}");
    }
    assert!(Expr::parse("sum(a)").unwrap().range(&read, range, &limits).is_ok());
}

#[test]
fn labels_do_not_grow_without_end() {
    let double = |of: String| format!("label_replace({of}, \"x\", \"$1$1\", \"x\", \"(.*)\")");
    let expr = (0..60).fold("a".to_owned(), |of, _| double(of));
    load("a{x=\"1\"} 1").fails(0, &expr, "is longer than 65535 bytes");
}

#[test]
fn patterns_that_compile_to_much_are_refused_before_they_are_compiled() {
    let many = |pattern: &str, count: usize| {
        let one = format!("x=~\"{pattern}\"");
        format!("up{{{}}}", vec![one; count].join(","))
    };
    for (expr, expected) in [
        (many(r"\\pL{400}", 800), "takes over 1048576 bytes compiled"),
        (many(r"\\pL{18}", 800), "patterns of the query take over 4194304 bytes"),
        (many(r"{{\\pL{400}}", 1), "takes over 1048576 bytes compiled"),
        (format!("label_replace(up, 'a', '$1', 'b', '{}')", r"\\pL{400}"), "takes over 1048576"),
    ] {
        let error = Expr::parse(&expr).unwrap_err();
        assert!(matches!(error, Error::Limit(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(Expr::parse(&many("web-.*|db[0-9]+", 100)).is_ok());
    assert!(query::matchers(&many(r"\\pL{400}", 1)).is_err());
}

#[test]
fn a_bare_selector_gives_its_matchers_and_anything_else_is_refused() {
    let matchers = query::matchers("up{job=~\"a.*\",zone!=\"x\"}").unwrap();
    let names: Vec<&str> = matchers.iter().map(rrd::Matcher::name).collect();
    assert_eq!(names, [rrd::NAME, "job", "zone"]);
    let deep = format!("{}up{}", "(".repeat(3000), ")".repeat(3000));
    for bad in ["sum(up)", "up[5m]", "up{", "1", "up{a=~\"(\"}", "up offset 5m", "up @ 0", &deep] {
        assert!(query::matchers(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_ends_of_time_are_survived() {
    let story = load("a 1 2 3");
    for expr in ["a @ 9e15", "a @ -9e15", "a @ 1e30", "a offset 100y", "rate(a[100y] offset -100y)"]
    {
        story.answer(expr, 1);
    }
    for at in [Timestamp::MIN, Timestamp::MAX] {
        for expr in ["a", "rate(a[5m])", "timestamp(a)", "a offset 5m", "a[5m]", "time()"] {
            let read = MemoryRead::load("a 1 2 3\nkind counter\na{x=\"1\"} 1 2").unwrap();
            Expr::parse(expr).unwrap().instant(&read, at, &Limits::default()).unwrap();
        }
    }
}

#[test]
fn an_answer_that_nobody_waits_for_is_given_up() {
    let story = load("a 1 2 3");
    let patience = query::Patience::begin();
    let limits = Limits { patience: patience.clone(), ..Limits::default() };
    let ask = |expr: &str| story.with_limits(expr, &limits);
    assert!(ask("sum(rate(a[2m]))").is_ok());
    patience.end();
    for expr in ["a", "1 + 1", "sum(rate(a[2m]))", "a[5m]"] {
        assert_eq!(ask(expr).unwrap_err(), Error::Cancelled, "{expr}");
    }
}
