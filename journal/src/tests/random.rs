//! Random histories of appends, commits, checkpoints, kills and power cuts against a plain list.

use proptest::prelude::*;

use super::*;
use crate::Refused;

#[derive(Clone, Debug)]
enum Step {
    Append { count: usize, len: usize, wait: bool },
    Trim { back: u64 },
    Kill,
    Cut { seed: u64, op_count: Option<u64> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..5_usize, 0..12_000_usize, any::<bool>())
            .prop_map(|(count, len, wait)| Step::Append { count, len, wait }),
        3 => (0..4_u64).prop_map(|back| Step::Trim { back }),
        1 => Just(Step::Kill),
        2 => (any::<u64>(), proptest::option::of(0..40_u64))
            .prop_map(|(seed, op_count)| Step::Cut { seed, op_count }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What the journal should hold.
#[derive(Default)]
struct Model {
    /// Every frame appended since the last start or found by it, with what its body begins with.
    frames: Vec<(u64, u64)>,
    /// The last frame known to be durable.
    durable: u64,
    trimmed: u64,
    /// Numbers the bodies.
    next: u64,
}

impl Model {
    fn check(&mut self, found: &Opened) {
        assert_eq!(found.damage, []);
        assert!(found.checkpoint.seq >= self.trimmed);
        let above = found.checkpoint.seq;
        let frames: Vec<(u64, u64)> = found
            .frames
            .iter()
            .filter(|frame| frame.kind != TICK)
            .map(|frame| (frame.seq, u64::from_le_bytes(*frame.body.first_chunk().unwrap())))
            .collect();
        let expected: Vec<_> =
            self.frames.iter().copied().filter(|(seq, _)| *seq > above).collect();
        assert!(expected.starts_with(&frames), "{frames:?} begins {expected:?}");
        let last = frames.last().map_or(above, |(seq, _)| *seq).max(above);
        let lost = expected.iter().find(|(seq, _)| *seq > last && *seq <= self.durable);
        assert_eq!(lost, None, "durable up to {}", self.durable);
        self.frames = frames;
        self.durable = last;
        self.trimmed = above;
    }

    fn append(&mut self, opened: &Opened, count: usize, len: usize, wait: bool) {
        let group: Vec<Vec<u8>> = (self.next..self.next + count as u64)
            .map(|number| [&number.to_le_bytes()[..], &vec![0xC5; len]].concat())
            .collect();
        let parts: Vec<(u8, &[u8])> = group.iter().map(|body| (1, &body[..])).collect();
        match opened.journal.append_all(&parts) {
            Ok(range) => {
                self.frames.extend(range.clone().zip(self.next..));
                self.next += count as u64;
                if wait && opened.journal.wait_durable(range.end - 1).is_ok() {
                    self.durable = range.end - 1;
                }
            }
            Err(Refused::Full | Refused::Failed(_)) => {}
            Err(refused) => panic!("{refused}"),
        }
    }
}

fn play(steps: &[Step]) {
    let mut disk = MemDisk::new();
    let mut model = Model::default();
    let mut opened = open(&disk);
    for step in steps {
        match *step {
            Step::Append { count, len, wait } => model.append(&opened, count, len, wait),
            Step::Trim { back } => {
                read_all(&opened.journal);
                let seq = opened.journal.stats().committed.saturating_sub(back).max(model.trimmed);
                if opened.journal.trim(record(seq, opened.journal.epoch())).is_ok() {
                    model.trimmed = seq;
                    model.durable = model.durable.max(seq);
                }
            }
            Step::Kill => {
                disk = disk.kill();
                opened = open(&disk);
                model.check(&opened);
            }
            Step::Cut { op_count: Some(op_count), .. } => disk.stop_after(op_count),
            Step::Cut { seed, op_count: None } => {
                disk = disk.crash(seed);
                opened = open(&disk);
                model.check(&opened);
            }
        }
    }
    disk = disk.crash(0);
    model.check(&open(&disk));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn any_history_keeps_what_is_durable_in_order(steps in steps()) {
        play(&steps);
    }
}
