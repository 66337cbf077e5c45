//! Checking and mending: rot is found wherever it is, nothing else is called so, and can be let go.

use std::path::Path;

use rrd::{BadTile, Disk, MemDisk, SlotView, Store, inspect_slots};

use crate::world::{WEB, World, dump, gauge, open};

const POLICY: &str = "10s:5m,1m:20m;hb=1m;last";

/// A series of both cells after some rounds, several laps long, and not ended with one.
fn world() -> World {
    let mut world = World::new(POLICY);
    world.grant(&[gauge("a"), gauge("b_time_seconds")]).unwrap();
    for step in 1..=205_i64 {
        let value = step as f64;
        world.push(&[("a", step * 10, value), ("b_time_seconds", step * 10, value)]);
        if step % 9 == 0 {
            world.round();
        }
    }
    world
}

fn check(store: &Store) -> (u64, Vec<BadTile>) {
    let mut check = store.check(WEB).unwrap().unwrap();
    let (mut tiles, mut bad) = (0, Vec::new());
    while let Some(checked) = check.step().unwrap() {
        tiles += checked.tiles;
        bad.extend(checked.bad);
    }
    (tiles, bad)
}

fn flip(disk: &MemDisk, at: u64) {
    let file = disk.open(Path::new(&World::file_path())).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_sound_file_has_no_bad_tile_before_and_after_a_crash() {
    let world = world();
    let (tiles, bad) = check(&world.store);
    // Half a minute of rows waits in memory; the file has 2 and a bit tiles of an archive.
    assert!(tiles > 6, "{tiles}");
    assert_eq!(bad, []);
    // A round that wrote and does not count: what it wrote over at the far end is not rot.
    let disk = world.disk.clone();
    assert_eq!(world.store.begin_round(world.seq(), 1).write().failed, []);
    let (world, damage) = world.restarted(disk);
    assert_eq!(damage, []);
    assert_eq!(check(&world.store).1, []);
}

#[test]
fn a_changed_bit_of_a_readable_cell_is_found_by_the_check_exactly_when_a_reader_finds_it() {
    let world = world();
    let end = world.file_len();
    let mut found = 0;
    for at in (20_480..end).step_by(61) {
        flip(&world.disk, at);
        let (_, bad) = check(&world.store);
        let damage = world.store.damage().len();
        dump(&world.store);
        let is_read = world.store.damage().len() > damage;
        for tile in &bad {
            world.store.report_tile(tile);
        }
        assert_eq!(world.store.damage().len() - damage, bad.len(), "byte {at}: {bad:?}");
        assert_eq!(is_read, !bad.is_empty(), "byte {at}");
        found += bad.len();
        flip(&world.disk, at);
        // A fresh store, so that damage already known does not hide the next.
        if is_read {
            let disk = world.disk.clone();
            return assert_many(world.restarted(disk).0, found);
        }
    }
    panic!("no byte was read");
}

/// Goes on behind the first find with a new store each time.
fn assert_many(mut world: World, mut found: usize) {
    for at in (20_480..world.file_len()).step_by(307) {
        flip(&world.disk, at);
        found += check(&world.store).1.len();
        flip(&world.disk, at);
    }
    world.round();
    assert!(found > 3, "{found}");
}

#[test]
fn tiles_let_go_are_unknown_and_no_damage_any_more() {
    let mut world = world();
    world.round();
    let (upto, disk) = (world.checkpoint, world.disk.clone());
    let before = dump(&world.store);
    let mut let_go = 0;
    for at in (20_480..world.file_len()).step_by(37) {
        flip(&disk, at);
        let (store, _) = open(&disk, upto);
        let bad = match store.check(WEB).unwrap() {
            Some(_) => check(&store).1,
            None => Vec::new(), // The block's head: the file cannot be used.
        };
        if bad.is_empty() {
            flip(&disk, at);
            continue;
        }
        store.forget_tiles(&bad, upto, 1).unwrap();
        let (store, damage) = open(&disk, upto);
        assert_eq!(damage, [], "byte {at}");
        assert_eq!(check(&store).1, [], "byte {at}");
        let after = dump(&store);
        assert_eq!(store.damage(), [], "byte {at}");
        assert_eq!(before.lines().count(), after.lines().count(), "byte {at}");
        for (was, row) in before.lines().zip(after.lines()).filter(|(was, row)| was != row) {
            assert!(row.contains(" NaN NaN NaN 0"), "byte {at}: {was} became {row}");
        }
        let_go += bad.len();
    }
    assert!(let_go > 5, "{let_go}");
}

#[test]
fn a_damaged_slot_still_says_where_it_stood_and_is_written_anew() {
    let mut world = world();
    world.round();
    let path = World::file_path();
    let file = world.disk.open(Path::new(&path)).unwrap();
    let slots = inspect_slots(file.as_ref()).unwrap().unwrap();
    assert_eq!(slots.newest(u64::MAX), Some(world.checkpoint));
    let older = slots.oldest().unwrap();
    let copy = slots
        .slots
        .iter()
        .position(|slot| matches!(slot, SlotView::Whole { seq, .. } if *seq == older));
    flip(&world.disk, 1024 + 512 * copy.unwrap() as u64 + 100);
    let damaged = inspect_slots(file.as_ref()).unwrap().unwrap();
    assert!(damaged.slots.contains(&SlotView::Damaged { seq: Some(older) }), "{damaged:?}");
    let before = dump(&world.store);
    let (store, damage) = open(&world.disk, world.checkpoint);
    assert_eq!(damage.len(), 1);
    store.rewrite_slots(WEB, world.checkpoint, 1).unwrap();
    let (store, damage) = open(&world.disk, world.checkpoint);
    assert_eq!(damage, []);
    assert_eq!(dump(&store), before);
}
