//! Tests of the intake: requests through the router, over memory, with a small worker behind it.

mod agent;
mod archive;
mod books;
mod enrolment;
mod kinds;
mod native;
mod relabel;
mod support;
mod write;
