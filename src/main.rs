//! The program `roundel`: arguments and configuration become parts, which start and stop.
fn main() {}
