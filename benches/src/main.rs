//! Measured comparisons with rival engines.
fn main() {}
