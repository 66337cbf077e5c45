//! Tests of the intake: requests through the router, over memory, with a small worker behind it.

mod agent;
mod archive;
mod enrolment;
mod native;
mod otlp;
mod support;
mod write;
mod write2;
