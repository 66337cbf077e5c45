//! Rows that late gauges have changed, on a disk that fails for a moment while a round writes them.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rrd::Store;
use rrd::disk::{File, WatchedDisk, Watcher};

use crate::world::{DIR, World, dump, gauge};

/// Lets some writes and syncs in a row fail, the first of them halfway.
struct Flaky {
    /// Changes until the first that fails; far below nought while none does.
    left: AtomicI64,
    /// How many fail.
    count: i64,
    /// Where a sync that comes next says so, and waits to go on.
    gate: Mutex<Option<Gate>>,
}

struct Gate {
    reached: Sender<()>,
    go_on: Receiver<()>,
}

impl Flaky {
    fn new(count: i64) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(i64::MIN), count, gate: Mutex::default() })
    }

    /// From the change after so many others on, `count` fail.
    fn fail_after(&self, left: i64) {
        self.left.store(left, Ordering::SeqCst);
    }

    fn change(&self) -> io::Result<()> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        let fails = (1 - self.count..=0).contains(&left);
        if fails { Err(io::Error::other("a moment's failure")) } else { Ok(()) }
    }
}

impl Watcher for Flaky {
    fn write(&self, file: &dyn File, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.change() {
            Ok(()) => file.write_at(bytes, offset),
            Err(reason) => {
                file.write_at(&bytes[..bytes.len() / 2], offset)?;
                Err(reason)
            }
        }
    }

    fn sync(&self, file: &dyn File) -> io::Result<()> {
        if let Some(gate) = &*self.gate.lock().unwrap() {
            gate.reached.send(()).unwrap();
            gate.go_on.recv().unwrap();
        }
        self.change()?;
        file.sync_data()
    }
}

/// Full tiles, the one that the newest row is in, and rows above, all with gaps and late readings in them.
fn changed(flaky: &Arc<Flaky>) -> World {
    let mut world = World::new("10s:20m,1m:1h;hb=20s;last");
    let disk = WatchedDisk::new(world.disk.clone(), flaky.clone());
    world.store = Store::open(Arc::new(disk), Path::new(DIR), 0).unwrap().0;
    world.grant(&[gauge("a"), gauge("b")]).unwrap();
    let rows = |name, steps: std::ops::RangeInclusive<i64>| {
        steps.filter(|step| step % 5 > 1).map(move |step| (name, step * 10, step as f64))
    };
    world.push(&rows("a", 1..=70).chain(rows("b", 20..=70)).collect::<Vec<_>>());
    assert_eq!(world.round().failed, []);
    // This one came to nothing, and has changed rows already.
    world.push(&[("a", 410, 4.0), ("b", 660, 4.0)]);
    assert_eq!(world.store.begin_round(world.seq(), 1).write().failed, []);
    world.push(&[
        ("a", 160, 1.0),
        ("a", 650, 2.0),
        ("a", 400, 3.0),
        ("b", 700, 4.0),
        ("b", 300, 5.0),
    ]);
    world.push(&rows("a", 71..=75).collect::<Vec<_>>());
    world
}

#[test]
fn a_disk_that_fails_for_a_moment_costs_nothing_and_is_not_seen() {
    for count in [1, 2, 3, 50] {
        let mut failed = 0;
        for at in 0.. {
            let case = format!("{count} changes fail after {at}");
            let flaky = Flaky::new(count);
            let mut world = changed(&flaky);
            let expected = dump(&world.store);
            flaky.fail_after(at);
            let report = world.store.begin_round(world.seq(), 1).write();
            flaky.fail_after(i64::MIN);
            // While what was there cannot be put back, rows of those tiles are unknown.
            if count == 1 {
                assert_eq!(dump(&world.store), expected, "{case}: beside the failure");
                assert_eq!(world.store.damage(), [], "{case}");
            }
            let stop = report.failed.is_empty();
            failed += u32::from(!stop);
            assert_eq!(world.round().failed, [], "{case}");
            assert_eq!(dump(&world.store), expected, "{case}: after the next round");
            for seed in 0..3 {
                let disk = world.disk.crash(seed);
                let (restarted, damage) = world.restarted(disk);
                assert_eq!(damage, [], "{case}");
                assert_eq!(dump(&restarted.store), expected, "{case}: after a restart");
                assert_eq!(restarted.store.damage(), [], "{case}");
                world = restarted;
            }
            if stop {
                break;
            }
        }
        assert!(failed > 5, "{failed} rounds failed");
    }
}

#[test]
fn who_reads_while_a_round_syncs_sees_changed_rows_and_no_rot() {
    let flaky = Flaky::new(0);
    let mut world = changed(&flaky);
    let expected = dump(&world.store);
    let (reached, at_sync) = channel();
    let (let_go, go_on) = channel();
    *flaky.gate.lock().unwrap() = Some(Gate { reached, go_on });
    let round = world.store.begin_round(world.seq(), 1);
    let mut syncs = 0;
    std::thread::scope(|scope| {
        let let_go = let_go; // Gone with a failed assertion, so that the writer does not wait for ever.
        let writer = scope.spawn(|| {
            let report = round.write();
            *flaky.gate.lock().unwrap() = None;
            report
        });
        while at_sync.recv().is_ok() {
            syncs += 1;
            assert_eq!(dump(&world.store), expected, "at sync {syncs}");
            let_go.send(()).unwrap();
        }
        assert_eq!(writer.join().unwrap().failed, []);
    });
    assert_eq!(syncs, 2, "what is saved, then all");
    assert_eq!(world.store.damage(), []);
    world.round();
    assert_eq!(dump(&world.store), expected);
}
