//! End-to-end tests of the program: the real binary, real clients, real faults.

mod alerts;
mod bad_input;
mod browser;
mod command_line;
mod crash;
mod http;
mod peers;
mod senders;
mod server;
mod tidy;
