//! Tests of the intake: requests through the router, over memory, with a small worker behind it.

mod agent;
mod archive;
mod attested;
mod beat;
mod books;
mod collectd;
mod enrolment;
mod fleet;
mod full;
mod graphite;
mod influx;
mod keys;
mod kinds;
mod local;
mod native;
mod otlp;
mod pushed;
mod relabel;
mod roles;
mod scraped;
mod sockets;
mod support;
mod told;
mod write;
mod write2;
mod zabbix;
