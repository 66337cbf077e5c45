//! Rot in the journal: whatever changes behind its back, what is handed out was appended, in order, and
//! what was acknowledged and is missing is reported with its file, byte and sequences.

use std::collections::BTreeMap;

use rrd::OsDisk;

use super::*;

/// A journal whose frames were each acknowledged alone; `bodies` by sequence.
struct Whole {
    disk: MemDisk,
    bodies: BTreeMap<u64, Vec<u8>>,
}

impl Whole {
    /// Frames of several sizes over more than one segment.
    fn new(frames: u32) -> Self {
        let disk = MemDisk::new();
        let opened = open(&disk);
        let bodies = (0..frames).map(|number| {
            let mut body = vec![0xC5; (number as usize * 1237) % 5000];
            body.extend_from_slice(&number.to_le_bytes());
            (opened.append_durably(&body), body)
        });
        let bodies = bodies.collect();
        drop(opened);
        Self { disk: disk.kill(), bodies }
    }

    fn bytes(&self, path: &Path) -> Vec<u8> {
        let file = self.disk.open(path).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// The same files with other content in one of them.
    fn with(&self, changed: &Path, content: &[u8]) -> MemDisk {
        let copy = MemDisk::new();
        for path in self.disk.list(Path::new(DIR)).unwrap() {
            let bytes = self.bytes(&path);
            let bytes = if path == changed { content } else { &bytes };
            copy.create(&path).unwrap().write_at(bytes, 0).unwrap();
        }
        copy
    }

    /// Nothing invented, nothing out of order; all that is missing was said, but for the very last
    /// commit, which looks like a torn one. Answers the sequences missing.
    #[track_caller]
    fn check(&self, found: &Opened, case: &str) -> Vec<u64> {
        let frames = found.frames.iter().filter(|frame| frame.kind != TICK);
        let handed_out: Vec<u64> = frames
            .map(|frame| {
                assert_eq!(self.bodies.get(&frame.seq).unwrap(), &frame.body[..], "{case}");
                frame.seq
            })
            .collect();
        assert!(handed_out.is_sorted_by(|a, b| a < b), "{case}: {handed_out:?}");
        let missing = self.bodies.keys().copied().filter(|seq| !handed_out.contains(seq));
        let missing: Vec<u64> = missing.collect();
        let newest = *self.bodies.keys().last().unwrap();
        for seq in &missing {
            let is_said = found.damage.iter().any(|damage| {
                damage.after < *seq && damage.resumes.is_none_or(|resumes| *seq < resumes)
            });
            assert!(is_said || *seq == newest, "{case}: {seq} is missing without a word");
        }
        missing
    }
}

#[test]
fn each_frame_that_rots_is_named_and_all_others_are_handed_out() {
    let whole = Whole::new(40);
    for (&seq, body) in &whole.bodies {
        let number = &body[body.len() - 4..];
        let (path, at) = (0..4)
            .find_map(|index| {
                let bytes = whole.bytes(&segment(index));
                // The number stands behind the frame's magic word at most a body and an envelope back.
                let starts = (8192..bytes.len() - 60).step_by(8);
                starts
                    .filter(|at| bytes[*at..].starts_with(b"RNDF"))
                    .find(|at| bytes[at + 8..at + 16] == seq.to_le_bytes())
                    .map(|at| (segment(index), at))
            })
            .unwrap();
        // The envelope's sequence, its checksum, the first and the last byte of the body.
        for offset in [8, 48, 56, 56 + body.len() - number.len()] {
            let mut bytes = whole.bytes(&path);
            bytes[at + offset] ^= 0x10;
            let found = open(&whole.with(&path, &bytes));
            let case = format!("frame {seq}, byte {offset} of it");
            let missing = whole.check(&found, &case);
            assert_eq!(missing, [seq], "{case}");
            if seq != *whole.bodies.keys().last().unwrap() {
                let [damage] = &found.damage[..] else { panic!("{case}: {:?}", found.damage) };
                let said = (damage.path.clone(), damage.offset, damage.after, damage.resumes);
                assert_eq!(said, (path.clone(), at as u64, seq - 1, Some(seq + 1)), "{case}");
            }
        }
    }
}

#[test]
fn any_changed_byte_of_any_file_is_harmless_or_reported() {
    let whole = Whole::new(20);
    let mut refused = 0;
    for path in whole.disk.list(Path::new(DIR)).unwrap() {
        let bytes = whole.bytes(&path);
        // Every byte of heads and of the first frames, then some all over the file.
        let offsets =
            (0..70).chain(4096..4166).chain(8192..8300).chain((8300..bytes.len()).step_by(1999));
        for offset in offsets {
            let mut bytes = bytes.clone();
            bytes[offset] ^= 1 << (offset % 8);
            let case = format!("{} byte {offset}", path.display());
            match try_open(&whole.with(&path, &bytes), config()) {
                Ok(found) => drop(whole.check(&found, &case)),
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("restore"), "{case}: {error}");
                }
            }
        }
    }
    assert!(refused < 200, "{refused} starts were refused");
}

#[test]
fn a_segment_of_any_other_length_is_refused_by_name() {
    let whole = Whole::new(6);
    for index in [0, 1, 3] {
        let bytes = whole.bytes(&segment(index));
        let dense = (0..100).chain((100..bytes.len()).step_by(1021)).chain([bytes.len() - 1]);
        for len in dense {
            let case = format!("segment {index} cut at {len}");
            let refused = try_open(&whole.with(&segment(index), &bytes[..len]), config());
            let error = refused.err().unwrap_or_else(|| panic!("{case}: opened")).to_string();
            assert!(error.contains("segment-"), "{case}: {error}");
        }
    }
}

/// Zeroes from any byte on are what a segment looks like whose end was never written.
#[test]
fn a_log_that_ends_at_any_byte_gives_what_comes_before() {
    let whole = Whole::new(10);
    let bytes = whole.bytes(&segment(0));
    // Every byte of the first frames and of the beginnings of blocks, then some.
    let is_dense = |len: usize| len < 8192 + 200 || len % 4096 < 9 || len.is_multiple_of(509);
    for len in (8192..bytes.len()).filter(|len| is_dense(*len)) {
        let mut cut = bytes[..len].to_vec();
        cut.resize(bytes.len(), 0);
        let found = open(&whole.with(&segment(0), &cut));
        let handed_out: Vec<u64> =
            found.frames.iter().filter(|frame| frame.kind != TICK).map(|frame| frame.seq).collect();
        let first: Vec<u64> = whole.bodies.keys().copied().take(handed_out.len()).collect();
        assert_eq!(handed_out, first, "cut at {len}: in order, nothing skipped");
        assert_eq!(found.damage, [], "cut at {len}: looks as if it had never been written");
    }
}

type Change = Box<dyn Fn(&Path)>;

#[test]
fn whatever_stands_in_a_segments_place_is_named() {
    let whole = Whole::new(6);
    let dir = tempfile::tempdir().unwrap();
    let other = whole.bytes(&segment(1));
    let changes: [(&str, Change); 5] = [
        ("an empty file", Box::new(|path| std::fs::write(path, []).unwrap())),
        ("a folder", Box::new(|path| std::fs::create_dir(path).unwrap())),
        ("a link to itself", Box::new(|path| std::os::unix::fs::symlink(path, path).unwrap())),
        ("another segment", Box::new(move |path| std::fs::write(path, &other).unwrap())),
        ("nothing", Box::new(|_| ())),
    ];
    for (case, (what, change)) in changes.iter().enumerate() {
        for index in [0, 2] {
            let folder = dir.path().join(format!("{case}-{index}"));
            std::fs::create_dir(&folder).unwrap();
            for path in whole.disk.list(Path::new(DIR)).unwrap() {
                std::fs::write(folder.join(path.file_name().unwrap()), whole.bytes(&path)).unwrap();
            }
            let place = crate::segment::path(&folder, index);
            std::fs::remove_file(&place).unwrap();
            change(&place);
            let opened = Journal::open(Arc::new(OsDisk), &folder, config(), clock());
            let error = opened.err().unwrap_or_else(|| panic!("{what} as {index}")).to_string();
            assert!(error.contains("segment-") || error.contains("checkpoint"), "{what}: {error}");
        }
    }
}
