//! Random histories of the joined parts, the power gone at random moments, several times over.

use super::chance::Chance;
use super::*;
use fixtures::dice::{Dice, told};

/// Histories of each kind.
const HISTORIES: u64 = 20;
/// Crashes of each history.
const CRASHES: usize = 25;

/// A history with crashes at random changes; after each the server is as the mirror.
fn play(runtime: &Runtime, seed: u64, after: &dyn Fn(u64, &MemDisk) -> MemDisk) {
    let mut dice = Dice::new(seed);
    let mut world = World::new(runtime);
    world.faults = (0..CRASHES).map(|_| dice.below(120)).collect();
    let after = |disk: &MemDisk| after(seed ^ disk.op_count(), disk);
    if !world.start() {
        world.restart(&after);
    }
    let mut chance = Chance::new(seed);
    while !world.faults.is_empty() {
        let act = chance.act();
        while !world.perform(act) {
            world.restart(&after);
        }
    }
    if !world.compare() {
        world.restart(&after);
    }
    world.restart(&|disk| disk.crash(seed));
}

fn play_all(test: &str, after: impl Fn(u64, &MemDisk) -> MemDisk + Sync) {
    const AT_ONCE: u64 = 4;
    let runtime = Runtime::new().unwrap();
    let seeds: Vec<u64> = told().map_or_else(|| (0..HISTORIES).collect(), |seed| vec![seed]);
    std::thread::scope(|scope| {
        for thread in 0..AT_ONCE {
            let (runtime, after, seeds) = (&runtime, &after, &seeds);
            scope.spawn(move || {
                for &seed in seeds.iter().filter(|seed| **seed % AT_ONCE == thread) {
                    let crash = AssertUnwindSafe(|| play(runtime, seed, after));
                    let again = format!("ROUNDEL_SEED={seed} cargo nextest run -p roundel {test}");
                    assert!(catch_unwind(crash).is_ok(), "again: {again}");
                }
            });
        }
    });
}

#[test]
fn any_history_with_kills_is_as_one_without() {
    play_all("any_history_with_kills_is_as_one_without", |_, disk| disk.kill());
}

#[test]
fn any_history_with_power_cuts_is_as_one_without() {
    play_all("any_history_with_power_cuts_is_as_one_without", |seed, disk| disk.crash(seed));
}
