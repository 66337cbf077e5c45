//! Why an agent stops: only what a person has to put right. A server that is away stops nobody.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why the agent cannot go on.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The address of the collector is none.
    #[error("collector address {url:?}: {problem}; give it as http://HOST:PORT or https://HOST")]
    Url {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The files that TLS with the collector needs.
    #[error("TLS with the collector: {0}")]
    Tls(String),
    /// Neither a credential nor a token to get one with.
    #[error(
        "this machine is not enrolled and there is no join token; make one on the collector and give it with --token"
    )]
    NoToken,
    /// The collector does not take the token.
    #[error(
        "the collector refused the join token (status {status}: {message}); make a new one there and give it with --token"
    )]
    TokenRefused {
        /// The HTTP status of the answer.
        status: u16,
        /// What the collector said.
        message: String,
    },
    /// The collector does not take what the machine tells of itself.
    #[error("the collector refused to enrol this machine (status {status}): {message}")]
    EnrolmentRefused {
        /// The HTTP status of the answer.
        status: u16,
        /// What the collector said.
        message: String,
    },
    /// The collector no longer takes this machine's credential.
    #[error(
        "the collector refused this machine's credential (status {status}: {message}); enrol it again with --token, or approve it there"
    )]
    CredentialRefused {
        /// The HTTP status of the answer.
        status: u16,
        /// What the collector said.
        message: String,
    },
    /// Others may read the credential.
    #[error("{}: mode {mode:o} lets others read the credential; run chmod 600 on it", path.display())]
    StateTooOpen {
        /// The credential's file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The credential's file cannot be read or written.
    #[error("{}: {problem}; make it readable and writable for this user", path.display())]
    State {
        /// The file or its folder.
        path: PathBuf,
        /// What failed.
        problem: io::Error,
    },
    /// The credential's file holds something else.
    #[error("{}: {problem}; remove it and enrol again with --token", path.display())]
    StateDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The disk has no room for the spool, or does not take it.
    #[error(
        "{}: no room for the spool of {mib} MiB: {problem}; free some, or set another size with spool = \"16MiB\" in agent.toml",
        path.display()
    )]
    Spool {
        /// The state folder.
        path: PathBuf,
        /// Its size.
        mib: usize,
        /// What failed.
        problem: io::Error,
    },
    /// Another agent uses the state folder.
    #[error("{problem}; stop the other agent, or give this one a folder of its own with --state")]
    StateInUse {
        /// What the lock says.
        problem: rrd::disk::LockError,
    },
    /// The configuration file cannot be used.
    #[error("{}: {problem}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// A source of the configuration cannot be made.
    #[error("source {name}: {problem}")]
    Source {
        /// Its name.
        name: String,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// The part that reads `/proc` failed.
    #[error("reading this machine failed: {0}; please report this as a fault")]
    Reader(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

impl From<crate::listen::TlsError> for AgentError {
    fn from(error: crate::listen::TlsError) -> Self {
        Self::Tls(error.to_string())
    }
}
