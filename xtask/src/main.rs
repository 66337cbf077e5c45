//! The commands of this repository: `cargo xtask test|bench|demo`.
fn main() {}
