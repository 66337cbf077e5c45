//! Files of the real rrdtool, and files that no rrdtool wrote.

use std::fmt::Write as _;
use std::io::{BufReader, Cursor, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::tool::write_xml;
use crate::{Disk, InstanceId, Labels, MemDisk, NAME, Policy, SeriesRef, Span, Store, Timestamp};

/// Where every file begins: midnight of a Thursday, so that rows of every width begin too.
const START: u64 = 1_699_488_000;

/// A generator that the seed alone decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[usize::try_from(self.below(words.len() as u64)).unwrap()]
    }
}

/// True when rrdtool 1.7 is here; says so when it is not.
fn has_rrdtool(test: &str) -> bool {
    let found =
        Command::new("rrdtool").arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        let line = format!("not run: {test} (needs rrdtool)\n");
        if let Some(file) = std::env::var_os("ROUNDEL_NOT_RUN") {
            let file = std::fs::File::options().create(true).append(true).open(file);
            file.unwrap().write_all(line.as_bytes()).unwrap();
        }
        print!("{line}");
    }
    found
}

/// Runs rrdtool once over all these lines.
fn rrdtool(dir: &Path, lines: &[String]) -> String {
    let mut child = Command::new("rrdtool")
        .args(["-"])
        .current_dir(dir)
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = lines.join("\n") + "\nquit\n";
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!said.contains("ERROR"), "{said}");
    said
}

/// The lines that make a random file, and the last moment that was told.
fn random_file(name: &str, dice: &mut Dice) -> (Vec<String>, u64, u64) {
    let step = [10, 60, 300][usize::try_from(dice.below(3)).unwrap()];
    let count = 1 + dice.below(3);
    let kinds = ["GAUGE", "COUNTER", "DERIVE", "ABSOLUTE", "DCOUNTER", "DDERIVE"];
    let mut create = format!("create {name} --start {START} --step {step}");
    let mut types = Vec::new();
    for number in 0..count {
        let kind = dice.one_of(&kinds);
        types.push(kind);
        let heartbeat = step * (1 + dice.below(3));
        let limits = dice.one_of(&["U:U", "0:U", "U:1000", "-50:5000"]);
        write!(create, " DS:ds{number}:{kind}:{heartbeat}:{limits}").unwrap();
    }
    for width in [1, 2 + dice.below(5), 12, 60] {
        for function in ["AVERAGE", "MIN", "MAX", "LAST"] {
            if function == "AVERAGE" || dice.below(3) > 0 {
                let rows = 5 + dice.below(40);
                write!(create, " RRA:{function}:0.5:{width}:{rows}").unwrap();
            }
        }
    }
    let (mut lines, mut at) = (vec![create], START);
    let mut counts = [0_u64; 3];
    let turns = 80 + dice.below(300);
    for turn in 0..turns {
        // At last two known readings near each other, so that a next one continues every kind.
        let is_last = turn + 2 >= turns;
        at += 1 + if dice.below(20) == 0 && !is_last {
            dice.below(step * 8)
        } else {
            dice.below(if is_last { step / 2 } else { step * 2 })
        };
        let mut update = format!("update {name} {at}");
        for (count, kind) in counts.iter_mut().zip(&types) {
            *count += dice.below(200);
            let value = match (dice.below(12) + u64::from(is_last) * 2, *kind) {
                (0, _) => "U".to_owned(),
                (_, "COUNTER" | "DERIVE") => count.to_string(),
                (1, _) => format!("-{}.25", dice.below(100)),
                (_, "GAUGE" | "ABSOLUTE") => format!("{}.5", dice.below(1000)),
                _ => format!("{count}.5"),
            };
            write!(update, ":{value}").unwrap();
        }
        lines.push(update);
    }
    (lines, step, at)
}

fn read_path(path: &Path) -> Result<Dump, ImportError> {
    let file = std::fs::File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    read(&mut BufReader::new(file), len)
}

fn is_close(a: f64, b: f64) -> bool {
    (a.is_nan() && b.is_nan())
        || a.to_bits() == b.to_bits()
        || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// The structures are the same; numbers as far as the digits that are printed.
fn assert_same(native: &Dump, xml: &Dump, hint: &str) {
    assert_eq!(native.step_s, xml.step_s, "{hint}");
    assert_eq!(native.last_update, xml.last_update, "{hint}");
    assert_eq!(native.sources.len(), xml.sources.len(), "{hint}");
    for (a, b) in native.sources.iter().zip(&xml.sources) {
        assert_eq!((&a.name, &a.kind, a.heartbeat_s), (&b.name, &b.kind, b.heartbeat_s), "{hint}");
        assert!(is_close(a.min, b.min) && is_close(a.max, b.max), "{hint}: {a:?} {b:?}");
        assert_eq!((&a.last_reading, a.unknown_s), (&b.last_reading, b.unknown_s), "{hint}");
        assert!(is_close(a.value, b.value), "{hint}: {a:?} {b:?}");
    }
    assert_eq!(native.archives.len(), xml.archives.len(), "{hint}");
    for (a, b) in native.archives.iter().zip(&xml.archives) {
        assert_eq!((&a.function, a.steps_per_row), (&b.function, b.steps_per_row), "{hint}");
        assert!(is_close(a.xff, b.xff), "{hint}");
        assert_eq!(a.prepared.len(), b.prepared.len(), "{hint}");
        for (a, b) in a.prepared.iter().zip(&b.prepared) {
            assert!(is_close(a.value, b.value), "{hint}: {a:?} {b:?}");
            assert_eq!(a.unknown_steps, b.unknown_steps, "{hint}");
        }
        assert_eq!(a.values.len(), b.values.len(), "{hint}");
        assert!(a.values.iter().zip(&b.values).all(|(a, b)| is_close(*a, *b)), "{hint}");
    }
}

#[test]
fn both_forms_of_a_file_read_alike() {
    if !has_rrdtool("both_forms_of_a_file_read_alike") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let seeds: Vec<u64> = (1..=60_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let mut lines = Vec::new();
    for (number, seed) in seeds.iter().enumerate() {
        let (mut made, _, _) = random_file(&format!("{number}.rrd"), &mut Dice(*seed));
        made.push(format!("dump {number}.rrd {number}.xml"));
        lines.extend(made);
    }
    let special = "create hw.rrd --start 1699488000 --step 60 DS:a:GAUGE:120:0:U DS:b:COMPUTE:a,2,* \
                   RRA:AVERAGE:0.5:1:50 RRA:HWPREDICT:50:0.1:0.0035:20";
    lines.extend([special.to_owned(), "dump hw.rrd hw.xml".to_owned()]);
    rrdtool(dir.path(), &lines);
    let names = (0..seeds.len()).map(|number| number.to_string()).chain(["hw".to_owned()]);
    for name in names {
        let native = read_path(&dir.path().join(format!("{name}.rrd"))).unwrap();
        let xml = read_path(&dir.path().join(format!("{name}.xml"))).unwrap();
        assert_same(&native, &xml, &format!("file {name}, seed {seeds:x?}"));
        let mut written = Vec::new();
        write_xml(&native, &mut written).unwrap();
        let again = read(&mut Cursor::new(&written), 0).unwrap();
        if name != "hw" {
            assert_same(&native, &again, "written by us");
        }
    }
}

/// What rrdtool answers for one archive: END and values.
fn fetched(dir: &Path, file: &str, rra: &Rra, dump: &Dump) -> Vec<(i64, Vec<f64>)> {
    let width = dump.width_s(rra);
    let newest = dump.newest_end_s(rra);
    let oldest = newest - dump.row_count(rra).cast_signed() * width;
    let function = rra.function.name();
    let line = format!("fetch {file} {function} -r {width} -s {oldest} -e {}", newest - 1);
    let said = rrdtool(dir, &[line]);
    let rows = said.lines().filter_map(|line| line.split_once(": "));
    rows.map(|(end, values)| {
        let values = values.split_whitespace().map(|value| value.parse().unwrap());
        (end.parse().unwrap(), values.collect())
    })
    .collect()
}

struct World {
    disk: Arc<dyn Disk>,
    store: Store,
    policy: Policy,
}

const ID: InstanceId = InstanceId(7);

impl World {
    /// An archive of all sources of `dump` under its own policy, opened as a start does.
    fn of(dump: &Dump, policy: Option<&str>) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
        let dir = Path::new("/archives");
        disk.create_dir(dir).unwrap();
        let derived = derive_policy(&[dump]).unwrap().0;
        let policy = policy.map_or(derived, |text| Policy::parse(text).unwrap());
        let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
        let series = (0..dump.sources.len()).map(|source| {
            let labels = Labels::from_pairs([(NAME, &dump.sources[source].name)]).unwrap();
            TakenSeries { labels, dump, source }
        });
        let archive =
            NewArchive { id: ID, labels: &labels, policy: &policy, series: series.collect() };
        write_archive(disk.as_ref(), dir, &archive).unwrap();
        let (store, damage) = Store::open(Arc::clone(&disk), dir, 0).unwrap();
        assert_eq!(damage, []);
        assert_eq!(store.info(ID).unwrap().labels, labels);
        Self { disk, store, policy }
    }

    fn series(&self, name: &str) -> SeriesRef {
        let found = self.store.select(&[]);
        found.iter().find(|info| info.labels.metric() == Some(name)).unwrap().series
    }

    /// The value of one function in the row of `width_s` that ends at `end_s`.
    fn value(&self, series: SeriesRef, function: &Function, width_s: i64, end_s: i64) -> f64 {
        let is_it = |a: &crate::ArchiveSpec| a.step.as_millis().cast_signed() == width_s * 1000;
        let archive = self.policy.archives().iter().position(is_it).unwrap();
        let (from, to) = (Timestamp::from_secs(end_s - width_s), Timestamp::from_secs(end_s));
        let rows = self.store.rows(series, archive, Span::new(from, to).unwrap());
        let plane = match function {
            Function::Min => &rows.min,
            Function::Max => &rows.max,
            // The newest step stands there whether the row is known or not.
            Function::Last if archive > 0 && !rows.average.iter().all(|v| v.is_nan()) => &rows.last,
            _ => &rows.average,
        };
        plane.first().copied().unwrap_or(f64::NAN)
    }
}

/// Compares every row that rrdtool shows; how many were known.
fn compare(dir: &Path, file: &str, world: &World, hint: &str) -> usize {
    let dump = read_path(&dir.join(file)).unwrap();
    let mut known = 0;
    for rra in &dump.archives {
        let width = dump.width_s(rra);
        for (end, values) in fetched(dir, file, rra, &dump) {
            for (source, want) in dump.sources.iter().zip(values) {
                let got = world.value(world.series(&source.name), &rra.function, width, end);
                known += usize::from(!want.is_nan());
                let name = rra.function.name();
                assert!(
                    is_close(got, want),
                    "{hint}: {} {name} {width} s, row ending {end}: {got}, rrdtool {want}",
                    source.name
                );
            }
        }
    }
    known
}

#[test]
fn rows_are_those_of_rrdtool_and_go_on_as_its_do() {
    if !has_rrdtool("rows_are_those_of_rrdtool_and_go_on_as_its_do") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut known = 0;
    for number in 1..=12_u64 {
        let seed = number.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let file = format!("{number}.rrd");
        let (lines, step, last) = random_file(&file, &mut Dice(seed));
        rrdtool(dir.path(), &lines);
        let dump = read_path(&dir.path().join(&file)).unwrap();
        let world = World::of(&dump, None);
        known += compare(dir.path(), &file, &world, &format!("seed {seed:x}, imported"));
        let mut more = Vec::new();
        let mut at = last;
        for turn in 1..=150 {
            at += step / 2 + (turn * 7) % (step / 2);
            let mut samples = Vec::new();
            let mut line = format!("update {file} {at}");
            for (place, source) in dump.sources.iter().enumerate() {
                let mut value = f64::from(u32::try_from(turn * (place as u64 + 3) % 97).unwrap());
                if source.kind.name() != "GAUGE" && source.kind.name() != "ABSOLUTE" {
                    let rise = f64::from(u32::try_from(turn * 150).unwrap());
                    value += source.last_reading.parse::<f64>().unwrap().ceil() + rise;
                }
                write!(line, ":{value}").unwrap();
                let column = world.series(&source.name).column;
                let at = Timestamp::from_secs(at.cast_signed());
                samples.push(crate::Sample { column, at, value });
            }
            more.push(line);
            let frame =
                crate::SampleFrame { instance: ID, batch: crate::Batch::default(), samples };
            world.store.apply(turn + 1, Timestamp::from_secs(at.cast_signed()), &frame);
        }
        rrdtool(dir.path(), &more);
        known += compare(dir.path(), &file, &world, &format!("seed {seed:x}, gone on"));
        drop(world.disk);
    }
    assert!(known > 5000, "only {known} known values were compared");
}

/// A small file that rrdtool wrote, in both forms.
const NATIVE: &[u8] = include_bytes!("tests/small.rrd");
const XML: &[u8] = include_bytes!("tests/small.xml");

#[test]
fn days_of_a_zone_are_no_rows_of_rrdtool() {
    let dump = read(&mut Cursor::new(NATIVE), NATIVE.len() as u64).unwrap();
    let policy = Policy::parse("1m:2d,1d@Europe/Paris:5y").unwrap();
    let labels = Labels::from_pairs([("instance", "web-1")]).unwrap();
    let series = vec![TakenSeries { labels: labels.clone(), dump: &dump, source: 0 }];
    let archive = NewArchive { id: ID, labels: &labels, policy: &policy, series };
    let refused = write_archive(&MemDisk::new(), Path::new("/archives"), &archive);
    let refused = refused.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("rows of 1d@Europe/Paris cannot be imported: take"), "{refused}");
}

#[test]
fn a_coarser_policy_consolidates_and_a_finer_one_repeats() {
    let dump = read(&mut Cursor::new(NATIVE), NATIVE.len() as u64).unwrap();
    assert_eq!(dump.step_s, 60);
    // Rows of 60 s end at +180 .. +420: 8.667, 9, 10.667, and two unknown ones; +180 to +360 is a row.
    let coarse = World::of(&dump, Some("3m:1h;f64"));
    let (series, from) = (coarse.series("alpha"), 1_699_920_000);
    let mean = f64::midpoint(9.0, 32.0 / 3.0);
    let got = coarse.value(series, &Function::Average, 180, from + 360);
    assert!(got.is_nan(), "the file's own row of that width is unknown: {got}");
    let wide = World::of(&dump, Some("2m:1h,4m:1h;f64"));
    let got = wide.value(wide.series("alpha"), &Function::Average, 120, from + 240);
    assert!(is_close(got, f64::midpoint(26.0 / 3.0, 9.0)), "{got} {mean}");
    let fine = World::of(&dump, Some("30s:1h;f64"));
    for end in [270, 300] {
        let got = fine.value(fine.series("alpha"), &Function::Average, 30, from + end);
        assert!(is_close(got, 32.0 / 3.0), "{got} at {end}");
    }
}

#[test]
fn the_small_file_reads_alike_in_both_forms() {
    let native = read(&mut Cursor::new(NATIVE), NATIVE.len() as u64).unwrap();
    let xml = read(&mut Cursor::new(XML), 0).unwrap();
    assert_same(&native, &xml, "small");
    assert_eq!(source_names(&mut Cursor::new(XML), 0).unwrap(), ["alpha", "beta"]);
    let names = source_names(&mut Cursor::new(NATIVE), NATIVE.len() as u64).unwrap();
    assert_eq!(names, ["alpha", "beta"]);
}

#[test]
fn files_of_other_machines_are_sent_to_dump() {
    let mut swapped = NATIVE.to_vec();
    swapped[16..24].reverse();
    let mut narrow = NATIVE.to_vec();
    narrow.drain(12..16);
    let mut aligned = NATIVE.to_vec();
    aligned[28..32].copy_from_slice(&4_u32.to_le_bytes());
    for (bytes, what) in [(swapped, "big-endian"), (narrow, "packed"), (aligned, "aligned")] {
        let error = read(&mut Cursor::new(&bytes), bytes.len() as u64).unwrap_err();
        assert!(matches!(error, ImportError::OtherMachine), "{what}: {error}");
        assert!(error.to_string().contains("rrdtool dump"));
    }
}

#[test]
fn every_cut_of_a_file_is_refused() {
    for len in 0..NATIVE.len() {
        let part = &NATIVE[..len];
        assert!(read(&mut Cursor::new(part), len as u64).is_err(), "{len} bytes");
        assert!(read(&mut Cursor::new(part), NATIVE.len() as u64).is_err(), "{len} bytes");
    }
    for len in 0..XML.len() - 1 {
        assert!(read(&mut Cursor::new(&XML[..len]), 0).is_err(), "{len} bytes");
    }
}

#[test]
fn hostile_markup_is_refused_within_bounds() {
    let bomb =
        "<?xml version=\"1.0\"?><!DOCTYPE rrd [<!ENTITY a \"aaaa\">]><rrd>&a;</rrd>".to_owned();
    let deep = format!("<rrd>{}", "<ds>".repeat(100_000));
    let long = format!("<rrd><step>{}</step></rrd>", "1".repeat(10_000_000));
    let name = format!("<{}>", "r".repeat(10_000_000));
    let text = "<rrd><version>0003</version><step>&#54;0</step></rrd>".to_owned();
    let attribute = "<rrd x=\"1\"><step>60</step></rrd>".to_owned();
    let crossed = "<rrd><ds><name>a</ds></name></rrd>".to_owned();
    let sources = format!("<rrd>{}", "<ds></ds>".repeat(5000));
    for text in [bomb, deep, long, name, text, attribute, crossed, sources] {
        assert!(read(&mut Cursor::new(&text), 0).is_err(), "{:?}", text.get(..40));
    }
}

#[test]
fn a_header_that_promises_too_much_allocates_nothing() {
    for (at, what) in [(24, "sources"), (32, "archives"), (0x188, "rows"), (0x190, "steps")] {
        for value in [u64::MAX, u64::MAX / 8, 1 << 40, 1 << 24, 1 << 20] {
            let mut bytes = NATIVE.to_vec();
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let outcome = read(&mut Cursor::new(&bytes), bytes.len() as u64);
            assert!(outcome.is_err() || what == "steps", "{what} {value}");
        }
    }
}

/// Whatever was read can be taken over, or is refused; nothing panics.
fn take_over(bytes: &[u8]) {
    let Ok(dump) = read(&mut Cursor::new(bytes), bytes.len() as u64) else { return };
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    disk.create_dir(Path::new("/a")).unwrap();
    let labels = Labels::default();
    let derived = derive_policy(&[&dump]).map(|found| found.0);
    let policies = [derived.ok(), Policy::parse("1m:1h,7m:1d").ok(), Policy::parse("7s:1m").ok()];
    for policy in policies.into_iter().flatten() {
        if policy.archives().iter().map(|archive| archive.row_count).sum::<u64>() > 100_000 {
            continue;
        }
        for source in 0..dump.sources.len() {
            let name = Labels::from_pairs([(NAME, "a")]).unwrap();
            let series = vec![TakenSeries { labels: name, dump: &dump, source }];
            let archive = NewArchive { id: ID, labels: &labels, policy: &policy, series };
            let taken = write_archive(disk.as_ref(), Path::new("/a"), &archive);
            if taken.is_ok_and(|taken| taken.refused.is_empty()) {
                let (store, damage) = Store::open(Arc::clone(&disk), Path::new("/a"), 0).unwrap();
                assert_eq!(damage, []);
                assert_eq!(store.select(&[]).len(), 1);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn flipped_bits_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 1..6), native: bool) {
        let mut bytes = if native { NATIVE.to_vec() } else { XML.to_vec() };
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        take_over(&bytes);
    }

    #[test]
    fn any_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..4000), start in 0..3_usize) {
        let front: &[u8] = [&b""[..], &NATIVE[..128], b"<rrd><version>0003</version>"][start];
        bytes.splice(0..0, front.iter().copied());
        take_over(&bytes);
    }

    #[test]
    fn swapped_words_never_panic(words in prop::collection::vec((3..252_usize, any::<u64>()), 1..4)) {
        let mut bytes = NATIVE.to_vec();
        for (word, value) in words {
            bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        take_over(&bytes);
    }
}
