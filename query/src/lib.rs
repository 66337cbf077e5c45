//! PromQL over round-robin archives: parse, choose the archive, evaluate.
//!
//! Pure but for the trait [`Read`]: no clock, no files, no tasks.

mod read;

pub use read::{ArchiveShape, Read, Rows, Series};
