//! `roundel agent`: this host, reported to a collector elsewhere.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use collector::agent::{self, AgentConfig, Secret, Settings};
use rrd::Clock;

use crate::args;
use crate::clock::SystemClock;
use crate::report;
use crate::serve::told_to_stop;

/// Threads that may block: one reads `/proc`, one syncs the spool, the others are for sources.
const BLOCKING_THREADS: usize = 4;

/// How long such a thread waits for work: longer than the usual step, so that a look starts none.
const KEEP_THREAD: Duration = Duration::from_secs(75);

/// Runs the agent until SIGTERM or Ctrl-C, or looks once.
pub(crate) fn run(arguments: args::Agent) -> Result<()> {
    let (once, config) = (arguments.once, config(arguments)?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    // One thread: an agent waits nearly all the time.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(KEEP_THREAD)
        .build()?;
    runtime.block_on(async {
        if once {
            report::print(&agent::print_once(&config, &*clock).await?);
            return Ok(());
        }
        agent::run(config, clock, told_to_stop()?).await.context("the agent")
    })
}

/// What the configuration file says, and over it what the command line says.
fn config(arguments: args::Agent) -> Result<AgentConfig> {
    let mut settings = match &arguments.config {
        Some(path) => Settings::read(path)?,
        None => Settings::default(),
    };
    settings.collector = arguments.collector.or(settings.collector);
    settings.state = arguments.state.or(settings.state).or(Some("./roundel-agent".into()));
    settings.name = arguments.name.or(settings.name);
    settings.step = arguments.step.or(settings.step);
    settings.proc = arguments.proc.or(settings.proc);
    settings.labels.extend(arguments.labels);
    // Where another service answers for the cloud's, as in a container or a test.
    settings.imds = std::env::var("ROUNDEL_IMDS_ENDPOINT").ok().or(settings.imds);
    if arguments.ca.is_some() || arguments.ca_hash.is_some() {
        (settings.ca, settings.ca_hash) = (arguments.ca, arguments.ca_hash);
    }
    if arguments.cert.is_some() {
        (settings.cert, settings.key) = (arguments.cert, arguments.key);
    }
    let mut config = AgentConfig::to(String::new());
    if let Some(token) = &arguments.token {
        settings.token_file = None;
        config.token = Some(Secret::new(token));
    }
    config.goodbye = arguments.goodbye;
    Ok(config.with(settings)?)
}
