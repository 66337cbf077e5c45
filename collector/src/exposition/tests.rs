//! The table of lines that readers get wrong, the corpora, and both readers against each other.

use std::fmt::Write as _;

use fixtures::dice::Dice;
use rrd::NAME;

use super::names::{Pairs, by_crate, by_hand};
use super::*;

const GOOD: &str = include_str!("../../../fixtures/exposition/openmetrics-good.cases");
const BAD: &str = include_str!("../../../fixtures/exposition/openmetrics-bad.cases");

/// The cases of a corpus: number, name, page.
fn cases(corpus: &'static str) -> Vec<(usize, &'static str, String)> {
    let read = |case: &'static str| {
        let (title, page) = case.split_once('\n').unwrap();
        let (number, name) = title.split_once(' ').unwrap();
        (number.parse().unwrap(), name, page.replace("␄\n", "").replace('␀', ""))
    };
    corpus.split("=== ").skip(1).map(read).collect()
}

fn named(sample: &Sample<'_>) -> String {
    let mut pairs = labels(&sample.series);
    pairs.sort();
    let name = pairs.iter().position(|(name, _)| name == NAME).unwrap();
    let mut text = pairs.remove(name).1;
    for (name, value) in pairs {
        write!(text, "|{name}={value}").unwrap();
    }
    text
}

/// The samples that a page of the text format is read as.
fn samples(page: &str) -> Vec<(String, f64)> {
    let read = read(page.as_bytes(), Format::Text, 1_000).unwrap();
    assert_eq!(read.faults.shown(), [], "{page}");
    read.samples.iter().map(|sample| (named(sample), sample.value)).collect()
}

#[test]
fn every_legal_line_is_read_as_it_is_meant() {
    for (line, name, value) in [
        (r#"a{p="/x/{id}"} 1"#, "a|p=/x/{id}", 1.0),
        (r#"a{p="x,y"} 1"#, "a|p=x,y", 1.0),
        (r#"a{p="k=v",q="z"} 1"#, "a|p=k=v|q=z", 1.0),
        (r#"a{e="say \"hi\""} 1"#, "a|e=say \"hi\"", 1.0),
        (r#"a{e="C:\\D"} 1"#, "a|e=C:\\D", 1.0),
        (r#"a{e="x\ny"} 1"#, "a|e=x\ny", 1.0),
        (r#"a{e="\\n"} 1"#, "a|e=\\n", 1.0),
        (r#"a{b="1", c="2"} 1"#, "a|b=1|c=2", 1.0),
        (r#"a{ b = "1" , c = "2" , } 1"#, "a|b=1|c=2", 1.0),
        ("a{} 1", "a", 1.0),
        ("a { } 1", "a", 1.0),
        ("job:a:rate5m 1", "job:a:rate5m", 1.0),
        (":a 1", ":a", 1.0),
        (r#"{"my.metric"} 1"#, "my.metric", 1.0),
        (r#"{"my.metric",l="v"} 1"#, "my.metric|l=v", 1.0),
        (r#"{"my \"metric\"","a b"="v"} 1"#, "my \"metric\"|a b=v", 1.0),
        (r#"a{b="1"}3"#, "a|b=1", 3.0),
        (r#"a {b="1"} 3"#, "a|b=1", 3.0),
        ("  a\t 3  ", "a", 3.0),
        ("a 3\r", "a", 3.0),
        ("a 0x1.8p1", "a", 3.0),
        ("a +Inf", "a", f64::INFINITY),
        (r#"a{l="世界"} 1"#, "a|l=世界", 1.0),
        (r#"a_bucket{le="0.5"} 8 # {trace="x y"} 0.4 1.5"#, "a_bucket|le=0.5", 8.0),
        (r#"a{b=" # {c=\"d\"} 1"} 2"#, "a|b= # {c=\"d\"} 1", 2.0),
    ] {
        assert_eq!(samples(line), [(name.to_owned(), value)], "{line}");
        assert_eq!(samples(&format!("\n# a comment\n{line}\n")), [(name.to_owned(), value)]);
    }
    let page = read(b"a NaN\n", Format::Text, 10).unwrap();
    assert!(page.samples[0].value.is_nan());
}

#[test]
fn times_are_those_of_the_format() {
    for (page, format, at) in [
        ("a 1 1600000000123\n", Format::Text, Some(1_600_000_000_123)),
        ("a 1 -5\n", Format::Text, Some(-5)),
        ("a 1\n", Format::Text, None),
        ("a 1 1600000000.123\n# EOF\n", Format::OpenMetrics, Some(1_600_000_000_123)),
        ("a 1 1600000000\n# EOF\n", Format::OpenMetrics, Some(1_600_000_000_000)),
    ] {
        let page = read(page.as_bytes(), format, 10).unwrap();
        assert_eq!(page.samples[0].at.map(Timestamp::as_millis), at);
    }
}

#[test]
fn the_order_of_the_page_and_the_kinds_of_its_families_are_kept() {
    let page = "\
# HELP lat Latency
# TYPE lat histogram
lat_bucket{le=\"1\"} 1
lat_bucket{le=\"+Inf\"} 2
lat_sum 3
lat_count 2
# TYPE q summary
q{quantile=\"0.5\"} 1
q_sum 4
q_count 5
#   TYPE    c   COUNTER
c_total 6
c_created 7
free 8
# TYPE \"a.b\" counter
{\"a.b\"} 9
# TYPE
# TYPELESS is no TYPE line
";
    let read = read(page.as_bytes(), Format::Text, 100).unwrap();
    let seen: Vec<_> = read.samples.iter().map(|one| (named(one), one.kind)).collect();
    let (total, gauge) = (Some(Kind::Total), Some(Kind::Gauge));
    let expected = [
        ("lat_bucket|le=1", total),
        ("lat_bucket|le=+Inf", total),
        ("lat_sum", total),
        ("lat_count", total),
        ("q|quantile=0.5", gauge),
        ("q_sum", total),
        ("q_count", total),
        ("c_total", total),
        ("c_created", gauge),
        ("free", None),
        ("a.b", total),
    ];
    assert_eq!(seen, expected.map(|(name, kind)| (name.to_owned(), kind)));
}

#[test]
fn what_cannot_be_read_is_reported_with_its_line_and_the_rest_is_taken() {
    let long = format!("a{{b=\"{}\"}} 1", "x".repeat(LINE_LIMIT));
    for (line, fault) in [
        ("a", Fault::NoValue),
        ("a one", Fault::Value("one".to_owned())),
        ("a 1 2 3", Fault::Trailing),
        ("a 1 1.5", Fault::Timestamp("1.5".to_owned())),
        ("a-b 1", Fault::NoValue),
        ("1a 1", Fault::Name),
        ("é 1", Fault::NoName),
        ("a{b} 1", Fault::NoEquals),
        ("a{b=1} 1", Fault::NoQuote),
        ("a{b=\"1} 1", Fault::OpenQuote),
        ("a{b=\"1\\\"} 1", Fault::OpenQuote),
        ("a{b=\"1\" 1", Fault::Comma),
        ("a{b=\"1\"", Fault::Comma),
        ("a{", Fault::OpenBrace),
        ("a{b=\"1\"c=\"2\"} 1", Fault::Comma),
        ("a{,} 1", Fault::LabelName),
        ("a{é=\"1\"} 1", Fault::LabelName),
        ("a{\"b\"} 1", Fault::TwoNames),
        ("{\"a\",\"b\"} 1", Fault::TwoNames),
        ("{a=\"b\"} 1", Fault::NoName),
        ("{\"\"} 1", Fault::NoName),
        ("a 1 # {b=\"c\"}", Fault::Exemplar),
        ("# TYPE a meter", Fault::Type("meter".to_owned())),
        ("# TYPE a", Fault::TypeLine),
        (long.as_str(), Fault::LongLine(long.len())),
    ] {
        let page = format!("first 1\n{line}\nlast 2\n");
        let read = read(page.as_bytes(), Format::Text, 10).unwrap();
        assert_eq!(read.faults.shown(), [LineFault { line: 2, fault }], "{line}");
        assert_eq!(read.samples.len(), 2, "{line}");
    }
    let read = read(b"a 1\nb{c=\"\xff\"} 2\nd 3\n", Format::Text, 10).unwrap();
    assert_eq!(read.faults.shown(), [LineFault { line: 2, fault: Fault::NotUtf8 }]);
    assert_eq!(read.samples.len(), 2);
}

#[test]
fn a_page_takes_no_more_than_its_limits() {
    let page = "a{b=\"1\"} 1\n".repeat(30);
    let taken = read(page.as_bytes(), Format::Text, 10).unwrap();
    assert_eq!(taken.samples.len(), 10);
    assert_eq!(taken.faults.shown(), [LineFault { line: 11, fault: Fault::Samples(10) }]);
    let faulty = "a\n".repeat(1_000);
    let taken = read(faulty.as_bytes(), Format::Text, 10).unwrap();
    assert_eq!((taken.faults.count(), taken.faults.shown().len()), (1_000, 20));
    let size = PAGE_LIMIT + 1;
    let refused = read(&vec![b'\n'; size], Format::Text, 10).unwrap_err();
    assert_eq!(refused.fault, Fault::Size { size, limit: PAGE_LIMIT });
}

#[test]
fn exemplars_are_left_out_and_counted() {
    let page = "# TYPE a counter\na_total 1 # {b=\"c\"} 1\na_total{d=\"e\"} 2 9 # {} 1 2\n";
    assert_eq!(read(page.as_bytes(), Format::Text, 10).unwrap().exemplars, 2);
    let page = "# TYPE a counter\na_total 1 # {b=\"c\"} 1\n# EOF\n";
    assert_eq!(read(page.as_bytes(), Format::OpenMetrics, 10).unwrap().exemplars, 1);
}

#[test]
fn pages_that_openmetrics_allows_are_read() {
    for (count, name, page) in cases(GOOD) {
        match read(page.as_bytes(), Format::OpenMetrics, 100) {
            Ok(read) => assert_eq!(read.samples.len(), count, "{name}"),
            Err(fault) => panic!("{name}: {fault}\n{page}"),
        }
    }
}

#[test]
fn pages_that_openmetrics_forbids_are_refused_with_the_line() {
    for (line, name, page) in cases(BAD) {
        match read(page.as_bytes(), Format::OpenMetrics, 100) {
            Ok(read) => panic!("{name}: read as {:?}\n{page}", read.samples),
            Err(fault) => assert_eq!(fault.line, line, "{name}: {fault}"),
        }
    }
}

#[test]
fn the_format_is_what_the_answer_says() {
    for (content_type, format) in [
        (None, Format::Text),
        (Some("text/plain; version=0.0.4; charset=utf-8"), Format::Text),
        (Some("text/html"), Format::Text),
        (Some("application/openmetrics-text; version=1.0.0; charset=utf-8"), Format::OpenMetrics),
        (Some("Application/OpenMetrics-Text"), Format::OpenMetrics),
    ] {
        assert_eq!(Format::of(content_type), format, "{content_type:?}");
    }
}

#[test]
fn labels_of_the_target_win_and_hidden_ones_are_kept_under_another_name() {
    let series = Series::read(r#"a{job="theirs",b="1"}"#).unwrap();
    let over = [("job".to_owned(), "ours".to_owned()), ("instance".to_owned(), "i".to_owned())];
    for (keeps_hidden, expected) in [
        (true, r#"a{b="1",exported_job="theirs",instance="i",job="ours"}"#),
        (false, r#"a{b="1",instance="i",job="ours"}"#),
    ] {
        let labels = Labelled { series, over: &over, keeps_hidden }.labels().unwrap();
        assert_eq!(labels.to_string(), expected);
    }
}

fn pick<'a>(dice: &mut Dice, among: &[&'a str]) -> &'a str {
    among[dice.index(among.len())]
}

/// A line of the grammar, with all that readers stumble over.
fn thrown(dice: &mut Dice) -> String {
    const LETTERS: [&str; 16] = [
        "a",
        "Z",
        "0",
        "_",
        " ",
        ",",
        "=",
        "{",
        "}",
        "\\\\",
        "\\\"",
        "\\n",
        "#",
        "é",
        "\u{10ff2c}",
        "'",
    ];
    const NAMES: [&str; 5] = ["a", "job:b:c", "_x9", "node_cpu_seconds_total", "A"];
    const LABELS: [&str; 6] = ["a", "le", "_b", "\"q.r\"", "Mode2", "quantile"];
    const BLANKS: [&str; 3] = ["", " ", "\t"];
    let mut line = pick(dice, &NAMES).to_owned();
    let blank = |dice: &mut Dice| pick(dice, &BLANKS);
    if dice.below(4) > 0 {
        line += "{";
        for _ in 0..dice.below(4) {
            line += blank(dice);
            line += pick(dice, &LABELS);
            line += blank(dice);
            line += "=";
            line += "\"";
            for _ in 0..dice.below(6) {
                line += pick(dice, &LETTERS);
            }
            line += "\"";
            line += blank(dice);
            line += ",";
        }
        line += "}";
    }
    line
}

#[test]
fn the_crate_and_our_reader_agree_on_whatever_both_can_read() {
    let sorted = |mut pairs: Pairs| {
        pairs.sort();
        pairs
    };
    let mut dice = Dice::told_or(4);
    let mut both = 0;
    for _ in 0..2_000 {
        let text = thrown(&mut dice);
        let series = Series::read(&text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        if let Some(pairs) = by_crate(&series) {
            assert_eq!(sorted(pairs), sorted(by_hand(&series)), "{text}");
            both += 1;
        }
    }
    assert!(both > 500, "{both}");
}

#[test]
fn the_crate_alone_agrees_on_lines_without_anything_odd() {
    let mut dice = Dice::told_or(4);
    let mut page = String::new();
    for number in 0..1_000 {
        let value = f64::from(u32::try_from(dice.below(1_000_000)).unwrap()) / 1_000.0;
        let metric = pick(&mut dice, &["a", "b_total", "node_c", "d_e_f"]);
        writeln!(page, "{metric}{{x=\"{number}\",y=\"/dev/sd{}\"}} {value}", dice.below(9))
            .unwrap();
    }
    let lines = page.lines().map(|line| Ok(line.to_owned()));
    let theirs = prometheus_parse::Scrape::parse(lines).unwrap();
    let ours = read(page.as_bytes(), Format::Text, 1_000).unwrap();
    assert_eq!(ours.samples.len(), theirs.samples.len());
    for (our, their) in ours.samples.iter().zip(&theirs.samples) {
        let prometheus_parse::Value::Untyped(value) = their.value else { panic!("{their:?}") };
        assert_eq!(our.value.to_bits(), value.to_bits());
        let mut pairs: Pairs =
            their.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        pairs.push((NAME.to_owned(), their.metric.clone()));
        pairs.sort();
        let mut ours = by_hand(&our.series);
        ours.sort();
        assert_eq!(ours, pairs);
    }
}

#[test]
fn no_bytes_make_a_reader_panic() {
    const ODD: &[u8] = b"\"\\{}\n# \xff\0\xc3";
    let mut dice = Dice::told_or(4);
    let seeds: Vec<String> =
        cases(GOOD).into_iter().chain(cases(BAD)).map(|(_, _, page)| page).collect();
    for _ in 0..3_000 {
        let mut page = seeds[dice.index(seeds.len())].clone().into_bytes();
        for _ in 0..=dice.below(4) {
            let at = dice.index(page.len() + 1);
            match dice.below(3) {
                0 => page.truncate(at),
                1 => page.insert(at, ODD[dice.index(ODD.len())]),
                _ if at < page.len() => page[at] = u8::try_from(dice.below(256)).unwrap(),
                _ => {}
            }
        }
        for format in [Format::Text, Format::OpenMetrics] {
            if let Ok(page) = read(&page, format, 50) {
                for sample in &page.samples {
                    let again = Series::read(sample.series.text()).unwrap();
                    assert_eq!(again.text(), sample.series.text());
                    let label = Labelled { series: sample.series, over: &[], keeps_hidden: true };
                    label.labels().ok();
                    label.shown();
                }
            }
        }
    }
}
