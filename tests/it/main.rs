//! End-to-end tests of the program: the real binary, real clients, real faults.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod agent;
mod alerts;
mod bad_input;
mod browser;
mod command_line;
mod crash;
mod faults;
mod hostile;
mod http;
mod import;
mod instances;
mod operate;
mod peers;
mod power;
mod promql;
mod pushgateway;
mod rrdtool;
mod scraping;
mod senders;
mod server;
mod steady;
mod tidy;
