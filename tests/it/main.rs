//! End-to-end tests of the program, one binary.
