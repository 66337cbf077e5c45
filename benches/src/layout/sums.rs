//! Checksums: what a read of a day must check, under a sum a tile and under a sum a page.

use std::hint::black_box;
use std::io;

use anyhow::Result;

use super::plan::{FINE_ROWS, Plan, pages, usize_of};
use crate::meter::{median, micros, timed};

const PAGE: usize = 4096;
const TIMES: u32 = 101;

pub(super) fn run(out: &mut dyn io::Write, rows_of_tile: &[u64]) -> Result<()> {
    writeln!(
        out,
        "CRC32C of what a day of one series is in (W 128), and of one closed minute's writes"
    )?;
    writeln!(out, "{:>5}{:>16}{:>16}{:>16}", "K", "a sum a tile", "a sum a page", "write, a page")?;
    for &k in rows_of_tile {
        let plan = Plan { k, w: 128, is_side_by_side: false };
        let day = plan.fine_day(1);
        let tiles = day.len();
        let minute: Vec<_> = (0..plan.w).map(|column| plan.fine(FINE_ROWS / 2, column)).collect();
        let read_pages = usize_of(pages(&day));
        let written_pages = usize_of(pages(&minute));
        let tile_len = usize_of(k) * 4;
        writeln!(
            out,
            "{k:>5}{:>16}{:>16}{:>16}",
            cost(tiles, tile_len),
            cost(read_pages, PAGE),
            cost(written_pages, PAGE)
        )?;
    }
    Ok(())
}

/// The time of so many sums of so many bytes.
fn cost(count: usize, len: usize) -> String {
    let bytes = vec![7_u8; count * len];
    let sums = || bytes.chunks_exact(len).fold(0, |all, one| all ^ crc32c::crc32c(black_box(one)));
    let times = (0..TIMES).map(|_| timed(|| black_box(sums())).1).collect();
    micros(median(times))
}
