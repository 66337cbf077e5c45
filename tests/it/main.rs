//! End-to-end tests of the program: the real binary, real clients, real faults.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod agent;
mod alerts;
mod bad_input;
mod beat;
mod bombs;
mod browser;
mod collectd;
mod command_line;
mod corpus;
mod crash;
mod docs;
mod enrolment;
mod fairness;
mod faults;
mod front;
mod graphite;
mod hostile;
mod http;
mod import;
mod influx;
mod instances;
mod operate;
mod otlp;
mod peers;
mod plugins;
mod power;
mod probes;
mod promql;
mod pushgateway;
mod recipes;
mod relabel;
mod remote_write;
mod rrdtool;
mod scraping;
mod senders;
mod server;
mod statsd;
mod status;
mod steady;
mod tidy;
mod tls;
mod trial;
mod zabbix;
