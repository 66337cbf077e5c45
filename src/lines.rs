//! Listeners of senders that speak no HTTP: what the configuration says of them, and their ports.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use collector::registry::TokenId;
use collector::{GraphiteSettings, Intake, Templates, ZabbixSettings};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::info;

/// The listeners that the configuration switches on.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) graphite: Option<Graphite>,
    pub(crate) zabbix: Option<Zabbix>,
}

/// The section `[graphite]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Graphite {
    listen: SocketAddr,
    #[serde(default, deserialize_with = "relay")]
    relay: Option<TokenId>,
    #[serde(default, deserialize_with = "templates")]
    templates: Templates,
}

/// The section `[zabbix]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Zabbix {
    listen: SocketAddr,
    #[serde(default, deserialize_with = "relay")]
    relay: Option<TokenId>,
}

/// The listeners with their ports.
pub(crate) struct Bound {
    graphite: Option<(TcpListener, GraphiteSettings)>,
    zabbix: Option<(TcpListener, ZabbixSettings)>,
}

impl Lines {
    /// Errors on an address that other machines reach, unless the operator said so: these senders show
    /// no credential.
    pub(crate) fn check(&self, insecure: bool) -> Result<()> {
        let graphite = self.graphite.as_ref().map(|one| ("graphite", one.listen));
        let zabbix = self.zabbix.as_ref().map(|one| ("zabbix", one.listen));
        for (section, listen) in graphite.into_iter().chain(zabbix) {
            if !listen.ip().is_loopback() && !insecure {
                bail!(
                    "[{section}] {listen} is reached by other machines and its senders show no credential: \
                     listen on 127.0.0.1, or say --insecure in a network where all may send"
                );
            }
        }
        Ok(())
    }

    /// Takes the ports.
    pub(crate) fn bind(&self) -> Result<Bound> {
        let graphite = self.graphite.as_ref().map(|one| {
            let settings = GraphiteSettings { relay: one.relay, templates: one.templates.clone() };
            Ok::<_, anyhow::Error>((bind("graphite", one.listen)?, settings))
        });
        let zabbix = self.zabbix.as_ref().map(|one| {
            Ok::<_, anyhow::Error>((
                bind("zabbix", one.listen)?,
                ZabbixSettings { relay: one.relay },
            ))
        });
        Ok(Bound { graphite: graphite.transpose()?, zabbix: zabbix.transpose()? })
    }
}

impl Bound {
    /// Starts to listen, until what `ended` gives ends.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(
        self,
        intake: &Intake,
        tasks: &mut JoinSet<()>,
        ended: impl Fn() -> F,
    ) {
        if let Some((listener, settings)) = self.graphite {
            tasks.spawn(intake.clone().graphite(listener, settings, ended()));
        }
        if let Some((listener, settings)) = self.zabbix {
            tasks.spawn(intake.clone().zabbix(listener, settings, ended()));
        }
    }
}

fn bind(section: &str, address: SocketAddr) -> Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address).with_context(|| {
        format!("cannot listen on {address}; free the port or choose another in [{section}]")
    })?;
    listener.set_nonblocking(true)?;
    info!(section, address = %listener.local_addr()?, "listening");
    Ok(TcpListener::from_std(listener)?)
}

fn relay<'de, D: Deserializer<'de>>(value: D) -> Result<Option<TokenId>, D::Error> {
    let text = String::deserialize(value)?;
    let id = text.parse().map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is not the id of a relay token: 16 hexadecimal digits, as GET /v1/tokens lists them"
        ))
    })?;
    Ok(Some(id))
}

fn templates<'de, D: Deserializer<'de>>(value: D) -> Result<Templates, D::Error> {
    let texts = Vec::<String>::deserialize(value)?;
    Templates::parse(&texts).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_others_reach_wants_a_word_of_the_operator() {
        let zabbix = |listen: &str| {
            let text = format!("listen = {listen:?}");
            Lines { zabbix: Some(toml::from_str(&text).unwrap()), graphite: None }
        };
        assert!(zabbix("127.0.0.1:0").check(false).is_ok());
        let error = zabbix("0.0.0.0:0").check(false).unwrap_err().to_string();
        assert!(error.contains("[zabbix] 0.0.0.0:0"), "{error}");
        assert!(zabbix("0.0.0.0:0").check(true).is_ok());
    }

    #[test]
    fn a_section_says_what_is_wrong_with_it() {
        let listen = "listen = \"127.0.0.1:0\"\n";
        for (more, expected) in [
            ("relay = \"x\"", "16 hexadecimal digits"),
            ("templates = [\"host.cpu\"]", "no part `measurement`"),
            ("port = 7", "unknown field"),
        ] {
            let error = toml::from_str::<Graphite>(&format!("{listen}{more}")).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let whole =
            format!("{listen}relay = \"00000000000000ff\"\ntemplates = [\"host.measurement\"]");
        assert_eq!(toml::from_str::<Graphite>(&whole).unwrap().relay, Some(TokenId(255)));
    }
}
