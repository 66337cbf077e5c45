//! The agent: reads this machine and sends what it found to a collector, losing nothing on the way.
//!
//! `proc` reads, `session` decides, `client` sends, `run` waits: only `run` knows the time.

mod reading;

mod facts;
mod proc;

mod backoff;
mod dictionary;
mod session;
mod spool;

mod client;
mod credential;
mod enrolment;
mod error;
mod key;
mod operator;
mod run;
mod secret;
mod text;

#[cfg(test)]
mod tests;

pub use error::AgentError;
pub use facts::machine_facts;
pub use operator::Operator;
pub use run::{AgentConfig, print_once, run};
pub use secret::Secret;
