//! What is said to `roundel agent`.

use std::path::PathBuf;

use clap::Args;

use super::label;

#[derive(Debug, Clone, Args)]
pub(crate) struct Agent {
    /// Address of the collector
    #[arg(long, value_name = "http://HOST:PORT", required_unless_present_any = ["once", "config"])]
    pub(crate) collector: Option<String>,
    /// Configuration file (TOML): step, labels, sources, and all that can be said here, which wins
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Join token; needed until this host is enrolled
    #[arg(long, value_name = "T", env = "ROUNDEL_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Folder that keeps this host's identity [default: ./roundel-agent]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Name to ask for [default: the host's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A label of this host; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Authorities of the collector's certificate (PEM), instead of the public ones
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// SHA-256 of the collector's authority or certificate, where there is no file of it
    #[arg(long, value_name = "sha256:HEX", conflicts_with = "ca")]
    pub(crate) ca_hash: Option<collector::agent::Pin>,
    /// Certificate to show to a collector that asks for one (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Time between readings [default: what the collector says, usually 10s]
    #[arg(long, value_name = "DURATION", value_parser = step)]
    pub(crate) step: Option<rrd::Step>,
    /// Where the kernel's files are, for an agent in a container [default: /proc]
    #[arg(long, value_name = "DIR")]
    pub(crate) proc: Option<PathBuf>,
    /// What to tell the collector when it is stopped: terminate, reboot, upgrade or stop
    #[arg(long, value_name = "REASON", default_value = "stop", value_parser = farewell)]
    pub(crate) goodbye: Option<collector::lifecycle::Farewell>,
    /// Read once, print what would be sent, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// What --once does
    #[arg(long, hide = true, requires = "once")]
    pub(crate) print: bool,
}

fn farewell(text: &str) -> Result<collector::lifecycle::Farewell, String> {
    use collector::lifecycle::Farewell;
    Ok(match text {
        "terminate" => Farewell::Terminate,
        "reboot" => Farewell::Reboot,
        "upgrade" => Farewell::Upgrade,
        "stop" => Farewell::Stop,
        _ => return Err("write terminate, reboot, upgrade or stop".to_owned()),
    })
}

fn step(text: &str) -> Result<rrd::Step, String> {
    rrd::time::parse_duration_ms(text)
        .and_then(rrd::Step::from_millis)
        .filter(|step| (1_000..=3_600_000).contains(&step.as_millis()))
        .ok_or_else(|| format!("{text:?} is not a time from 1s to 1h; write it as 10s"))
}
