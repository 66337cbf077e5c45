//! Words nobody should type: an error or an answer, never a panic.

use proptest::prelude::*;
use rrd::MemDisk;

use super::file::{Case, START_S, run_on};

fn file() -> Case {
    let case = Case::create(&["DS:a:GAUGE:120:0:U", "DS:b:COUNTER:120:U:U", "RRA:LAST:0.5:3:9"]);
    case.updates(&["60:1:2", "200:2:9"]);
    case
}

#[test]
fn bad_words_are_refused_and_change_nothing() {
    let case = file();
    let before = case.does(&["dump", "f"]);
    for words in [
        "frob",
        "create",
        "create f",
        "create f DS:a:GAUGE:120:U:U",
        "create f RRA:AVERAGE:0.5:1:1",
        "create f DS:a:GAUGE:120:U:U RRA:AVERAGE:0.5:1:1 --step",
        "create f --step 0 DS:a:GAUGE:120:U:U RRA:AVERAGE:0.5:1:1",
        "create f --step 101y DS:a:GAUGE:120:U:U RRA:AVERAGE:0.5:1:1",
        "create f --step 99y DS:a:GAUGE:120:U:U RRA:AVERAGE:0.5:2:1",
        "create f --step 99y DS:a:GAUGE:120:U:U RRA:AVERAGE:0.5:1:16777216",
        "create f DS:a:GAUGE:120:U:U RRA:AVERAGE:0.5:1:16777217",
        "create f DS:a:GAUGE:120:U:U RRA:AVERAGE:0.5:4294967296:1",
        "create f DS:a:GAUGE:120:U:U RRA:AVERAGE:nan:1:1",
        "create f DS:a:GAUGE:120:U:U:U RRA:AVERAGE:0.5:1:1",
        "create f -d unix:x DS:a:GAUGE:120:U:U RRA:AVERAGE:0.5:1:1",
        "create f -O DS:a:GAUGE:120:U:U RRA:AVERAGE:0.5:1:1",
        "create f --start end-1d DS:a:GAUGE:120:U:U RRA:AVERAGE:0.5:1:1",
        "create f --start 99999999999999999 DS:a:GAUGE:120:U:U RRA:AVERAGE:0.5:1:1",
        "update",
        "update f",
        "update nowhere N:1:1",
        "update f -5:1:1",
        "update f --template a:c N:1:1",
        "update f --template a:a N:1:1",
        "update f --template a N:1:1",
        "fetch f",
        "fetch f FOO",
        "fetch f AVERAGE",
        "fetch f LAST -r 0",
        "fetch f LAST -s now -e -1h",
        "fetch f LAST -s 320000000 -e 30000000000000 -r 1",
        "fetch f LAST LAST",
        "first f --rraindex 1",
        "first f --rraindex -1",
        "info f g",
        "dump f g",
        "dump nowhere",
        "tune f",
        "tune f -r a:b",
        "tune f -i b:9 -a b:3",
        "tune f -h a",
        "xport",
        "xport XPORT:a",
        "xport DEF:a=f:a:LAST",
        "xport DEF:a=f:z:LAST XPORT:a",
        "xport DEF:a=f:a XPORT:a",
        "xport DEF:a=f:a:LAST CDEF:b=a,+ XPORT:b",
        "xport DEF:a=f:a:LAST CDEF:a=a XPORT:a",
        "xport DEF:a=f:a:LAST XPORT:a -m 1",
        "xport DEF:a=f:a:LAST:end=start XPORT:a",
        "xport LINE:a",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let answer = case.run(&words);
        assert!(answer.error.starts_with("ERROR: "), "{words:?} was taken: {}", answer.output);
        assert_eq!(answer.error.lines().count(), 1, "{words:?}: {}", answer.error);
        assert_eq!(case.does(&["dump", "f"]), before, "{words:?}");
    }
}

#[test]
fn a_bad_sample_is_refused_and_changes_nothing() {
    let case = file();
    let before = case.does(&["dump", "f"]);
    for sample in [
        "",
        ":",
        "::",
        "260",
        "260:",
        "260::",
        "260:1",
        "260:1:2:3",
        "260:abc:1",
        "260:1:abc",
        "260:0x10:1",
        "260:1:0x10",
        "260:1e:1",
        "260:1,5:1",
        "260:1:1.5",
        "260:1:-1",
        "260:1:+1",
        "260:1:1e3",
        "260:1: 1",
        "260:--1:1",
        "260:unknown:1",
        "200:1:1",
        "199:1:1",
    ] {
        let text = match sample.split_once(':') {
            Some((offset, values)) if !offset.is_empty() => {
                format!("{}:{values}", START_S + offset.parse::<i64>().unwrap())
            }
            _ => sample.to_owned(),
        };
        let answer = case.run(&["update", "f", "--", &text]);
        assert!(!answer.is_ok(), "{sample:?} was taken");
        assert_eq!(case.does(&["dump", "f"]), before, "{sample:?}");
    }
    for time in ["abc", "n", "1e400", "nan", "inf", "99999999999999999999", "x@", "tomorrow@"] {
        let answer = case.run(&["update", "f", "--", &format!("{time}:1:1")]);
        assert!(!answer.is_ok(), "{time:?} was taken");
    }
}

#[test]
fn odd_samples_that_rrdtool_takes_are_taken() {
    for (value, row) in [
        ("1e400", "inf"),
        ("inf", "inf"),
        ("-inf", "U"), // Below the limit.
        ("nan", "U"),
        ("Ux", "U"),
        ("+5", "5"),
        (" 5", "5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("1e3", "1000"),
    ] {
        let case = Case::create(&["DS:a:GAUGE:120:0:U", "RRA:LAST:0.5:1:9"]);
        case.updates(&[&format!("60:{value}")]);
        assert_eq!(case.rows("LAST", (0, 0)), format!("60={row}"), "{value}");
    }
}

#[test]
fn bytes_that_are_no_file_are_refused() {
    let case = file();
    let disk: &dyn rrd::Disk = &case.disk;
    let open = disk.open("f".as_ref()).unwrap();
    let len = usize::try_from(open.len().unwrap()).unwrap();
    let mut bytes = vec![0; len];
    open.read_at(&mut bytes, 0).unwrap();
    for at in (0..len).step_by(41) {
        open.write_at(&[bytes[at] ^ 0x55], at as u64).unwrap();
        // Whatever it says, it says it: a damaged file never brings the program down.
        let _said = run_on(&case.disk, &["dump", "f"]);
        open.write_at(&bytes[at..=at], at as u64).unwrap();
    }
    assert!(run_on(&case.disk, &["dump", "f"]).is_ok());
    for length in [0, 7, 1024, 20_479] {
        let disk = MemDisk::new();
        let file = rrd::Disk::create(&disk, "f".as_ref()).unwrap();
        file.write_at(&bytes[..length], 0).unwrap();
        assert!(!run_on(&disk, &["info", "f"]).is_ok(), "{length} bytes");
    }
}

fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "f",
        "--",
        "-s",
        "-e",
        "-r",
        "-a",
        "--start",
        "--end",
        "--step",
        "1",
        "now",
        "end-1h",
        "start+1d",
        "LAST",
        "AVERAGE",
        "DS:a:GAUGE:120:U:U",
        "RRA:LAST:0.5:3:9",
        "N:1:2",
        "N:U:U",
        "DEF:x=f:a:LAST",
        "CDEF:y=x,2,*",
        "XPORT:x",
        "--json",
        "-h",
        "a:5m",
        "-t",
        "a:b",
        "-O",
        "20231114",
        "1699923000",
        "--rraindex",
        "0",
    ]);
    prop_oneof![
        3 => known.prop_map(str::to_owned),
        1 => "[-:@+0-9aNeEU.,= ]{0,12}",
        1 => "(DS|RRA|DEF|CDEF|XPORT):[a-zA-Z0-9:.,=*+-]{0,20}",
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_words_bring_it_down(
        command in prop::sample::select(vec![
            "create", "update", "fetch", "xport", "info", "first", "last", "lastupdate", "dump", "tune",
        ]),
        words in prop::collection::vec(word(), 0..7),
    ) {
        let case = file();
        case.disk.set_capacity(1 << 26);
        let mut all = vec![command];
        all.extend(words.iter().map(String::as_str));
        let first = case.run(&all);
        all.insert(1, "f");
        let second = case.run(&all);
        for answer in [first, second] {
            prop_assert!(answer.error.is_empty() || answer.error.starts_with("ERROR: "));
        }
    }
}
