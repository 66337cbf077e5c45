//! Tests of the intake: requests through the router, over memory, with a small worker behind it.

mod agent;
mod archive;
mod beat;
mod collectd;
mod enrolment;
mod graphite;
mod influx;
mod native;
mod sockets;
mod support;
mod write;
mod zabbix;
