//! Plugins: programs of the operator's, named in `agent.toml` alone, whose answers become series.
//!
//! Nothing that comes over the network chooses what is run, or adds a word to it.

mod account;
mod checks;
mod crew;
mod exec;
mod finding;
mod munin;
mod nagios;
mod perfdata;
mod probes;
mod written;

pub(super) use checks::build as nagios;
pub(super) use munin::build as munin;
pub(super) use probes::build as probe;
