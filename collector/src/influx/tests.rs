//! Tests of the line protocol: a table of legal lines and one of illegal ones, and any bytes at all.

use proptest::prelude::*;

use super::line::Bad;
use super::*;

/// A line as a text: measurement, tags and fields without escapes, the timestamp.
fn read(text: &str) -> Vec<String> {
    let mut lines = Lines::of(text.as_bytes());
    let mut read = Vec::new();
    while let Some(line) = lines.next() {
        read.push(line.map_or_else(|Bad { why, .. }| format!("! {why}"), |line| told(&line)));
    }
    read
}

fn told(line: &Line<'_>) -> String {
    let text = |bytes| String::from_utf8_lossy(&unescaped(bytes)).into_owned();
    let tags: Vec<_> = tags(line.tags).map(|(n, v)| format!("{}={}", text(n), text(v))).collect();
    let value = |value: &Value| match value {
        Value::Number(number) => number.to_string(),
        Value::Text => "text".to_owned(),
    };
    let fields: Vec<_> =
        line.fields.iter().map(|(n, v)| format!("{}={}", text(n), value(v))).collect();
    let at = line.at.map_or("-".to_owned(), |at| at.to_string());
    format!("{}|{}|{}|{at}", text(line.measurement), tags.join(";"), fields.join(";"))
}

#[test]
fn legal_lines_are_read_to_the_letter() {
    for (text, expected) in [
        ("cpu value=1", "cpu||value=1|-"),
        ("cpu,host=a value=1 1700000000000000000", "cpu|host=a|value=1|1700000000000000000"),
        ("cpu,host=a,zone=b v=1i,w=2u,x=-3i", "cpu|host=a;zone=b|v=1;w=2;x=-3|-"),
        ("m f=-1.5e+3,g=.5,h=2.", "m||f=-1500;g=0.5;h=2|-"),
        ("m a=t,b=F,c=true,d=FALSE,e=True", "m||a=1;b=0;c=1;d=0;e=1|-"),
        ("m a=18446744073709551615u", "m||a=18446744073709552000|-"),
        ("m a=-9223372036854775808i -5", "m||a=-9223372036854776000|-5"),
        (r#"m s="a, b = \"c\" \\",v=1 7"#, "m||s=text;v=1|7"),
        ("m s=\"two\nlines\",v=1 7", "m||s=text;v=1|7"),
        (r"my\ cpu\,x,a\=b=c\ d\,e f\ g=1", "my cpu,x|a=b=c d,e|f g=1|-"),
        (r"m,path=C:\dir\x v=1", r"m|path=C:\dir\x|v=1|-"),
        (r"m,path=C:\\dir v=1", r"m|path=C:\dir|v=1|-"),
        ("m=x v=1", "m=x||v=1|-"),
        ("m   v=1   5  ", "m||v=1|5"),
        ("m v=1 5\r", "m||v=1|5"),
        ("m v=1\r", "m||v=1|-"),
        ("größe,ort=köln v=1", "größe|ort=köln|v=1|-"),
        ("m,t=\"x\" v=1", "m|t=\"x\"|v=1|-"),
        ("m v=\"\"", "m||v=text|-"),
        (" \t m v=1", "m||v=1|-"),
    ] {
        assert_eq!(read(text), [expected], "{text}");
    }
}

#[test]
fn illegal_lines_are_refused_with_their_reason() {
    for (text, why) in [
        (",a=b v=1", "missing measurement"),
        ("m", "missing fields"),
        ("m ", "missing fields"),
        ("m,a=b", "missing fields"),
        ("m,a=b ", "missing fields"),
        ("m,a v=1", "invalid tag"),
        ("m,=b v=1", "invalid tag"),
        ("m,a= v=1", "invalid tag"),
        ("m,a=b=c v=1", "invalid tag"),
        ("m,a=b, v=1", "invalid tag"),
        ("m v", "invalid field format"),
        ("m v=1,", "invalid field format"),
        ("m v=1,w", "invalid field format"),
        ("m =1", "missing fields"),
        ("m v=", "invalid field value"),
        ("m v=x", "invalid field value"),
        ("m v=1x", "invalid field value"),
        ("m v=NaN", "invalid field value"),
        ("m v=inf", "invalid field value"),
        ("m v=1e999", "invalid field value"),
        ("m v=1.5i", "invalid field value"),
        ("m v=-1u", "invalid field value"),
        ("m v=9223372036854775808i", "invalid field value"),
        ("m v=18446744073709551616u", "invalid field value"),
        ("m v=\"x", "unbalanced quotes"),
        ("m v=\"x\"y", "bad timestamp"),
        ("m v=1 x", "bad timestamp"),
        ("m v=1 1.5", "bad timestamp"),
        ("m v=1 5 6", "bad timestamp"),
        ("m v=1 99999999999999999999", "bad timestamp"),
    ] {
        let read = read(text);
        let expected = format!("! {why}");
        assert!(read.len() == 1 && read[0].starts_with(&expected), "{text}: {read:?}");
    }
}

#[test]
fn a_bad_line_costs_no_other() {
    let text = "# a comment\na v=1 1\n\nb,x v=1 1\n  \r\nc v=\"\n\" 3\nd v=\nv e=1\n";
    let expected = ["a||v=1|1", "! invalid tag format: a tag is key=value with both"];
    let read = read(text);
    assert_eq!(read[..2], expected);
    assert_eq!(read[2], "c||v=text|3");
    assert!(read[3].starts_with("! invalid field value"), "{read:?}");
    assert_eq!(read[4..], ["v||e=1|-"]);
}

#[test]
fn a_series_is_named_by_measurement_field_and_tags() {
    for (tags, field, expected) in [
        ("", "idle", r#"{__name__="cpu_idle", job="db"}"#),
        ("", "value", r#"{__name__="cpu", job="db"}"#),
        ("host=a,cpu=0", "x.y", r#"{__name__="cpu_x_y", cpu="0", instance="a", job="db"}"#),
        ("host=a,instance=b", "x", r#"{__name__="cpu_x", host="a", instance="b", job="db"}"#),
        ("job=mine", "x", r#"{__name__="cpu_x", job="mine"}"#),
        (r"a\ b=c\,d", "x", r#"{__name__="cpu_x", a_b="c,d", job="db"}"#),
    ] {
        let (tags, field) = (tags.as_bytes(), field.as_bytes());
        let series = Series { job: "db", measurement: b"cpu", tags, field };
        let labels = series.labels().unwrap();
        let pairs: Vec<_> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
        assert_eq!(format!("{{{}}}", pairs.join(", ")), expected);
    }
}

#[test]
fn a_timestamp_is_read_in_the_unit_of_the_write() {
    for (word, count, millis) in [
        ("", 1_700_000_000_999_999_999, 1_700_000_000_999),
        ("ns", -1, -1),
        ("u", 1_700_000_000_000_500, 1_700_000_000_000),
        ("us", 5_000, 5),
        ("ms", 7, 7),
        ("s", 3, 3_000),
        ("m", 2, 120_000),
        ("h", 1, 3_600_000),
        ("h", i64::MAX, i64::MAX),
    ] {
        let precision = Precision::of(word).unwrap();
        assert_eq!(precision.moment(count).as_millis(), millis, "{count} {word}");
    }
    assert_eq!(Precision::of("d"), None);
}

proptest! {
    #[test]
    fn any_bytes_are_lines_or_refused_and_never_more_than_there_are(
        text in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(b"mv=1i, \\\"\n#\r".to_vec())], 0..300,
        ),
    ) {
        let mut lines = Lines::of(&text);
        let mut count = 0;
        while let Some(line) = lines.next() {
            if let Ok(line) = line {
                prop_assert!(!line.fields.is_empty());
                told(&line);
            }
            count += 1;
        }
        prop_assert!(count <= 1 + text.len() / 2);
    }
}
