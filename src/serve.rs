//! The server: parts are opened, joined and started, and stopped in the opposite order.

mod ends;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alerter::Channels;
use alerter::notify::{self, Notifier};
use anyhow::{Context as _, Result};
use collector::agent::{self, AgentConfig};
use collector::listen::{Tls, TlsFiles};
use collector::registry::TokenKind;
use collector::scrape::{self, Scraper};
use collector::{Credentials, Digest, Intake, Parts, TokenRequest};
use journal::Journal;
use rrd::disk::{OsDisk, lock_dir};
use rrd::{Clock, Disk, Policy, Step};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use web::{Sessions, Web};

pub(crate) use ends::told_to_stop;

use crate::clock::SystemClock;
use crate::config::{Config, TlsSection};
use crate::descriptors_folder::DescriptorsFolder;
use crate::disk_limit;
use crate::operate::hold::Hold;
use crate::operate::refuse_unfinished;
use crate::recovery::{Folders, Recovered, recover};
use crate::report::Welcome;
use crate::rules_folder::{LOOK_EVERY, RulesFolder};
use crate::scrub::{Scrub, ScrubThread, Scrubbed};
use crate::views::{Alerts, Enrolment, Fleet, Health, Pulse};
use crate::worker::{State, Worker};
use ends::{WorkerThread, end, ended};

/// What our own agents keep in front of the policy, so that a first graph fills in half a minute and
/// rules judge every ten seconds.
const AGENT_FRONT: &str = "10s:2h";
/// How often our own agents look.
const AGENT_STEP: Step = match Step::from_secs(10) {
    Some(step) => step,
    None => panic!("ten seconds are a step"),
};
/// Three looks: an agent that misses them is silent.
const AGENT_HEARTBEAT: &str = "30s";

/// Runs the server until SIGTERM or Ctrl-C.
pub(crate) fn run(config: Config) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let folders = Folders { data: config.data.clone() };
    disk.create_dir(&config.data).with_context(|| config.data.display().to_string())?;
    let _lock = lock_dir(&config.data)?;
    refuse_unfinished(&config.data)?;
    let listener = bind(config.listen)?;
    let address = listener.local_addr()?;
    let tls = config.tls.as_ref().map(open_tls).transpose()?;
    let base_url = config.base_url.clone().unwrap_or_else(|| format!("http://{address}"));
    let mail_folder = folders.at("mail");
    let channels = config
        .notify
        .channels(Some(&base_url), &mail_folder)
        .map_err(|reason| anyhow::anyhow!("the channels of alerts: {reason}"))?;
    let hold = Hold::open(&config.data)?;
    let mut recovered = recover(&config, &folders, &disk, &clock, channels.names())?;
    recovered.rounds = recovered.rounds.held_by(hold);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = Server { config, folders, clock, channels, address, base_url, mail_folder, tls };
    runtime.block_on(server.serve(listener, recovered))
}

/// Takes the port before anything is opened, so that a port in use is told at once.
fn bind(address: SocketAddr) -> Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; free the port or choose another with --listen")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Takes the port of TLS, with the files as they are.
fn open_tls(section: &TlsSection) -> Result<(std::net::TcpListener, Arc<Tls>)> {
    let files = TlsFiles {
        certificate: section.cert.clone(),
        key: section.key.clone(),
        client_authority: section.client_ca.clone(),
    };
    let tls = Tls::open(files).context("[tls] of the configuration")?;
    Ok((bind(section.listen)?, Arc::new(tls)))
}

/// All that the running server is made of beside the recovered parts.
struct Server {
    config: Config,
    folders: Folders,
    clock: Arc<dyn Clock>,
    channels: Channels,
    address: SocketAddr,
    base_url: String,
    mail_folder: PathBuf,
    tls: Option<(std::net::TcpListener, Arc<Tls>)>,
}

impl Server {
    async fn serve(mut self, listener: std::net::TcpListener, recovered: Recovered) -> Result<()> {
        let Recovered { state, journal, rounds, applied, .. } = recovered;
        let (stop, stopped) = watch::channel(false);
        let disk_limit = self.disk_limit(state.store.all_archive_bytes())?;
        let intake = self.intake(&state, &journal, disk_limit)?;
        let pulse = Arc::new(Pulse::default());
        let halt = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            state: state.clone(),
            journal: journal.clone(),
            rounds,
            clock: Arc::clone(&self.clock),
            intake: intake.clone(),
            pulse: Arc::clone(&pulse),
            stop: Arc::clone(&halt),
            applied,
        };
        let mut worker = WorkerThread::start(worker, halt)?;
        let scrubbed = Arc::<Scrubbed>::default();
        let scrub = ScrubThread::start(Scrub {
            store: Arc::clone(&state.store),
            clock: Arc::clone(&self.clock),
            most_bytes_per_s: self.config.scrub_bytes,
            scrubbed: Arc::clone(&scrubbed),
        })?;

        let engine = Arc::clone(&state.engine);
        let mut rules = RulesFolder::open(&self.folders.at("rules"), engine, journal.clone())?;
        rules.look();
        let folder = self.folders.at("descriptors");
        let mut descriptors = DescriptorsFolder::open(&folder, intake.descriptors());
        descriptors.look();
        let sessions = Arc::new(Sessions::new(false, self.address.port()));
        let login = sessions.issue_token(self.clock.monotonic())?;
        let health = Health {
            journal: journal.clone(),
            store: Arc::clone(&state.store),
            accounting: Arc::clone(&state.accounting),
            registry: Arc::clone(&state.registry),
            started_at: self.clock.wall(),
            clock: Arc::clone(&self.clock),
            pulse: Arc::clone(&pulse),
            scrubbed,
            disk_limit,
            tls: self.tls.as_ref().map(|(_, tls)| Arc::clone(tls)),
        };
        let web = self.web(&state, &intake, health, sessions);
        let lines = self.config.lines.bind()?;
        let router = collector::router(intake.clone()).merge(web::router(web));
        let listener = TcpListener::from_std(listener)?;

        let mut tasks = JoinSet::new();
        if let Some((listener, tls)) = self.tls.take() {
            let (listener, router) = (TcpListener::from_std(listener)?, router.clone());
            info!(address = %listener.local_addr()?, "listening with TLS");
            let files = collector::listen::watch_files(Arc::clone(&tls), ended(stopped.clone()));
            tasks.spawn(files);
            let own = (intake.clone(), Arc::clone(&tls));
            let clock = Arc::clone(&self.clock);
            tasks.spawn(crate::own_series::run(own, clock, ended(stopped.clone())));
            let shutdown = ended(stopped.clone());
            tasks.spawn(collector::listen::run_tls(listener, router, tls, shutdown));
        }
        tasks.spawn(collector::listen::run(listener, router, ended(stopped.clone())));
        tasks.spawn(intake.clone().beats(ended(stopped.clone())));
        tasks.spawn(intake.clone().watch_over(ended(stopped.clone())));
        lines.spawn(&intake, &mut tasks, || ended(stopped.clone()));
        tasks.spawn(notify::run(self.notifier(&state, &journal), ended(stopped.clone())));
        tasks.spawn(watch_rules((rules, descriptors), ended(stopped.clone())));
        tasks.spawn(collector::probe::run(
            self.folders.at("probes.toml"),
            intake.clone(),
            Arc::clone(&self.clock),
            ended(stopped.clone()),
        ));
        tasks.spawn(scrape::run(self.scraper(&intake), ended(stopped.clone())));
        tasks.spawn(intake.clone().repeat_pushed(ended(stopped.clone())));
        if self.config.local_agent {
            self.start_agent(&intake, &mut tasks, stopped).await?;
        }
        pulse.ready.store(true, Ordering::Release);
        let told = told_to_stop()?;
        self.welcome(&login);

        tokio::select! {
            () = told => info!("stopping"),
            () = worker.ended() => {
                error!("the worker has ended; nothing is taken any more");
                journal.close();
            }
        }
        stop.send_replace(true);
        end(tasks).await;
        scrub.end();
        worker.end().await?;
        journal.close();
        Ok(())
    }

    fn intake(&self, state: &State, journal: &Journal, disk_limit: u64) -> Result<Intake> {
        let admin = self.config.admin_token.as_deref().map(Digest::of);
        let intake = Intake::new(Parts {
            store: Arc::clone(&state.store),
            journal: journal.clone(),
            registry: Arc::clone(&state.registry),
            accounting: Arc::clone(&state.accounting),
            clock: Arc::clone(&self.clock),
            credentials: Credentials::new(admin),
            agent_policy: agent_policy(&self.config.policy)?,
            foreign_policy: self.config.policy.clone(),
            agent_step: AGENT_STEP,
        });
        let intake = intake
            .map_err(|reason| anyhow::anyhow!("this system gives no randomness: {reason}"))?;
        intake.limit_disk(disk_limit);
        intake.limit_rates(self.config.rates);
        let refused =
            |what: &'static str| move |why| anyhow::anyhow!("the configuration: {what}: {why}");
        intake.relabel(self.config.relabel.clone()).map_err(refused("[relabel]"))?;
        intake.trust_clouds(self.config.cloud.clone()).map_err(refused("[cloud]"))?;
        intake.know_kinds(&self.config.kinds).map_err(refused("[[kind]]"))?;
        intake.keep_pushed(self.folders.at("pushed")).context("the folder of pushed groups")?;
        Ok(intake)
    }

    fn disk_limit(&self, archive_bytes: u64) -> Result<u64> {
        let first = || disk_limit::effective(&OsDisk, &self.folders.data, archive_bytes);
        self.config.disk_limit.map_or_else(first, Ok)
    }

    fn web(&self, state: &State, intake: &Intake, health: Health, sessions: Arc<Sessions>) -> Web {
        let registry = Arc::clone(&state.registry);
        let clock = Arc::clone(&self.clock);
        let store = Arc::clone(&state.store);
        Web {
            read: Arc::clone(&state.store) as Arc<dyn query::Read>,
            fleet: Arc::new(Fleet {
                registry: Arc::clone(&registry),
                store: Arc::clone(&store),
                clock: Arc::clone(&clock),
            }),
            alerts: Arc::new(Alerts {
                engine: Arc::clone(&state.engine),
                registry: Arc::clone(&registry),
                targets: self.config.notify.targets(&self.mail_folder),
            }),
            enrolment: Arc::new(Enrolment {
                intake: intake.clone(),
                registry,
                clock: Arc::clone(&clock),
            }),
            health: Arc::new(health),
            sessions,
            admin_token: self.config.admin_token.as_deref().map(Arc::from),
            public_url: Arc::from(self.base_url.as_str()),
            zone: jiff::tz::TimeZone::system(),
            clock,
        }
    }

    fn notifier(&self, state: &State, journal: &Journal) -> Notifier<Journal> {
        Notifier {
            engine: Arc::clone(&state.engine),
            ledger: Arc::new(journal.clone()),
            channels: self.channels.clone(),
            clock: Arc::clone(&self.clock),
            jitter: notify::random_jitter,
        }
    }

    /// Scrapes what the files of the folder `targets` list.
    fn scraper(&self, intake: &Intake) -> Scraper {
        let folder = self.folders.at("targets");
        Scraper { intake: intake.clone(), clock: Arc::clone(&self.clock), folder }
    }

    /// Starts an agent for this very host; it comes in by the same door as any other.
    async fn start_agent(
        &self,
        intake: &Intake,
        tasks: &mut JoinSet<()>,
        stopped: watch::Receiver<bool>,
    ) -> Result<()> {
        let request = TokenRequest {
            name: "this host".to_owned(),
            ttl_secs: Some(LOCAL_TOKEN_SECS),
            uses: Some(1),
            ..TokenRequest::of(TokenKind::Join)
        };
        let mut config = AgentConfig::to(format!("http://{}", self.address));
        config.state_dir = Some(self.folders.at("agent"));
        if !self.folders.at("agent").join("agent.json").exists() {
            let minted = intake.mint(request).await;
            let minted = minted.map_err(|denial| anyhow::anyhow!("the local agent: {denial}"))?;
            config.token = Some(agent::Secret::new(&minted.token));
        }
        let clock = Arc::clone(&self.clock);
        tasks.spawn(async move {
            if let Err(error) = agent::run(config, clock, ended(stopped)).await {
                warn!(%error, "the agent of this host ended");
            }
        });
        Ok(())
    }

    fn welcome(&self, login: &str) {
        let link = format!("http://{}/login?token={login}", self.address);
        Welcome {
            link: &link,
            data: &self.config.data,
            mail: self.config.notify.is_mail_to_files().then_some(self.mail_folder.as_path()),
            local_agent: self.config.local_agent,
        }
        .print();
    }
}

/// How long the local agent's join token lasts: it is used within a second.
const LOCAL_TOKEN_SECS: u64 = 600;

/// The policy of instances with an agent of ours: fine rows in front, and the heartbeat of three
/// looks, unless the policy says otherwise.
fn agent_policy(policy: &Policy) -> Result<Policy> {
    let policy = if policy.step() <= AGENT_STEP {
        policy.clone()
    } else {
        policy.with_front(AGENT_FRONT)?
    };
    if policy.heartbeat_ms().is_some() {
        return Ok(policy);
    }
    Ok(Policy::parse(&format!("{policy};hb={AGENT_HEARTBEAT}"))?)
}

/// Looks at the rules and descriptors until the server stops. The files are small and local.
async fn watch_rules(
    (mut rules, mut descriptors): (RulesFolder, DescriptorsFolder),
    shutdown: impl Future<Output = ()>,
) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = tick.tick() => tokio::task::block_in_place(|| {
                rules.look();
                descriptors.look();
            }),
        }
    }
}

#[cfg(test)]
mod tests;
