//! The commands as a caller sees them, on a disk in memory.
