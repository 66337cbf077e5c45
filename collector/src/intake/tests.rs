//! Tests of the intake: requests through the router, over memory, with a small worker behind it.

mod agent;
mod archive;
mod enrolment;
mod influx;
mod native;
mod support;
mod write;
