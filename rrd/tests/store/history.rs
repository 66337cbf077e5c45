//! Histories that are cut short: whatever was under way when the power or the program went, what follows is
//! as if nothing had happened.

use std::collections::BTreeMap;
use std::fmt::Debug;

use rrd::MemDisk;

use crate::world::{World, dump};

/// One thing that happens to a world.
pub(crate) trait Act: Debug {
    /// False when the power is off.
    fn perform(&self, world: &mut World) -> bool;
}

/// When a history is cut, what is left of its disk then, and what the world shows after each frame where
/// nothing is cut.
pub(crate) struct Cut<'a> {
    /// Changes of the disk that still come through.
    pub(crate) stop_after: u64,
    pub(crate) after: &'a dyn Fn(&MemDisk) -> MemDisk,
    pub(crate) dumps: &'a BTreeMap<u64, String>,
}

impl Cut<'_> {
    /// Plays a history in a world that has begun, up to the cut and after it.
    pub(crate) fn play(&self, mut world: World, acts: &[impl Act]) {
        world.disk.stop_after(self.stop_after);
        let done = acts.iter().take_while(|act| act.perform(&mut world)).count();
        world = self.restarted(world, "after the restart");
        for act in &acts[done..] {
            assert!(act.perform(&mut world), "{act:?}");
            self.same(&world, &format!("after {act:?}"));
        }
        let world = self.restarted(world, "after another restart");
        assert_eq!(world.store.damage(), []);
    }

    fn restarted(&self, world: World, case: &str) -> World {
        let disk = (self.after)(&world.disk);
        let (world, damage) = world.restarted(disk);
        assert_eq!(damage, []);
        self.same(&world, case);
        world
    }

    fn same(&self, world: &World, case: &str) {
        let case = format!("frame {}, {case}", world.seq());
        differ(&self.dumps[&world.seq()], &dump(&world.store), &case);
    }
}

/// Names the first line of a dump that is another.
pub(crate) fn differ(before: &str, now: &str, case: &str) {
    let mut series = "";
    for (before, now) in before.lines().zip(now.lines()) {
        series = if before.starts_with("series") { before } else { series };
        assert_eq!(before, now, "{case}: {series}");
    }
    assert_eq!(before.len(), now.len(), "{case}");
}
