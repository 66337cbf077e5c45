//! Tests of the intake: requests through the router, over memory, with a small worker behind it.

mod agent;
mod archive;
mod enrolment;
mod local;
mod native;
mod pushed;
mod scraped;
mod otlp;
mod support;
mod write;
mod write2;
