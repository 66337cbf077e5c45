//! A story that is cut short at every change of the disk, and told to its end after the restart.

use std::collections::BTreeMap;

use rrd::MemDisk;

use crate::world::{World, dump};

/// Acts, and what must be true of a store whatever cut them short.
pub(crate) struct Story<A: 'static> {
    pub(crate) policy: &'static str,
    pub(crate) acts: &'static [A],
    /// False when the disk failed: the power is off.
    pub(crate) perform: fn(&A, &mut World) -> bool,
    /// The archives at the end.
    pub(crate) files: &'static [&'static str],
    /// An act done over may have another number of frames, and batches other numbers.
    pub(crate) may_count_anew: bool,
}

/// A story told without a crash.
struct Told {
    /// What can be seen at each number of frames.
    dumps: BTreeMap<u64, String>,
    op_count: u64,
}

impl<A> Story<A> {
    /// What is there at the end of the story without a crash.
    pub(crate) fn end(&self) -> World {
        self.tell().1
    }

    pub(crate) fn survives_a_kill_at_any_moment(&self) {
        let (told, _) = self.tell();
        assert!(told.op_count > 60, "the acts make {} changes", told.op_count);
        for at in 0..told.op_count {
            self.check(&told, at, MemDisk::kill, &format!("kill after {at} changes"));
        }
    }

    pub(crate) fn survives_a_power_cut_at_any_moment(&self) {
        let (told, _) = self.tell();
        for at in 0..told.op_count {
            for seed in at * 100..at * 100 + 2 {
                let case = format!("power cut after {at} changes, seed {seed}");
                self.check(&told, at, |disk| disk.crash(seed), &case);
            }
        }
    }

    fn tell(&self) -> (Told, World) {
        let mut world = World::new(self.policy);
        let mut dumps = BTreeMap::from([(0, String::new())]);
        for (number, act) in self.acts.iter().enumerate() {
            assert!((self.perform)(act, &mut world), "act {number}");
            let now = dump(&world.store);
            if let Some(before) = dumps.insert(world.seq(), now.clone()) {
                assert_eq!(before, now, "round {number} changes nothing that can be seen");
            }
        }
        assert_eq!(world.files(), self.files);
        assert_eq!(world.store.damage(), []);
        (Told { dumps, op_count: world.disk.op_count() }, world)
    }

    fn check(&self, told: &Told, at: u64, after: impl Fn(&MemDisk) -> MemDisk, case: &str) {
        let mut world = World::new(self.policy);
        world.disk.stop_after(at);
        let done = self.acts.iter().take_while(|act| (self.perform)(act, &mut world)).count();
        let disk = after(&world.disk);
        let (mut world, damage) = world.restarted(disk);
        assert_eq!(damage, [], "{case}");
        match told.dumps.get(&world.seq()) {
            Some(expected) => {
                assert_eq!(&dump(&world.store), expected, "{case}: after the restart");
            }
            None => assert!(self.may_count_anew, "{case}: {} frames", world.seq()),
        }
        for (number, act) in self.acts.iter().enumerate().skip(done) {
            assert!((self.perform)(act, &mut world), "{case}: act {number}");
        }
        let last = self.seen(told.dumps.values().last().unwrap());
        assert_eq!(self.seen(&dump(&world.store)), last, "{case}: at the end");
        assert_eq!(world.files(), self.files, "{case}");
        let disk = world.disk.clone();
        let (world, damage) = world.restarted(disk);
        assert_eq!(damage, [], "{case}");
        assert_eq!(self.seen(&dump(&world.store)), last, "{case}: started again");
        assert_eq!(world.store.damage(), [], "{case}");
    }

    fn seen(&self, dump: &str) -> String {
        let lines = dump.lines().filter(|line| !self.may_count_anew || !line.starts_with("batch"));
        lines.collect::<Vec<_>>().join("\n")
    }
}
