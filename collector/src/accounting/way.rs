//! The way samples came: under whose token, by which protocol.

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

/// Words of the senders' protocols, by their number.
const PROTOCOLS: [&str; 10] = [
    "remote_write",
    "remote_write_2",
    "otlp",
    "influx",
    "graphite",
    "collectd",
    "zabbix",
    "pushgateway",
    "scrape",
    "probe",
];

impl Way {
    /// Where ways beyond the limit are counted together.
    pub(super) const REST: Self = Self { token: None, protocol: "rest" };

    /// The way of an agent that enrolled with `token`.
    pub(crate) const fn native(token: Option<TokenId>) -> Self {
        Self { token, protocol: NATIVE }
    }

    /// The way of a sender of another make; `number` is that of its protocol.
    pub(crate) fn foreign(token: Option<TokenId>, number: u8) -> Self {
        let word = PROTOCOLS.get(usize::from(number)).copied();
        Self { token, protocol: word.unwrap_or("other") }
    }
}
