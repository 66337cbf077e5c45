//! The way samples came: under whose token, by which protocol.

use crate::foreign::{Origin, Protocol};
use crate::registry::TokenId;

/// A token and a protocol. An instance of our own agent stands under the token it enrolled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Way {
    /// The token; `None` is the operator's.
    pub token: Option<TokenId>,
    /// The protocol, as a word.
    pub protocol: &'static str,
}

/// The protocol of our own agents.
const NATIVE: &str = "native";

impl From<Origin> for Way {
    fn from(Origin { relay, protocol }: Origin) -> Self {
        let protocol = match protocol {
            Protocol::RemoteWrite => "remote_write",
            Protocol::RemoteWrite2 => "remote_write_2",
            Protocol::Otlp => "otlp",
            Protocol::Influx => "influx",
            Protocol::Graphite => "graphite",
            Protocol::Collectd => "collectd",
            Protocol::Zabbix => "zabbix",
            Protocol::Pushgateway => "pushgateway",
            Protocol::Scrape => "scrape",
            Protocol::Local => "probe",
            Protocol::Beat => "beat",
        };
        Self { token: relay, protocol }
    }
}

impl Way {
    /// Where ways beyond the limit are counted together.
    pub(super) const REST: Self = Self { token: None, protocol: "rest" };

    /// The way of an agent that enrolled with `token`.
    pub(crate) const fn native(token: Option<TokenId>) -> Self {
        Self { token, protocol: NATIVE }
    }
}
