//! The policy that keeps what files of rrdtool keep: one archive for each width of their rows.

use std::collections::BTreeMap;

use super::{Dump, Function, ImportError};
use crate::Policy;

/// The policy for these files, and what of them it cannot say. Every number is kept in f64, so that
/// nothing is lost.
pub fn derive_policy(dumps: &[&Dump]) -> Result<(Policy, Vec<String>), ImportError> {
    let finest = dumps.iter().map(|dump| dump.step_s).fold(0, gcd);
    let mut widths: BTreeMap<u64, u64> = BTreeMap::new();
    let mut xffs: Vec<f64> = Vec::new();
    let mut keeps_last = false;
    for (dump, rra) in dumps.iter().flat_map(|dump| dump.archives.iter().map(move |r| (dump, r))) {
        if !rra.function.is_kept() {
            continue;
        }
        let rows = widths.entry(dump.step_s * rra.steps_per_row).or_default();
        *rows = dump.row_count(rra).max(*rows);
        if rra.steps_per_row > 1 {
            xffs.push(rra.xff);
            keeps_last |= rra.function == Function::Last;
        }
    }
    let Some((&first, _)) = widths.first_key_value() else {
        return Err(ImportError::Unfit("it has no archive of a function that is kept".to_owned()));
    };
    // Readings are averaged over the step, whether the file keeps such rows or not.
    widths.entry(finest).or_insert((2 * first).div_ceil(finest));
    let mut remarks = drop_widths(&mut widths);
    let xff = xffs.first().copied().unwrap_or(Policy::DEFAULT_XFF);
    if xffs.iter().any(|other| other.to_bits() != xff.to_bits()) {
        remarks.push(format!("its archives differ in xff; {xff} is taken for all"));
    }
    let archives: Vec<String> =
        widths.iter().map(|(width, rows)| format!("{width}s:{}s", width * rows)).collect();
    let last = if keeps_last { ";last" } else { "" };
    let text = format!("{};f64;xff={xff}{last}", archives.join(","));
    match Policy::parse(&text) {
        Ok(policy) => Ok((policy, remarks)),
        Err(reason) => Err(ImportError::Unfit(format!("no policy keeps its rows: {reason}"))),
    }
}

/// Leaves as many widths as a policy can name: those with the fewest rows go, never the finest.
fn drop_widths(widths: &mut BTreeMap<u64, u64>) -> Vec<String> {
    let mut dropped = Vec::new();
    while widths.len() > Policy::MOST_ARCHIVES {
        let Some((&width, _)) = widths.iter().skip(1).min_by_key(|(_, rows)| **rows) else { break };
        widths.remove(&width);
        let most = Policy::MOST_ARCHIVES;
        dropped.push(format!("rows of {width} s are left out: a policy has at most {most} widths"));
    }
    dropped
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
