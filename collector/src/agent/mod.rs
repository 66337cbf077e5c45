//! The agent: reads this machine and sends what it found to a collector, losing nothing on the way.
//!
//! `proc` and the sources read, `session` decides, `client` sends, `run` waits: only `run` knows the time.

mod reading;
mod source;
mod sources;

mod exporters;
mod textfile;

mod facts;
mod identity;
mod plugins;
mod proc;
mod statsd;

mod backoff;
mod clock;
mod descriptors;
mod dictionary;
mod session;
mod spool;

mod client;
mod config;
mod credential;
mod enrolment;
mod error;
mod key;
mod operator;
mod run;
mod secret;
mod settings;
mod text;
mod trust;

#[cfg(test)]
mod tests;

pub use config::AgentConfig;
pub use error::AgentError;
pub use facts::machine_facts;
pub use operator::Operator;
pub use run::{print_once, run};
pub use secret::Secret;
pub use settings::Settings;
pub use trust::{Pin, PinError, Trust};
