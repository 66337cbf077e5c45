//! Tests of maps: what they copy, and what becomes of a file that is cut under one.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use rustix::process::{Signal, getpid, kill_process};

use super::*;

/// Set in the process that sends itself the signal.
const CHILD: &str = "ROUNDEL_TEST_CHILD";

fn file(len: usize) -> (std::fs::File, Vec<u8>) {
    let mut file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..=255).cycle().take(len).collect();
    file.write_all(&content).unwrap();
    (file, content)
}

#[test]
fn a_map_copies_any_stretch_and_nothing_outside() {
    let (file, content) = file(10_000);
    let map = Map::of(&file, 9_999).unwrap();
    assert_eq!(map.len(), 9_999);
    for (offset, len) in [(0, 9_999), (1, 7), (4, 8), (4, 9), (9_998, 1), (9_999, 0)] {
        let mut bytes = vec![0; len];
        map.read_at(&mut bytes, offset as u64).unwrap();
        assert_eq!(bytes, content[offset..offset + len], "{offset} + {len}");
    }
    for (offset, len) in [(9_999, 1), (0, 10_000), (u64::MAX, 1)] {
        assert!(map.read_at(&mut vec![0; len], offset).is_err(), "{offset} + {len}");
    }
    assert!(Map::of(&file, 10_001).is_err());
}

#[test]
fn a_file_that_is_cut_under_its_map_is_an_error_for_its_readers_alone() {
    let ((cut, _), (other, content)) = (file(400_000), file(400_000));
    let (map, beside) = (Map::of(&cut, 400_000).unwrap(), Map::of(&other, 400_000).unwrap());
    let mut bytes = [0; 64];
    map.read_at(&mut bytes, 300_000).unwrap();
    cut.set_len(4096).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let map = &map;
            scope.spawn(move || {
                for offset in (4096..399_000).step_by(4096) {
                    let read = map.read_at(&mut [0; 512], offset + thread);
                    assert!(read.is_err(), "{offset}");
                }
            });
        }
    });
    assert!(map.read_at(&mut bytes, 0).is_err(), "once broken, nothing of it is trusted");
    beside.read_at(&mut bytes, 300_000).unwrap();
    assert_eq!(bytes, content[300_000..300_064]);
    cut.set_len(400_000).unwrap();
    Map::of(&cut, 400_000).unwrap().read_at(&mut bytes, 300_000).unwrap();
    assert_eq!(bytes, [0; 64], "a new map is sound");
}

#[test]
fn a_bus_error_that_is_not_of_a_map_still_kills() {
    if std::env::var_os(CHILD).is_some() {
        let (file, _) = file(4096);
        let _map = Map::of(&file, 4096).unwrap();
        // One for us, one for the handler that the standard library had, one that kills; those that
        // come before another is handled are one.
        for _ in 0..1_000_000 {
            kill_process(getpid(), Signal::BUS).unwrap();
            std::thread::yield_now();
        }
        return;
    }
    let name = "map::tests::a_bus_error_that_is_not_of_a_map_still_kills";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert_eq!(child.status.signal(), Some(7), "{child:?}");
}
