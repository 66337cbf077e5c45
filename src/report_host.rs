//! `roundel agent`: this host, reported to a collector elsewhere.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use collector::agent::{self, AgentConfig, Secret};
use rrd::Clock;

use crate::args;
use crate::clock::SystemClock;
use crate::report;
use crate::serve::told_to_stop;

/// Runs the agent until SIGTERM or Ctrl-C, or looks once.
pub(crate) fn run(arguments: args::Agent) -> Result<()> {
    let mut config = AgentConfig::to(arguments.collector.unwrap_or_default());
    config.token = arguments.token.as_deref().map(Secret::new);
    config.state_dir = Some(arguments.state);
    config.name = arguments.name;
    config.labels = arguments.labels.into_iter().collect();
    config.step = arguments.step;
    config.proc_root = arguments.proc;
    config.goodbye = arguments.goodbye;
    if arguments.once {
        report::print(&agent::print_once(&config));
        return Ok(());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    // One thread: an agent waits nearly all the time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async { agent::run(config, clock, told_to_stop()?).await.context("the agent") })
}
