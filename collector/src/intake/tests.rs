//! Tests of the intake: requests through the router, over memory, with a small worker behind it.

mod agent;
mod archive;
mod enrolment;
mod fleet;
mod keys;
mod native;
mod support;
mod write;
