//! All that brings a sample in: wire formats, intake, enrolment, the agent.
//!
//! A request is authenticated, limited, decoded and resolved to columns; its frames are appended to
//! the journal; only when they are durable is it answered. Nothing here is applied to the store:
//! that is the worker's part. `agent` is the other end of the line and shares only the formats.

mod address;
mod https;
mod identity;
mod limits;
mod refusals;
mod secret;

pub mod codec;
mod exposition;
mod foreign;
pub mod native;
mod otlp;
mod remote_write;
pub mod scrape;

mod beat;
mod collectd;
mod graphite;
mod influx;
mod zabbix;

pub mod accounting;
pub mod auth;
pub mod intake;
pub mod lifecycle;
pub mod listen;
pub mod registry;

pub mod agent;
pub mod probe;

pub use accounting::Accounting;
pub use address::Network;
pub use auth::Credentials;
pub use foreign::relabel::{Action, Relabel, Rule};
pub use graphite::{TemplateError, Templates};
pub use identity::PublicKey;
pub use identity::clouds::CloudTrust;
pub use intake::{
    Denial, GraphiteSettings, Intake, Look, LookSample, Minted, Parts, Rate, Rates, Stored,
    TokenRequest, ZabbixSettings, router,
};
pub use registry::{FRAME_REGISTRY, Registry};
pub use secret::Digest;
